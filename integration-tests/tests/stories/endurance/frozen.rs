//! Time that stands still, jumps, or passes without a word from the server: no permit is ever older than the bound.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::daemon::Server;
use integration_tests::gate::{Client, Gate};
use integration_tests::{Folder, eventually, needs};
use nix::sys::signal::Signal;

use super::{Ground, permitted_soon};
use crate::SOON;
use crate::network::{Cable, ip};

/// An agent permits nothing of tiers 0 and 1 when the server's word is older than this.
const BOUND: Duration = Duration::from_secs(10);
/// What it takes until a verdict is seen here.
const SEEN: Duration = Duration::from_secs(1);

/// Asks until the answer is this one; when the last permit was seen.
async fn until_refused(gate: &Gate, client: &Client) -> Instant {
    let mut last = Instant::now();
    let end = Instant::now() + BOUND + SOON;
    loop {
        let verdict = gate.ask(client, "box/look", "{}").await.expect("the session stands");
        match verdict.permitted {
            true => last = Instant::now(),
            false => {
                assert_eq!(verdict.reason, "stale");
                return last;
            }
        }
        assert!(Instant::now() < end, "it is permitted for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hears_nothing_or_was_stopped_permits_nothing_beyond_the_bound() {
    let mut ground = Ground::new();
    let mut worker = ground.worker();
    let task = worker.begin("work");
    let (gate, client) = (ground.gate_soon().await, worker.for_task(&task));
    permitted_soon(&gate, &client).await;

    // The server is silent, its connection stands.
    let silent = Instant::now();
    ground.server.signal(Signal::SIGSTOP);
    let last = until_refused(&gate, &client).await;
    assert!(last - silent < BOUND + SEEN, "permitted {:?} after the last word", last - silent);
    assert!(last - silent > BOUND / 2, "what is granted goes on for a while");
    ground.server.signal(Signal::SIGCONT);
    permitted_soon(&gate, &client).await;

    // The agent is stopped, with a question in its socket; meanwhile the server ends the task, and is silent then.
    ground.agent.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let _ = ground.server.run(&["task", "end", &task, "--why", "enough"]).done();
    ground.server.signal(Signal::SIGSTOP);
    let questions = async {
        let mut verdicts: Vec<_> = Vec::new();
        for asked in (0..20).map(|_| gate.ask(&client, "box/look", "{}")) {
            verdicts.push(asked.await.expect("the session stands"));
        }
        verdicts
    };
    let wake = async {
        tokio::time::sleep_until((stopped + BOUND + Duration::from_millis(200)).into()).await;
        ground.agent.signal(Signal::SIGCONT);
    };
    let (verdicts, ()) = tokio::join!(questions, wake);
    for verdict in verdicts {
        assert!(!verdict.permitted, "it wakes up stale");
        assert!(["stale", "no_task", "task_ended"].contains(&verdict.reason.as_str()), "{}", verdict.reason);
    }
    ground.server.signal(Signal::SIGCONT);
    eventually("the agent hears of the end", SOON, || {
        (ground.agent.log().contains("a task ended")).then_some(())
    });
    let verdict = gate.ask(&client, "box/look", "{}").await.expect("the session stands");
    assert_eq!((verdict.permitted, verdict.reason.as_str()), (false, "no_task"));
}

/// A library that shifts the wall clock of whoever loads it by the milliseconds in a file, and no other clock: the
/// machine's own is everybody's.
struct WallClock {
    library: PathBuf,
    shift: PathBuf,
}

impl WallClock {
    fn build(folder: &Folder) -> Self {
        let (source, library) = (folder.write("clock.c", include_str!("clock.c")), folder.join("clock.so"));
        let mut cc = Command::new("cc");
        let done = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
        assert!(done.expect("a C compiler named cc is installed").success(), "the library compiles");
        let clock = Self { library, shift: folder.join("shift") };
        clock.step(0);
        clock
    }

    fn step(&self, millis: i64) {
        let fresh = self.shift.with_extension("fresh");
        std::fs::write(&fresh, millis.to_ne_bytes()).expect("the folder is ours");
        std::fs::rename(fresh, &self.shift).expect("the folder is ours");
    }

    /// Puts a program under this clock.
    fn rules(&self) -> [String; 3] {
        let (library, shift) = (self.library.display(), self.shift.display());
        ["env".into(), format!("LD_PRELOAD={library}"), format!("WRIT_TEST_CLOCK={shift}")]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sets_the_clock_gains_no_time() {
    const MINUTE: i64 = 60_000;
    let folder = Folder::new();
    let clock = WallClock::build(&folder);
    let rules = clock.rules();
    let mut ground = Ground::below(&rules.each_ref().map(String::as_str), Server::start(""), Folder::new());
    ground.apply(&[super::mandate("short", &serde_json::json!({ "ttl": "15s" }))]);
    ground.approve("short");
    let (mut worker, mut brief) = (ground.worker(), ground.worker());
    let task = worker.begin("work");
    let (gate, client) = (ground.gate_soon().await, worker.for_task(&task));
    permitted_soon(&gate, &client).await;
    let short = brief.begin("short");
    let began = Instant::now();
    permitted_soon(&gate, &brief.for_task(&short)).await;

    // Set back by an hour: the bound is no longer for that, and neither is the life of a task.
    clock.step(-60 * MINUTE);
    let silent = Instant::now();
    ground.server.signal(Signal::SIGSTOP);
    let last = until_refused(&gate, &client).await;
    assert!(last - silent < BOUND + SEEN, "permitted {:?} after the last word", last - silent);
    ground.server.signal(Signal::SIGCONT);
    permitted_soon(&gate, &client).await;
    eventually("the short task is over in its time", Duration::from_secs(15), || {
        (ground.task(&short)["state"]["is"] == "ended").then_some(())
    });
    let verdict = gate.ask(&brief.for_task(&short), "box/look", "{}").await.expect("the session stands");
    assert!(!verdict.permitted, "{:?} after it began", began.elapsed());

    // Set on by more than an hour, silent again: what is permitted is permitted no longer than otherwise.
    clock.step(10 * MINUTE);
    let silent = Instant::now();
    ground.server.signal(Signal::SIGSTOP);
    let end = Instant::now() + BOUND + SEEN;
    let mut last = None;
    while Instant::now() < end + SEEN {
        // Certificates may have ended with that, and sessions with them: that is no permit either.
        let Ok(verdict) = gate.ask(&client, "box/look", "{}").await else { break };
        last = verdict.permitted.then(Instant::now).or(last);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(last.is_none_or(|last| last - silent < BOUND + SEEN), "permitted {:?} after the last word", last);
    ground.server.signal(Signal::SIGCONT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_in_one_direction_is_one() {
    if !needs::root() || !needs::program("ip", "iproute2") {
        return;
    }
    let cable = Cable::lay();
    let [here, there] = &cable.names;
    let within = |name: &str| ["ip", "netns", "exec", name].map(str::to_owned);
    let (here_in, there_in) = (within(here), within(there));
    let listen = format!("{}:8081", Cable::ADDRESSES[0]);
    let server = Server::start_below(&here_in.each_ref().map(String::as_str), &listen, "");
    let ground = Ground::below(&there_in.each_ref().map(String::as_str), server, Folder::new());
    let mut worker = ground.worker();
    let task = worker.begin("work");
    let (gate, client) = (ground.gate_soon().await, worker.for_task(&task));
    // What is sent from one end goes to a card that is not there, and nobody is told.
    for (end, other) in [(here, Cable::ADDRESSES[1]), (there, Cable::ADDRESSES[0])] {
        permitted_soon(&gate, &client).await;
        let cut = Instant::now();
        let nowhere = ["lladdr", "02:00:00:00:00:99", "dev", "cable", "nud", "permanent"];
        ip(&[&["-n", end, "neigh", "replace", other], &nowhere[..]].concat());
        let last = until_refused(&gate, &client).await;
        assert!(last - cut < BOUND + SEEN, "permitted {:?} after the last word", last - cut);
        ip(&["-n", end, "neigh", "delete", other, "dev", "cable"]);
    }
    permitted_soon(&gate, &client).await;
}
