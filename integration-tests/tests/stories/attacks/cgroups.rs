//! Cgroups that are named, mounted or hidden so that their processes would be taken for others'.
//!
//! The victim is in a unit of systemd's, as the kernel tells it; the attacker's unit was given its own
//! cgroup to keep (`Delegate=yes`), and may make in it what it likes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::attacker::{Attacker, Verdict};
use integration_tests::{Folder, Writ, needs};

use super::{ATTACKER, attacker, put, rounds};

/// An agent, and two units in a slice of this story's own.
struct Units {
    writ: Writ,
    folder: Folder,
    program: PathBuf,
    /// The hierarchies in which systemd keeps units.
    trees: Vec<PathBuf>,
    slice: String,
    victim: String,
}

const DELEGATED: &str = "delegated.service";

impl Units {
    /// `None` where the machine lets nobody make cgroups.
    fn set() -> Option<Self> {
        let trees = needs::cgroups()?;
        let (writ, folder) = (Writ::up(), Folder::new());
        let program = folder.join("attacker");
        put(attacker(), &program, "");
        let number = std::process::id();
        let (slice, victim) = (format!("attacks{number}.slice"), format!("payroll{number}.service"));
        let units = Self { writ, folder, program, trees, slice, victim };
        for tree in &units.trees {
            fs::create_dir_all(tree.join(&units.slice).join(&units.victim)).expect("root makes cgroups");
            let delegated = tree.join(&units.slice).join(DELEGATED);
            fs::create_dir(&delegated).expect("root makes cgroups");
            for path in [&delegated, &delegated.join("cgroup.procs")] {
                nix::unistd::chown(path, Some(ATTACKER.into()), Some(ATTACKER.into())).expect("root may");
            }
        }
        units.writ.entry("/payroll", &[&format!("systemd:id:{}", units.victim)]);
        units.writ.entry("/delegated", &[&format!("systemd:id:{DELEGATED}")]);
        // What is attacked is there to be had by whom it is meant for.
        let mut victim = units.start_in(&units.victim, "exec $PROGRAM");
        assert_eq!(victim.tries(&units.socket()), units.held("/payroll"));
        Some(units)
    }

    /// Root puts it into this unit; from there on it is the attacker's user and runs `script`.
    fn start_in(&self, unit: &str, script: &str) -> Attacker {
        let mut enter = String::new();
        for tree in self.directories(unit) {
            enter += &format!("echo $$ > {}/cgroup.procs && ", tree.display());
        }
        let user = format!("--reuid={ATTACKER}");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("{enter} exec setpriv {user} --regid={ATTACKER} --clear-groups sh -c \"$SCRIPT\""),
        ]);
        command.env("SCRIPT", script).env("PROGRAM", &self.program);
        Attacker::start(&mut command, &self.folder)
    }

    /// This unit's cgroup in each hierarchy.
    fn directories(&self, unit: &str) -> Vec<PathBuf> {
        self.trees.iter().map(|tree| tree.join(&self.slice).join(unit)).collect()
    }

    fn socket(&self) -> PathBuf {
        self.writ.workload_socket()
    }

    fn held(&self, path: &str) -> Verdict {
        Verdict::Held(vec![self.writ.id(path)])
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        for tree in &self.trees {
            remove(&tree.join(&self.slice));
        }
    }
}

/// A cgroup with all below it. Its processes have ended or are about to.
fn remove(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if below.is_dir() {
            remove(&below);
        }
    }
    let end = std::time::Instant::now() + crate::SOON;
    while fs::remove_dir(cgroup).is_err() && cgroup.exists() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whoever is given a cgroup names what is in it.
#[test]
fn a_child_cgroup_named_like_the_victims_gets_nothing_in_100_rounds() {
    let Some(units) = Units::set() else { return };
    for round in 0..rounds(100) {
        let child = match round % 3 {
            0 => units.victim.clone(),
            1 => format!("{}/{}", units.slice, units.victim),
            _ => format!("system.slice/{}", units.victim),
        };
        let mut script = String::new();
        for tree in units.directories(DELEGATED) {
            let child = tree.join(&child);
            script += &format!("mkdir -p {0} && echo $$ > {0}/cgroup.procs && ", child.display());
        }
        let mut impostor = units.start_in(DELEGATED, &(script + "exec $PROGRAM"));
        let shown = fs::read_to_string(format!("/proc/{}/cgroup", impostor.pid())).expect("it runs");
        assert!(shown.contains(&format!("/{DELEGATED}/{child}")), "it is there: {shown}");
        assert_eq!(impostor.tries(&units.socket()), units.held("/delegated"), "round {round}");
    }
}

