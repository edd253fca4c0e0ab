//! What a process executed is known from the kernel's records, whatever its link shows.

mod harness;

use std::{
    ffi::OsStr,
    fs,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    process::Command,
    ptr,
    sync::Arc,
};

use harness::{Puppet, as_root, copy_of_puppet, inside, open_directory, puppet};
use peer::{Execution, Executions, Image, Peer};

#[test]
fn a_program_that_was_executed_while_somebody_looked_is_seen() {
    if !as_root("a_program_that_was_executed_while_somebody_looked_is_seen") {
        return;
    }
    let directory = open_directory();
    let other = copy_of_puppet(&directory.path().join("other"));
    each_judged(|executions| {
        let mut direct = Puppet::start();
        let first = judge(executions, &direct);
        direct.exec(&other);
        let second = judge(executions, &direct);
        vec![first, second]
    });
}

#[test]
fn the_interpreter_of_a_script_is_what_was_executed() {
    if !as_root("the_interpreter_of_a_script_is_what_was_executed") {
        return;
    }
    let directory = open_directory();
    let script = directory.path().join("script");
    // Not by this process, whose children would inherit the file while it is written.
    let write = format!("printf '#!{}\\n' > {}", puppet().display(), script.display());
    assert!(Command::new("sh").args(["-c", &write]).status().expect("sh starts").success());
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    each_judged(|executions| vec![judge(executions, &Puppet::run(&mut Command::new(&script)))]);
}

#[test]
fn a_thread_that_executes_does_so_for_its_process() {
    if !as_root("a_thread_that_executes_does_so_for_its_process") {
        return;
    }
    let directory = open_directory();
    let other = copy_of_puppet(&directory.path().join("other"));
    each_judged(|executions| {
        let mut headless = Puppet::run(Command::new(puppet()).arg("without-leader"));
        headless.exec(&other);
        vec![judge(executions, &headless)]
    });
}

#[test]
fn a_program_that_was_opened_and_could_not_be_executed_was_not_executed() {
    if !as_root("a_program_that_was_opened_and_could_not_be_executed_was_not_executed") {
        return;
    }
    each_judged(|executions| {
        let mut tries = Puppet::start();
        tries.order("fail-to-exec /bin/true");
        vec![judge(executions, &tries)]
    });
}

#[test]
fn of_a_process_that_was_there_before_nothing_is_known() {
    if !as_root("of_a_process_that_was_there_before_nothing_is_known") {
        return;
    }
    let mut early = Puppet::start();
    let executions = Executions::open().expect("root has the records");
    assert_eq!(judge(&executions, &early), Execution::NotSeen);
    let directory = open_directory();
    early.exec(&copy_of_puppet(&directory.path().join("other")));
    assert_ne!(judge(&executions, &early), Execution::Another);
}

#[test]
fn without_rights_it_says_what_is_missing() {
    const NAME: &str = "without_rights_it_says_what_is_missing";
    let below = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
    if !as_root(NAME) || !inside(NAME, &below) {
        return;
    }
    let refused = Executions::open().map(drop);
    assert!(refused.as_ref().is_err_and(|why| why.contains("CAP_PERFMON")), "{refused:?}");
}

/// A program with nothing to be mapped, and with an executable stack on which its code lies: that maps the
/// good program, and would be taken for it if it could say so first.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_that_lies_on_its_stack_is_not_taken_for_what_it_maps() {
    if !as_root("a_program_that_lies_on_its_stack_is_not_taken_for_what_it_maps") {
        return;
    }
    let directory = open_directory();
    let good = copy_of_puppet(&directory.path().join("good"));
    let crafted = directory.path().join("crafted");
    let bytes = on_its_stack().iter().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let write = format!("printf '{bytes}' > {0} && chmod 755 {0}", crafted.display());
    assert!(Command::new("sh").args(["-c", &write]).status().expect("sh starts").success());
    let executions = Executions::open().expect("root has the records");
    // setarch -R: the stack lies where it always does.
    let mut command = Command::new("setarch");
    command.arg("-R").arg(&crafted).env_clear().env("A", OsStr::from_bytes(&code_after_much_of_nothing()));
    let mut running = command.stdin(fs::File::open(&good).expect("ours")).spawn().expect("it starts");
    let maps = format!("/proc/{}/maps", running.id());
    let has_mapped = || fs::read_to_string(&maps).is_ok_and(|maps| maps.contains("good"));
    while !has_mapped() && running.try_wait().expect("ours").is_none() {
        std::thread::yield_now();
    }
    assert!(has_mapped(), "its code ran");
    let peer = Peer::open(running.id()).expect("held");
    let file_system = rustix::fs::statfs(&good).expect("it lies somewhere").f_type as u64;
    let judged = executions.of(&peer, Image::at_path(&good).expect("ours"), file_system);
    running.kill().expect("ours");
    running.wait().expect("ours");
    assert_eq!(judged, Execution::Unclear);
}

