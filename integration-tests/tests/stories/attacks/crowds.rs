//! Many processes of one user at once.

use std::fs;
use std::time::Duration;

use integration_tests::{eventually, needs};

use super::{ATTACKER, Stage, VICTIM, rounds};

/// Thousands that connect, ask, die and become the good program, while the victim goes about its business.
#[test]
fn a_storm_of_3_000_forks_gets_nothing_and_costs_its_victim_nothing() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let (mut storm, mut victim) = (stage.intruder(), stage.start(VICTIM, &stage.evil));
    let order = format!("storm {} {} {}", stage.socket().display(), rounds(3_000), stage.good.display());
    let (held, asked) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| storm.order_within(&order, Duration::from_secs(4 * 3600)));
        let mut asked = 0;
        while !storm.is_finished() || asked == 0 {
            assert_eq!(victim.tries(&stage.socket()), stage.held(&["/victim"]), "after {asked} times");
            victim.does("hang-up");
            asked += 1;
        }
        (storm.join().expect("it ends"), asked)
    });
    assert_eq!(held, "held 0", "while the victim asked {asked} times");
}

/// Cure53 SPI-01-006 in large: a descriptor was lost with each caller that died while it was looked at.
#[test]
fn after_10_000_processes_that_connected_and_died_as_many_files_are_open_as_before() {
    if !needs::root() {
        return;
    }
    let stage = Stage::set();
    let agent = stage.writ.ready.agent_pid;
    let open = || fs::read_dir(format!("/proc/{agent}/fd")).map_or(0, Iterator::count);
    let mut crowd = stage.start(ATTACKER, &stage.evil);
    let before = open();
    let rounds = rounds(10_000);
    let order = format!("connect-and-die {} {rounds}", stage.socket().display());
    let said = crowd.order_within(&order, Duration::from_secs(4 * 3600));
    assert_eq!(said, format!("connected {rounds}"));
    eventually("as many are open as before", Duration::from_secs(60), || {
        (open() <= before + 8).then_some(())
    });
    assert!(stage.start(VICTIM, &stage.evil).tries(&stage.socket()).is_held(), "and it serves");
    assert_eq!(stage.writ.role("agent"), agent, "it is still the same process");
}
