//! Connections whose maker is no longer what it was: somebody else holds the other end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use integration_tests::attacker::{Attacker, Verdict};
use integration_tests::needs;
use nix::sys::signal::Signal;

use super::{ATTACKER, Stage, VICTIM, meanwhile, rounds};

/// The maker runs the good program after it was accepted, and an accomplice asks.
#[test]
fn a_connection_lent_after_accept_gets_nothing_in_200_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    for round in 0..rounds(200) {
        let mut lender = stage.intruder();
        assert!(lender.is_accepted(&stage.socket()));
        lender.does(&format!("exec-behind {}", stage.good.display()));
        let verdict = lender.asks();
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
    }
}

/// Here it keeps the connection and asks itself. A new connection is another matter.
#[test]
fn a_process_that_executed_another_program_after_accept_gets_nothing_in_200_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    for round in 0..rounds(200) {
        let mut turned = stage.intruder();
        assert!(turned.is_accepted(&stage.socket()));
        turned.does(&format!("exec {}", stage.good.display()));
        let verdict = turned.asks();
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
        assert_eq!(turned.tries(&stage.socket()), stage.program(), "and now it is that program");
    }
}

/// The good program is served, and what it becomes, or who is left when it has died, is not.
#[test]
fn open_streams_of_200_processes_that_executed_died_or_became_another_user_get_nothing_new() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let crowd = 40;
    for round in 0..rounds(200).div_ceil(crowd) {
        let mut streams: Vec<Attacker> = (0..crowd)
            .map(|number| {
                // Only root can become another user; the others are the good program.
                let becomes = number % 4 == 0;
                let mut process =
                    if becomes { stage.start(0, &stage.evil) } else { stage.start(ATTACKER, &stage.good) };
                assert!(process.tries(&stage.socket()).is_held());
                process.does(&match number % 4 {
                    0 => format!("become-behind {VICTIM}"),
                    1 => "die-behind".to_owned(),
                    2 => format!("exec-behind {}", stage.evil.display()),
                    _ => format!("exec {}", stage.evil.display()),
                });
                process
            })
            .collect();
        let later = |user| (format!("/later/{round}/{user}"), format!("unix:uid:{user}"));
        meanwhile(&stage.writ, &[0, ATTACKER, VICTIM].map(later), || {
            for (number, process) in streams.iter_mut().enumerate() {
                let verdict = process.hears_next();
                assert!(!verdict.is_held(), "round {round}, process {number}: {verdict:?}");
            }
        });
    }
}

/// A process that was root when it connected is nobody in particular afterwards.
#[test]
fn a_process_that_gave_up_its_user_after_connecting_gets_nothing_of_it_in_200_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    for round in 0..rounds(200) {
        let mut fallen = stage.start(0, &stage.evil);
        assert!(fallen.is_accepted(&stage.socket()));
        let order = if round % 2 == 0 { "become" } else { "become-behind" };
        fallen.does(&format!("{order} {VICTIM}"));
        let verdict = fallen.asks();
        assert!(!verdict.is_held(), "round {round}: neither of root nor of the victim: {verdict:?}");
    }
}

/// The maker runs a set-uid program, before or after it was accepted, and an accomplice asks.
#[test]
fn a_connection_left_behind_by_a_set_uid_program_gets_nothing_of_root_in_200_rounds() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let privileged = stage.folder.join("privileged");
    super::put(&stage.evil, &privileged, "privileged");
    std::fs::set_permissions(&privileged, Permissions::from_mode(0o4755)).expect("it is ours");
    for round in 0..rounds(200) {
        let mut lender = stage.intruder();
        let verdict = if round % 2 == 0 {
            assert!(lender.is_accepted(&stage.socket()));
            lender.does(&format!("exec-behind {}", privileged.display()));
            lender.asks()
        } else {
            // The agent finds the connection when its maker is root already.
            stage.writ.signal("agent", Signal::SIGSTOP);
            lender.does(&format!("connect {}", stage.socket().display()));
            lender.does(&format!("exec-behind {}", privileged.display()));
            stage.writ.signal("agent", Signal::SIGCONT);
            if lender.order("greet") == "ok" { lender.asks() } else { Verdict::Closed }
        };
        assert!(!verdict.is_held(), "round {round}: {verdict:?}");
    }
}