/// Whoever maps files without end makes records be lost. What was executed meanwhile is unclear, and what was
/// executed before stays known.
#[test]
fn what_was_executed_while_records_were_lost_is_unclear_and_the_rest_stays_known() {
    if !as_root("what_was_executed_while_records_were_lost_is_unclear_and_the_rest_stays_known") {
        return;
    }
    let executions = Executions::read_when_asked(SMALL).expect("root has the records");
    // Nobody reads meanwhile, so on a busy machine more is lost than what is made to be lost here.
    let is_told_apart = || {
        let before = seen(&executions);
        let meanwhile = Puppet::start();
        map_much();
        assert_eq!(judge(&executions, &meanwhile), Execution::Unclear);
        judge(&executions, &before) == Execution::Seen
    };
    assert!((0..ATTEMPTS).any(|_| is_told_apart()), "who executed nothing meanwhile stays known");
    assert!(executions.lost() > 0 && executions.unclear() > 0);
    let _ = seen(&executions); // what is executed later is known again
}

/// Whoever maps files without end is out-run by the thread that reads, or else it costs only those who execute
/// something meanwhile.
#[test]
fn a_flood_of_maps_makes_nobody_pass_for_another() {
    if !as_root("a_flood_of_maps_makes_nobody_pass_for_another") {
        return;
    }
    let executions = Executions::open().expect("root has the records");
    let before = seen(&executions);
    let floods = [(); 2].map(|()| std::thread::spawn(map_much));
    while floods.iter().any(|flood| !flood.is_finished()) {
        let meanwhile = judge(&executions, &Puppet::start());
        assert!([Execution::Seen, Execution::Unclear].contains(&meanwhile), "{meanwhile:?}");
    }
    assert_eq!(judge(&executions, &before), Execution::Seen);
}

/// A process that was seen executing its program; other tests may make records be lost.
fn seen(executions: &Executions) -> Puppet {
    let is_seen = |puppet: &Puppet| judge(executions, puppet) == Execution::Seen;
    (0..ATTEMPTS).map(|_| Puppet::start()).find(is_seen).expect("a process is seen at last")
}

fn map_much() {
    let file = fs::File::open("/proc/self/exe").expect("it runs");
    let access = libc::PROT_READ | libc::PROT_EXEC;
    for _ in 0..50_000 {
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody uses before it is gone.
        #[expect(unsafe_code, reason = "this is what the attack is")]
        unsafe {
            let map = libc::mmap(ptr::null_mut(), 4096, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0);
            assert!(map != libc::MAP_FAILED && libc::munmap(map, 4096) == 0);
        }
    }
}

/// An ELF file of one part that is not to be executed, and of the wish for an executable stack.
#[cfg(target_arch = "x86_64")]
fn on_its_stack() -> Vec<u8> {
    const LOAD: u32 = 1;
    const STACK: u32 = 0x6474_e551;
    let (readable, everything, size) = (4, 7, 176_u64);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([TOP_OF_STACK - NOTHING as u64 / 2, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    for (kind, may, address, size) in [(LOAD, readable, 0x40_0000, size), (STACK, everything, 0, 0)] {
        file.extend([kind, may].map(u32::to_le_bytes).concat());
        file.extend([0, address, address, size, size, 4096].map(u64::to_le_bytes).concat());
    }
    file
}

/// Code that does nothing for a long while, then maps standard input for execution, and waits.
#[cfg(target_arch = "x86_64")]
fn code_after_much_of_nothing() -> Vec<u8> {
    let mut code = vec![0x90; NOTHING];
    code.extend(b"\x31\xff\x45\x31\xc0\x45\x31\xc9"); // mmap(at = 0, …, file 0, offset 0)
    code.extend(b"\x6a\x01\x5e\xc1\xe6\x0c\x6a\x05\x5a\x6a\x02\x41\x5a"); // 4096, READ | EXEC, PRIVATE
    code.extend(b"\x6a\x09\x58\x0f\x05");
    code.extend(b"\x6a\x22\x58\x0f\x05\xeb\xf9"); // pause(), again and again
    code
}

#[cfg(target_arch = "x86_64")]
const TOP_OF_STACK: u64 = 0x7fff_ffff_f000;
#[cfg(target_arch = "x86_64")]
const NOTHING: usize = 60_000;
const SMALL: usize = 256 << 10;

fn judge(executions: &Executions, puppet: &Puppet) -> Execution {
    let peer = Peer::open(puppet.pid()).expect("held");
    let file = peer.open_exe().expect("it runs something");
    let file_system = rustix::fs::fstatfs(file).expect("it lies somewhere").f_type as u64;
    executions.of(&peer, peer.image(), file_system)
}

/// All of what `judged` looks at was seen. On a machine that is so busy that records are lost, less is known
/// and nothing is told wrongly; then it is tried again.
fn each_judged(judged: impl Fn(&Arc<Executions>) -> Vec<Execution>) {
    let executions = Executions::open().expect("root has the records");
    for _ in 0..ATTEMPTS {
        let before = executions.lost();
        let all = judged(&executions);
        assert!(!all.contains(&Execution::Another), "{all:?}");
        if executions.lost() == before {
            assert!(all.iter().all(|one| *one == Execution::Seen), "{all:?}");
            return;
        }
    }
    panic!("the kernel's records were lost {ATTEMPTS} times");
}

const ATTEMPTS: usize = 100;
