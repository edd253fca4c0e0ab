//! Process IDs that are used again. In a pid namespace of its own an agent and its attackers are alone,
//! and whoever writes `ns_last_pid` there chooses the next process's ID.

use std::process::Command;
use std::time::Duration;

use integration_tests::attacker::Attacker;
use integration_tests::{Folder, Writ, needs};

use super::{ATTACKER, VICTIM, attacker, meanwhile, put, rounds};
use crate::inside::inside;

/// The maker may have nothing, and each heir something.
fn reused(order: impl Fn(&Writ, u64) -> String, rounds: u64) {
    let (writ, folder) = (Writ::up(), Folder::new());
    writ.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    writ.entry("/victims", &[&format!("unix:supplementary_gid:{VICTIM}")]);
    let program = folder.join("attacker");
    put(attacker(), &program, "");
    let mut controller = Attacker::start(&mut Command::new(&program), &folder);
    let held = controller.order_within(&order(&writ, rounds), HOURS);
    assert_eq!(held, "held 0", "of {rounds} connections whose maker's pid the victim got");
}

/// A million rounds take most of one.
const HOURS: Duration = Duration::from_secs(4 * 3600);

const IN_A_PID_NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

#[test]
fn a_connection_held_while_the_victim_gets_its_makers_pid_gets_nothing_in_10_000_rounds() {
    const NAME: &str =
        "attacks::pids::a_connection_held_while_the_victim_gets_its_makers_pid_gets_nothing_in_10_000_rounds";
    if needs::root() && inside(NAME, &IN_A_PID_NAMESPACE) {
        let order = |writ: &Writ, rounds| {
            format!("reuse {} {rounds} {ATTACKER} {VICTIM} 0", writ.workload_socket().display())
        };
        reused(order, rounds(10_000));
    }
}

#[test]
fn a_connection_accepted_after_the_victim_got_its_makers_pid_gets_nothing_in_10_000_rounds() {
    const NAME: &str = "attacks::pids::a_connection_accepted_after_the_victim_got_its_makers_pid_gets_nothing_in_10_000_rounds";
    if needs::root() && inside(NAME, &IN_A_PID_NAMESPACE) {
        let order = |writ: &Writ, rounds| {
            let agent = writ.role("agent");
            format!("reuse {} {rounds} {ATTACKER} {VICTIM} {agent}", writ.workload_socket().display())
        };
        reused(order, rounds(10_000));
    }
}

/// The stream was the victim's; the victim has died, and the attacker has its pid.
#[test]
fn open_streams_of_1_000_dead_processes_whose_pids_others_got_get_nothing_new() {
    const NAME: &str =
        "attacks::pids::open_streams_of_1_000_dead_processes_whose_pids_others_got_get_nothing_new";
    if !needs::root() || !inside(NAME, &IN_A_PID_NAMESPACE) {
        return;
    }
    let (writ, folder) = (Writ::up(), Folder::new());
    writ.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    let program = folder.join("attacker");
    put(attacker(), &program, "");
    for round in 0..rounds(1_000).div_ceil(100) {
        let mut controller = Attacker::start(&mut Command::new(&program), &folder);
        let socket = writ.workload_socket();
        let order = format!("reuse-streams {} 100 {VICTIM} {ATTACKER}", socket.display());
        assert_eq!(controller.order(&order), "held 100", "each stream was its maker's");
        let later = [VICTIM, ATTACKER].into_iter().flat_map(|id| {
            let entry = |of, selector| (format!("/later/{round}/{of}/{id}"), format!("unix:{selector}:{id}"));
            [entry("user", "uid"), entry("group", "supplementary_gid")]
        });
        let heard = meanwhile(&writ, &later.collect::<Vec<_>>(), || controller.order("hear-all"));
        assert_eq!(heard, "held 0", "round {round}");
    }
}