/// In namespaces of its own the attacker shows itself the victim's cgroup where its own would be.
#[test]
fn a_bind_mount_of_the_victims_cgroup_and_the_mountinfo_it_forges_get_nothing_in_50_rounds() {
    let Some(units) = Units::set() else { return };
    let mut mounts = String::new();
    for (own, victims) in units.directories(DELEGATED).iter().zip(units.directories(&units.victim)) {
        mounts += &format!("mount --bind {} {} && ", victims.display(), own.display());
        mounts += &format!("mount --bind {0} {0} && ", victims.display());
    }
    let script = format!("exec unshare --user --map-root-user --mount sh -c '{mounts} exec $PROGRAM'");
    for round in 0..rounds(50) {
        let mut mounter = units.start_in(DELEGATED, &script);
        let mountinfo = fs::read_to_string(format!("/proc/{}/mountinfo", mounter.pid())).expect("it runs");
        assert!(mountinfo.contains(&units.victim), "its mounts speak of the victim: {mountinfo}");
        assert_eq!(mounter.tries(&units.socket()), units.held("/delegated"), "round {round}");
    }
}

/// The root of the attacker's cgroup namespace is a child that is named like the victim's.
#[test]
fn a_private_cgroup_namespace_gets_nothing_in_50_rounds() {
    let Some(units) = Units::set() else { return };
    let mut enter = String::new();
    for tree in units.directories(DELEGATED) {
        let child = tree.join(&units.victim);
        enter += &format!("mkdir -p {0} && echo $$ > {0}/cgroup.procs && ", child.display());
    }
    let hidden = "exec unshare --user --map-root-user --mount --cgroup sh -c \
                  'grep -q ^0::/$ /proc/self/cgroup && exec $PROGRAM'";
    for round in 0..rounds(50) {
        let mut hidden = units.start_in(DELEGATED, &format!("{enter} {hidden}"));
        assert_eq!(hidden.tries(&units.socket()), units.held("/delegated"), "round {round}");
    }
}

/// A cgroup's name may be any bytes but `/`, NUL and, as the kernel sees to, line feeds.
#[test]
fn a_cgroup_with_a_hostile_name_gets_nothing_and_does_not_disturb_its_victim() {
    let Some(units) = Units::set() else { return };
    let victim = &units.victim;
    let id = "a".repeat(64);
    let tree = units.directories(DELEGATED).remove(0);
    let names: [Vec<u8>; 12] = [
        format!("0::%{}%{victim}", units.slice).into(),
        format!("{victim}\r").into(),
        format!("{victim} (deleted)").into(),
        format!("_{victim}").into(),
        format!("docker-{id}.scope").into(),
        format!("kubepods-pod1.slice:cri-containerd:{id}").into(),
        "...".into(),
        ":::".into(),
        b"\xff\xfe\xc0\x80".into(),
        b"\x1b[31mred\x07".into(),
        "🦀".into(),
        vec![b'x'; 255],
    ];
    let line_feed = tree.join(format!("x\n0::/{}/{victim}", units.slice).replace('/', "%"));
    assert!(fs::create_dir(line_feed).is_err(), "the kernel takes no line feed");
    for name in names {
        let child = tree.join(OsStr::from_bytes(&name));
        fs::create_dir(&child).unwrap_or_else(|error| panic!("{}: {error}", child.display()));
        let mut hostile = units.start_in(DELEGATED, "exec $PROGRAM");
        fs::write(child.join("cgroup.procs"), hostile.pid().to_string()).expect("root may move it");
        let verdict = hostile.tries(&units.socket());
        assert!(
            !verdict.is_held() || verdict == units.held("/delegated"),
            "{}: {verdict:?}",
            child.display()
        );
        let explained = units.writ.run(&["explain", "--pid", &hostile.pid().to_string()]);
        assert!(!explained.out.contains('\x1b') && !explained.err.contains('\x1b'), "{explained:?}");
    }
    let mut victim = units.start_in(victim, "exec $PROGRAM");
    assert_eq!(victim.tries(&units.socket()), units.held("/payroll"), "{}", units.writ.log());
}
