//! Processes that furnish their own view of the file system. Only root can stage them everywhere.

mod harness;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use attestors::{Evidence, Subject, Wanted, WorkloadAttestor, WorkloadAttestors};
use harness::{
    BOTH, Cgroup, Running, as_root, assert_nameless, attest, compile, directory, program, sha256, values,
    wanted, with_device,
};
use peer::Changed;

/// A user needs no rights for this where user namespaces are open: it puts a directory of its own where the
/// victim's is, and runs its own program under the victim's name.
#[tokio::test]
async fn a_path_in_a_mount_namespace_of_the_users_own_making_is_not_believed() {
    if !as_root("a_path_in_a_mount_namespace_of_the_users_own_making_is_not_believed") {
        return;
    }
    let (home, other) = (directory(), directory());
    let victim = program(home.path(), "triage");
    let evil = program(other.path(), "evil");
    let script = format!(
        "mount -t tmpfs none {home} && cp {evil} {victim} && exec {victim}",
        home = home.path().display(),
        evil = evil.display(),
        victim = victim.display()
    );
    let mut attack = as_nobody();
    attack.args(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let attacker = Running::command(&mut attack);
    assert_eq!(attacker.peer().exe_link().expect("readable"), victim, "this is what SPIRE goes by");
    let evidence = attest(&WorkloadAttestors::builtin(), &attacker.peer(), BOTH).await;
    assert!(values(&evidence, "unix:path").is_empty());
    assert!(evidence.notes.iter().any(|note| note.contains("another file")), "{:?}", evidence.notes);
    assert_eq!(values(&evidence, "unix:sha256"), [sha256(&evil)], "the hash is of what it runs");
    assert_eq!(values(&evidence, "unix:uid"), ["65534"], "and root in its own namespace is nobody here");
}

/// A bind mount of the good file over the evil one, while the evil one runs: the name leads to good bytes.
#[tokio::test]
async fn a_bind_mount_over_the_executable_changes_neither_path_nor_hash_of_what_runs() {
    if !as_root("a_bind_mount_over_the_executable_changes_neither_path_nor_hash_of_what_runs") {
        return;
    }
    let directory = directory();
    let good = program(directory.path(), "good");
    let evil = program(directory.path(), "evil");
    // In one namespace the evil file is mounted over the good one before it is run ...
    let over = format!("mount --bind {e} {g} && exec {g}", e = evil.display(), g = good.display());
    let disguised = Running::command(&mut in_own_mounts(&over));
    let evidence = attest(&WorkloadAttestors::builtin(), &disguised.peer(), BOTH).await;
    assert!(values(&evidence, "unix:path").is_empty());
    assert_eq!(values(&evidence, "unix:sha256"), [sha256(&evil)]);
    // ... and in another the good one over the evil one that runs already: its name leads to good bytes.
    let script = format!(
        "mkfifo {e}.wait; setpriv --pdeathsig KILL {e} <>{e}.wait & until test $(readlink /proc/$!/exe) = {e}; do :; done; \
         mount --bind {g} {e} && cmp {e} {g} && exec cat",
        e = evil.display(),
        g = good.display()
    );
    let shell = Running::command(&mut in_own_mounts(&script));
    let running = shell.child_peer();
    let evidence = attest(&WorkloadAttestors::builtin(), &running, BOTH).await;
    assert_eq!(values(&evidence, "unix:sha256"), [sha256(&evil)]);
    assert_eq!(values(&evidence, "unix:path"), [evil.display().to_string()], "as the agent sees it");
}

/// What runs in a container has its own files; their hash says as much as anywhere, their path nothing.
#[tokio::test]
async fn a_program_in_a_root_of_its_own_has_a_hash_and_no_path() {
    if !as_root("a_program_in_a_root_of_its_own_has_a_hash_and_no_path") {
        return;
    }
    let directory = directory();
    let outside = program(directory.path(), "outside");
    let hash = sha256(&outside);
    let script = format!(
        "mount -t tmpfs none {d} && cp /bin/cat {d}/inside && printf outside >> {d}/inside && exec {d}/inside",
        d = directory.path().display()
    );
    let contained = Running::command(&mut in_own_mounts(&script));
    let evidence = attest(&WorkloadAttestors::builtin(), &contained.peer(), BOTH).await;
    assert!(values(&evidence, "unix:path").is_empty());
    assert_eq!(values(&evidence, "unix:sha256"), [hash]);
}

#[tokio::test]
async fn a_mount_that_the_agent_sees_too_is_as_good_as_any_other_name() {
    if !as_root("a_mount_that_the_agent_sees_too_is_as_good_as_any_other_name") {
        return;
    }
    let directory = directory();
    let real = program(directory.path(), "real");
    let name = directory.path().join("name");
    fs::write(&name, "").expect("something to mount over");
    let mount = |arguments: &[&str]| {
        assert!(Command::new(arguments[0]).args(&arguments[1..]).status().expect("it starts").success());
    };
    let (from, to) = (real.display().to_string(), name.display().to_string());
    mount(&["mount", "--bind", &from, &to]);
    let process = Running::program(&name);
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    mount(&["umount", "--lazy", &to]);
    assert_eq!(values(&evidence, "unix:path"), [to]);
}

#[tokio::test]
async fn an_executable_that_nobody_may_read_is_hashed_all_the_same() {
    if !as_root("an_executable_that_nobody_may_read_is_hashed_all_the_same") {
        return;
    }
    let directory = directory();
    let program = program(directory.path(), "secret");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o111)).expect("execute only");
    let process = Running::command(as_nobody().arg(&program));
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_eq!(values(&evidence, "unix:sha256"), [sha256(&program)]);
    assert_eq!(values(&evidence, "unix:path"), [program.display().to_string()]);
}

