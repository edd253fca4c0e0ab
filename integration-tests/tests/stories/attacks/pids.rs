//! Process IDs that are used again. In a pid namespace of its own an agent and its attackers are alone,
//! and whoever writes `ns_last_pid` there chooses the next process's ID.

use std::process::Command;
use std::time::Duration;

use integration_tests::attacker::Attacker;
use integration_tests::{Folder, Writ, needs};

use super::{ATTACKER, VICTIM, attacker, meanwhile, put, rounds};
use crate::inside::inside;

/// The maker may have nothing, and each heir something. How many of the connections are given something.
fn reused(arguments: &[&str], order: impl Fn(&Writ, u64) -> String, rounds: u64) -> String {
    let (writ, folder) = (Writ::up_with(arguments), Folder::new());
    writ.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    writ.entry("/victims", &[&format!("unix:supplementary_gid:{VICTIM}")]);
    let program = folder.join("attacker");
    put(attacker(), &program, "");
    let mut controller = Attacker::start(&mut Command::new(&program), &folder);
    controller.order_within(&order(&writ, rounds), HOURS)
}

/// The agent is stopped until the heirs are there.
fn before_accept(writ: &Writ, rounds: u64) -> String {
    let agent = writ.role("agent");
    format!("reuse {} {rounds} {ATTACKER} {VICTIM} {agent}", writ.workload_socket().display())
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
        assert_eq!(reused(&[], order, rounds(10_000)), "held 0");
    }
}

#[test]
fn a_connection_accepted_after_the_victim_got_its_makers_pid_gets_nothing_in_10_000_rounds() {
    const NAME: &str = "attacks::pids::a_connection_accepted_after_the_victim_got_its_makers_pid_gets_nothing_in_10_000_rounds";
    if needs::root() && inside(NAME, &IN_A_PID_NAMESPACE) {
        assert_eq!(reused(&[], before_accept, rounds(10_000)), "held 0");
    }
}

/// Why that switch is called insecure, and that the story before this one can fail. An heir of another user is
/// refused all the same, since the connection is not its own.
#[test]
fn where_pids_are_believed_an_heir_of_the_makers_own_user_is_served_and_the_documents_say_so() {
    const NAME: &str = "attacks::pids::where_pids_are_believed_an_heir_of_the_makers_own_user_is_served_and_the_documents_say_so";
    if needs::root() && inside(NAME, &IN_A_PID_NAMESPACE) {
        assert_eq!(reused(&["--insecure-peer-by-pid"], before_accept, 64), "held 32");
        let security = include_str!("../../../../SECURITY.md");
        assert!(security.contains("insecure_peer_by_pid"), "SECURITY.md tells of it");
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
