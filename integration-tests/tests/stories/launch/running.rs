//! How a launched command runs: exit codes, signals, terminal, cgroups, restarts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration_tests::{Answer, Folder, Running, eventually, needs, writ_binary};
use nix::sys::signal::Signal;

use super::{Place, USER, give};
use crate::SOON;

/// Where the agent finds cgroups of version 2.
fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup2 is mounted");
    mount.split(' ').nth(4).expect("a mount has a place").into()
}

/// The directory of the cgroup that this process is in.
fn cgroup_of(pid: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).expect("version 2").to_owned();
    cgroups().join(path)
}

#[test]
fn the_exit_code_the_directory_and_the_descriptors_are_the_commands_own() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    place.write("code.sh", "pwd; id -u; id -g; umask; ulimit -n; cat; echo said >&2; exit 42\n");
    let mut command = Command::new("sh");
    // What the caller lives under holds for the command too.
    let line = format!("umask 027; ulimit -n 321; echo from input | {:?} run -- sh code.sh", writ_binary());
    command.args(["-c", &line]).current_dir(place.app());
    std::os::unix::process::CommandExt::uid(&mut command, USER);
    std::os::unix::process::CommandExt::gid(&mut command, USER);
    command.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", place.writ.workload_socket().display()));
    let answer = Answer::of(&mut command);
    assert_eq!(answer.code, 42, "{answer:?}");
    let app = place.app().display().to_string();
    let uid = USER.to_string();
    let lines: Vec<_> = answer.out.lines().collect();
    assert_eq!(lines, [app.as_str(), &uid, &uid, "0027", "321", "from input"]);
    assert!(answer.err.contains("said"), "{answer:?}");
    eventually("nothing is left behind", SOON, || {
        let left = fs::read_dir(place.writ.data().join("launch")).expect("there").count();
        (left == 0).then_some(())
    });
}

#[test]
fn signals_reach_the_command_and_its_end_by_one_is_told() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    place.write(
        "trap.sh",
        "trap 'echo usr1' USR1\ntrap 'echo term; exit 9' TERM\necho ready\nwhile :; do sleep 0.1; done\n",
    );
    let mut run = Running::start(&mut place.command(&["--", "sh", "trap.sh"]), "run", place.folder.path());
    assert_eq!(run.line(SOON), "ready");
    run.signal(Signal::SIGUSR1);
    assert_eq!(run.line(SOON), "usr1");
    run.signal(Signal::SIGTERM);
    assert_eq!(run.line(SOON), "term");
    assert_eq!(run.ended(SOON).code(), Some(9));

    place.write("wait.sh", "echo $$\nwhile :; do sleep 0.1; done\n");
    let mut run = Running::start(&mut place.command(&["--", "sh", "wait.sh"]), "run", place.folder.path());
    let _ = run.line(SOON);
    run.signal(Signal::SIGINT);
    assert_eq!(run.ended(SOON).code(), Some(130));

    // Without the one that could tell it to end, it ends.
    let mut run = Running::start(&mut place.command(&["--", "sh", "wait.sh"]), "run", place.folder.path());
    let pid = run.line(SOON);
    run.signal(Signal::SIGKILL);
    run.ended(SOON);
    eventually("the command is gone", SOON, || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

#[test]
fn a_command_at_a_terminal_has_one_of_its_own_and_is_interrupted_by_its_key() {
    if !needs::root() || !needs::program("script", "bsdutils") {
        return;
    }
    let place = Place::up();
    place.write(
        "ask.sh",
        "trap 'echo interrupted; exit 5' INT\ntty\necho ready\nwhile :; do sleep 0.1; done\n",
    );
    let socket = place.writ.workload_socket();
    let line = format!(
        "setpriv --reuid {USER} --regid {USER} --clear-groups {} run --socket {} -- sh ask.sh; echo code $?",
        writ_binary().display(),
        socket.display()
    );
    let mut command = Command::new("script");
    command.args(["-qfc", &line, "/dev/null"]).current_dir(place.app());
    let mut terminal = Running::start(&mut command, "terminal", place.folder.path());
    let mut said = Vec::new();
    let mut until = |terminal: &Running, word: &str| {
        while said.last().is_none_or(|line: &String| !line.contains(word)) {
            said.push(terminal.line(SOON));
        }
    };
    until(&terminal, "ready");
    // What Ctrl-C sends.
    terminal.say("\x03");
    until(&terminal, "interrupted");
    until(&terminal, "code 5");
    assert!(said.iter().any(|line| line.starts_with("/dev/pts/")), "{said:?}");
}

#[test]
fn children_and_cgroups_below_belong_to_the_launch_and_who_leaves_it_does_not() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    let asks = place.asks();
    place.write("loop.sh", &format!("echo $$\nwhile read word; do {asks}; done\n"));
    let program = ["sh", "loop.sh"];
    place.register("/loop", &program);
    let mut run = Running::start(place.command(&["--"]).args(program), "run", place.folder.path());
    let pid = run.line(SOON);
    let id = place.writ.id("/loop");
    let ask = |run: &mut Running, is: bool| {
        run.say("who");
        let line = run.line(SOON);
        assert_eq!(line.contains(&id), is, "{line}");
        assert_eq!(line.contains("PermissionDenied"), !is, "{line}");
    };
    ask(&mut run, true);
    let own = cgroup_of(&pid);
    let below = own.join("below");
    fs::create_dir(&below).expect("root may");
    fs::write(below.join("cgroup.procs"), &pid).expect("root may");
    ask(&mut run, true);
    let outside = own.parent().expect("it has one").join("cgroup.procs");
    fs::write(&outside, &pid).expect("root may");
    ask(&mut run, false);
    eventually("an empty launch is over", SOON, || (!own.exists()).then_some(()));
    // A cgroup of the same name is another one.
    fs::create_dir(&own).expect("root may");
    fs::write(own.join("cgroup.procs"), &pid).expect("root may");
    ask(&mut run, false);
    fs::write(&outside, &pid).expect("root may");
    // The last one that asked in it may just be ending.
    eventually("it is empty", SOON, || fs::remove_dir(&own).ok());
    run.close_input();
    run.ended(SOON);
}

