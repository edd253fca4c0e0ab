//! Programs that would be taken for others: by mounts, by namespaces, by a forged link, by a tracer.

use std::fs;

use integration_tests::attacker::Verdict;
use integration_tests::needs;

use super::{ATTACKER, Stage, VICTIM, rounds};

/// A user needs no rights for this where user namespaces are open.
#[test]
fn a_path_faked_in_namespaces_of_the_users_own_gets_nothing_in_50_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let (good, evil) = (stage.good.display(), stage.evil.display());
    let home = stage.folder.join("good");
    let script = format!("mount -t tmpfs none {} && cp {evil} {good} && exec {good}", home.display());
    for round in 0..rounds(50) {
        let mut faker = stage.script(&["unshare", "--user", "--map-root-user", "--mount"], &script);
        let shown = fs::read_link(format!("/proc/{}/exe", faker.pid())).expect("it runs");
        assert_eq!(shown, stage.good, "so it says");
        let verdict = faker.tries(&stage.socket());
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
    }
}

/// In a mount namespace of the user's own, the evil file over the good one before it is run; and the good
/// one over the evil one that runs already, whose name then leads to good bytes.
#[test]
fn a_bind_mount_over_a_program_gets_nothing_of_what_is_good_in_50_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let (good, evil) = (stage.good.display(), stage.evil.display());
    let own_mounts = ["unshare", "--user", "--map-root-user", "--mount"];
    for round in 0..rounds(50) {
        let mut mounter = if round % 2 == 0 {
            stage.script(&own_mounts, &format!("mount --bind {evil} {good} && exec {good}"))
        } else {
            let mut running = stage.script(&own_mounts, &format!("exec {evil}"));
            running.does(&format!("mount {good} {evil}"));
            running
        };
        let verdict = mounter.tries(&stage.socket());
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
    }
}

/// What the kernel shows as a process's executable is the process's to choose where user namespaces are
/// open. Its user is not.
#[test]
fn a_forged_exe_link_gets_nothing_of_an_entry_with_the_uid_in_100_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let path = format!("unix:path:{}", stage.good.display());
    stage.writ.entry("/victims-path", &[&format!("unix:uid:{VICTIM}"), &path]);
    stage.writ.entry("/roots-path", &["unix:uid:0", "unix:gid:0", &path]);
    for round in 0..rounds(100) {
        let mut forger = stage.intruder();
        forger.does(&format!("forge {}", stage.good.display()));
        let shown = fs::read_link(format!("/proc/{}/exe", forger.pid())).expect("it runs");
        assert_eq!(shown, stage.good, "so the kernel says");
        if let Verdict::Held(ids) = forger.tries(&stage.socket()) {
            let of_others =
                ["/victim", "/victims-path", "/root", "/roots-path"].map(|path| stage.writ.id(path));
            assert!(ids.iter().all(|id| !of_others.contains(id)), "round {round}: {ids:?}");
        }
    }
}

/// The kernel recorded what the forger executed, so what its link shows is worth nothing: also where it ran
/// the good program before.
#[test]
fn a_forged_exe_link_gets_nothing_of_a_path_or_hash_where_the_exec_was_seen_in_100_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let lost = || {
        let watching = &stage.writ.run(&["status", "--output", "json"]).json()["agent"]["watching"];
        watching["executions_lost"].as_u64().unwrap_or_else(|| panic!("the exec is not seen: {watching}"))
    };
    let mut known = lost();
    for round in 0..rounds(100) {
        let mut forger = match round % 2 {
            0 => stage.intruder(),
            _ => {
                let mut forger = stage.start(ATTACKER, &stage.good);
                forger.does(&format!("exec {}", stage.evil.display()));
                forger
            }
        };
        forger.does(&format!("forge {}", stage.good.display()));
        let shown = fs::read_link(format!("/proc/{}/exe", forger.pid())).expect("it runs");
        assert_eq!(shown, stage.good, "so the kernel says");
        let verdict = forger.tries(&stage.socket());
        if verdict.is_held() {
            // A machine may be too busy for its records to be read in time; then the exec was not seen.
            let now = lost();
            assert!(now > known && now < 100, "round {round}: {verdict:?}, {now} losses");
            known = now;
        }
    }
}

/// Whoever traces a process can have it do anything.
#[test]
fn a_traced_program_is_not_known_by_its_path_or_hash_in_50_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    for round in 0..rounds(50) {
        let mut traced = stage.start(ATTACKER, &stage.good);
        traced.does("be-traced");
        let verdict = traced.tries(&stage.socket());
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
    }
}