/// Whoever serves a file system can give the reader who hashes other bytes than the one who executes.
#[tokio::test]
async fn an_executable_on_a_file_system_that_a_process_serves_has_no_hash() {
    const NAME: &str = "an_executable_on_a_file_system_that_a_process_serves_has_no_hash";
    if !with_device(NAME, "/dev/fuse") {
        return;
    }
    let directory = directory();
    let process = Running::command(&mut served(directory.path(), ",allow_other"));
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_nameless(&evidence, "some process serves");
    assert_eq!(values(&evidence, "unix:uid"), ["65534"]);
}

/// An AppImage runs like this.
#[tokio::test]
async fn a_program_on_a_private_mount_of_its_user_is_known_by_its_user_only() {
    const NAME: &str = "a_program_on_a_private_mount_of_its_user_is_known_by_its_user_only";
    if !with_device(NAME, "/dev/fuse") {
        return;
    }
    let directory = directory();
    let process = Running::command(&mut served(directory.path(), ""));
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), BOTH).await;
    assert_nameless(&evidence, "only its user may read its executable");
    assert_eq!(values(&evidence, "unix:uid"), ["65534"]);
    assert!(!evidence.incomplete);
}

#[tokio::test]
async fn supplementary_groups_are_those_of_now() {
    if !as_root("supplementary_groups_are_those_of_now") {
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--groups=1,2,4000000", "cat"]);
    let process = Running::command(&mut command);
    let asked = ["unix:supplementary_gid:1", "unix:supplementary_group:daemon"];
    let evidence = attest(&WorkloadAttestors::builtin(), &process.peer(), &asked).await;
    assert_eq!(values(&evidence, "unix:supplementary_gid"), ["1", "2", "4000000"]);
    assert_eq!(values(&evidence, "unix:supplementary_group"), ["daemon", "bin"]);
    assert!(
        evidence.notes.iter().any(|note| note.contains("no name for gid 4000000")),
        "{:?}",
        evidence.notes
    );
    assert!(!evidence.incomplete);
}

/// Runs `cat` as nobody, from a file system that a process of nobody's would serve.
fn served(directory: &Path, options: &str) -> Command {
    let server = compile(directory, "serve", include_str!("harness/fuse.c"));
    let at = directory.join("mounted");
    fs::create_dir(&at).expect("somewhere to mount");
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(server).arg("/bin/cat").arg(at).arg("65534").arg(options);
    command
}

fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command
}

fn in_own_mounts(script: &str) -> Command {
    assert!(Path::new("/bin/sh").exists());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]);
    command
}

/// Moves the process to another cgroup after having looked where it is.
struct Mover(Option<PathBuf>);

#[async_trait::async_trait]
impl WorkloadAttestor for Mover {
    fn name(&self) -> &'static str {
        "mover"
    }

    async fn attest(&self, subject: &Subject, _: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        subject.cgroups(&mut evidence).expect("readable");
        if let Some(cgroup) = &self.0 {
            fs::write(cgroup.join("cgroup.procs"), subject.peer().pid().to_string()).expect("root moves it");
        }
        evidence
    }
}

#[tokio::test]
async fn a_process_that_is_moved_while_it_is_attested_is_refused() {
    if !as_root("a_process_that_is_moved_while_it_is_attested_is_refused") {
        return;
    }
    let cgroup = Cgroup::new("writ-mover");
    for moved_to in [None, Some(cgroup.directory().to_owned())] {
        let is_moved = moved_to.is_some();
        let process = Running::program(Path::new("/bin/cat"));
        let all = WorkloadAttestors::builtin().and(Box::new(Mover(moved_to)));
        let attested = all.attest(&process.peer(), &wanted(&[])).await;
        assert_eq!(matches!(attested, Err(Changed::Moved { .. })), is_moved, "{attested:?}");
        // Whoever connects anew is attested where it is now.
        assert!(WorkloadAttestors::builtin().attest(&process.peer(), &wanted(&[])).await.is_ok());
    }
}