#[test]
fn a_launch_outlives_the_agent_and_is_taken_up_again_by_the_next() {
    if !needs::root() {
        return;
    }
    let place = Place::up();
    let asks = place.asks();
    let go = place.app().join("go");
    place.write(
        "loop.sh",
        &format!(
            "echo $$\nwhile :; do if [ -e {0} ]; then rm -f {0}; {asks} || echo none; fi; sleep 0.05; done\n",
            go.display()
        ),
    );
    let program = ["sh", "loop.sh"];
    place.register("/loop", &program);
    let run = Running::start(place.command(&["--"]).args(program), "run", place.folder.path());
    let pid = run.line(SOON);
    let killed = place.writ.kill("agent");
    eventually("another agent", SOON, || (place.writ.role("agent") != killed).then_some(()));
    let id = place.writ.id("/loop");
    eventually("the identity of before", Duration::from_secs(60), || {
        fs::write(&go, "").expect("ours");
        give(&go);
        let line = run.line(SOON);
        line.contains(&id).then_some(())
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().expect("a number")), Signal::SIGKILL)
        .expect("root may");
    eventually("nothing is left behind", SOON, || {
        let left = |name: &str| fs::read_dir(place.writ.data().join(name)).map_or(0, Iterator::count);
        (left("launch") == 0 && left("state/agent/launches") == 0).then_some(())
    });
}

#[test]
fn an_agent_that_is_not_root_measures_and_says_why_it_launches_nothing() {
    if !needs::root() {
        return;
    }
    let folder = Folder::new();
    let home = folder.join("home");
    fs::create_dir(&home).expect("ours");
    give(&home);
    let script = home.join("x.sh");
    fs::write(&script, "true\n").expect("ours");
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new(writ_binary());
        command.args(arguments).arg("--data").arg(home.join("d")).current_dir(&home).env("HOME", &home);
        std::os::unix::process::CommandExt::uid(&mut command, USER);
        std::os::unix::process::CommandExt::gid(&mut command, USER);
        command
    };
    let up = Running::start(&mut as_user(&["up", "--output", "json"]), "up", folder.path());
    let _ = up.line(Duration::from_secs(60));
    let mut measured = as_user(&["run", "--measure-only"]);
    let answer = Answer::of(measured.args(["--", "sh", "x.sh"])).done();
    assert!(answer.out.contains("launch:measurement:"), "{answer:?}");
    let mut run = as_user(&["run"]);
    let refused = Answer::of(run.args(["--", "sh", "x.sh"])).refused();
    assert!(refused.contains("does not run as root") && refused.contains("--measure-only"), "{refused}");
}
