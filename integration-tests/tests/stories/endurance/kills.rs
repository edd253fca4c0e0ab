//! Kill -9 of agent, server and workers at random points while decisions are made.
//!
//! Fifty cycles here; `cargo xtask kill-test --decisions --cycles 10000` for more. `WRIT_KILL_SEED` repeats the points of
//! an earlier run.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration_tests::gate::Gate;
use integration_tests::{Answer, writ_command};
use tokio::task::{JoinHandle, block_in_place};

use self::evidence::Evidence;
use super::{Ground, Worker};
use crate::kill_nine::Random;

pub(super) mod evidence;

const ASKERS: u64 = 3;
/// How long it may take on a loaded machine until every task is served again.
const BACK: Duration = Duration::from_secs(60);
/// Between two questions of one asker, so that the log of a long run can be read.
const PAUSE: Duration = Duration::from_millis(3);

/// What an asker was told.
#[derive(Debug, Default)]
struct Heard {
    /// Task and number of the record of each permit that was answered.
    permits: Vec<(String, u64)>,
    /// Those of them whose answer might be released, and whether they changed something.
    released: Vec<(String, u64, bool)>,
    /// Tasks whose end was acknowledged.
    ended: Vec<String>,
    /// Tasks whose process was killed.
    dead: Vec<String>,
    /// The task that lives.
    live: String,
}

/// One process that works under tasks, and its gate.
struct Asker {
    socket: PathBuf,
    authz: PathBuf,
    admin: PathBuf,
    worker: Worker,
    gate: Option<Gate>,
    random: Random,
    heard: Heard,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_permit_that_was_answered_is_lost_and_none_is_given_after_an_acknowledged_end() {
    let cycles: u64 = env::var("WRIT_KILL_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let mut random = Random::new();
    let mut ground = Ground::new();
    drop(ground.gate_soon().await);
    let over = Arc::new(AtomicBool::new(false));
    let mut askers = Vec::new();
    for number in 0..ASKERS {
        let permits = Arc::new(AtomicU64::new(0));
        let asker = Asker::start(&ground, Random::of(random.below(u64::MAX).wrapping_add(number)));
        askers.push((permits.clone(), tokio::spawn(asker.work(over.clone(), permits))));
    }
    served(&ground, &askers, 0).await;
    for cycle in 0..cycles {
        tokio::time::sleep(Duration::from_micros(random.below(150_000))).await;
        match random.below(4) {
            0 => ground.server.kill_and_start(),
            1 => {
                ground.agent.kill();
                ground.server.kill_and_start();
                ground.agent.start_again();
            }
            _ => ground.agent.kill_and_start(),
        }
        served(&ground, &askers, cycle).await;
    }
    over.store(true, Ordering::Relaxed);
    let mut heard = Vec::new();
    for (_, asker) in askers {
        heard.push(asker.await.expect("no asker panics"));
    }
    let evidence = Evidence::with(&ground, heard.iter().flat_map(|(heard, _)| &heard.permits)).await;
    for (heard, _) in &heard {
        evidence.holds(heard);
        assert!(heard.permits.len() as u64 > cycles, "only {} permits are no load", heard.permits.len());
    }
    evidence.is_whole();
    tasks_are_as_they_must_be(&ground, heard.iter().map(|(heard, _)| heard));
    let _ = ground.server.run(&["audit", "verify"]).done();
}

type Working = (Arc<AtomicU64>, JoinHandle<(Heard, Worker)>);

/// Waits until each asker has been permitted something since now: its task was taken up again.
async fn served(ground: &Ground, askers: &[Working], cycle: u64) {
    let now: Vec<_> = askers.iter().map(|(permits, _)| permits.load(Ordering::Relaxed)).collect();
    let end = Instant::now() + BACK;
    // The first one may have been on its way before.
    while askers.iter().zip(&now).any(|((permits, _), before)| permits.load(Ordering::Relaxed) < before + 2) {
        assert!(askers.iter().all(|(_, asker)| !asker.is_finished()), "cycle {cycle}: an asker gave up");
        assert!(
            Instant::now() < end,
            "cycle {cycle}: somebody is not served\n{}\n{}",
            ground.agent.log(),
            ground.server.log()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Asker {
    fn start(ground: &Ground, random: Random) -> Self {
        let (socket, authz) = (ground.agent.workload_socket(), ground.agent.file("public/authz.sock"));
        let (admin, worker) = (ground.server.socket(), Worker::start(&socket));
        Self { socket, authz, admin, worker, gate: None, random, heard: Heard::default() }
    }

    /// Begins, asks and ends until it is over.
    async fn work(mut self, over: Arc<AtomicBool>, permits: Arc<AtomicU64>) -> (Heard, Worker) {
        self.begin();
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            if self.gate.is_none() {
                self.gate = Gate::open(&self.authz, &["box"]).await.ok();
            }
            if self.ask(&permits).await.is_none() {
                self.gate = None;
            }
            match self.random.below(300) {
                0 => self.die(),
                1..=3 => self.end().await,
                _ => {}
            }
        }
        (self.heard, self.worker)
    }

    /// Asks once, and tells what became of it; none where the session is over.
    async fn ask(&mut self, permits: &AtomicU64) -> Option<()> {
        let (gate, task) = (self.gate.as_ref()?, self.heard.live.clone());
        let tool = if self.random.below(2) == 0 { "box/look" } else { "box/put" };
        let verdict = gate.ask(&self.worker.for_task(&task), tool, r#"{"n":1}"#).await.ok()?;
        if !verdict.permitted {
            return Some(());
        }
        permits.fetch_add(1, Ordering::Relaxed);
        self.heard.permits.push((task.clone(), verdict.seq));
        let released = gate.executed(verdict.id).await.ok()?;
        if released.reason.is_empty() {
            self.heard.released.push((task, verdict.seq, tool == "box/put"));
        }
        Some(())
    }

    fn begin(&mut self) {
        let end = Instant::now() + BACK;
        self.heard.live = loop {
            match block_in_place(|| self.worker.order("begin work")) {
                Ok(task) => break task,
                // It may have begun, and its answer been lost.
                Err(refused) => {
                    assert!(Instant::now() < end, "no task begins: {refused}");
                    let _ = block_in_place(|| self.worker.order("end "));
                }
            }
        };
    }

    /// Ends the task, and asks for it once more.
    async fn end(&mut self) {
        let (end, task) = (Instant::now() + BACK, self.heard.live.clone());
        // It may have ended, and the answer been lost.
        while block_in_place(|| self.worker.order(&format!("end {task}")).is_err() && !self.has_ended(&task))
        {
            assert!(Instant::now() < end, "the task {task} cannot be ended");
            tokio::time::sleep(PAUSE).await;
        }
        self.heard.ended.push(task);
        self.begin();
        for ended in self.heard.ended.iter().rev().take(5) {
            let Some(gate) = &self.gate else { break };
            let Ok(verdict) = gate.ask(&self.worker.for_task(ended), "box/look", "{}").await else { break };
            assert!(!verdict.permitted, "{ended} was ended, and is permitted something");
        }
    }

    /// Whether the server says so.
    fn has_ended(&self, task: &str) -> bool {
        let mut show = writ_command();
        show.args(["task", "show", task, "--output", "json", "--socket"]).arg(&self.admin);
        let shown = Answer::of(&mut show);
        shown.code == 0 && shown.json()["tasks"][0]["state"]["is"] == "ended"
    }

    /// The process is killed, and another one begins.
    fn die(&mut self) {
        self.heard.dead.push(std::mem::take(&mut self.heard.live));
        self.worker = Worker::start(&self.socket);
        self.begin();
    }
}

/// What ended is over at the server too, and what lives is not.
fn tasks_are_as_they_must_be<'a>(ground: &Ground, heard: impl Iterator<Item = &'a Heard> + Clone) {
    integration_tests::eventually("the server knows of each end", BACK, || {
        let all = ground.server.run(&["task", "list", "--all", "--output", "json"]).done().json();
        let state = |id: &str| {
            let found = all["tasks"].as_array()?.iter().find(|task| task["id"] == id)?;
            Some((found["state"]["is"].clone(), found["state"]["reason"].clone()))
        };
        for heard in heard.clone() {
            assert_eq!(state(&heard.live).map(|(is, _)| is), Some("active".into()), "{} lives", heard.live);
            for task in heard.ended.iter().chain(&heard.dead) {
                // What is over is forgotten after a while.
                if state(task).is_some_and(|(is, _)| is != "ended") {
                    return None;
                }
            }
            for task in &heard.dead {
                let reason = state(task).map_or("forgotten".into(), |(_, reason)| reason);
                assert!(
                    ["domain_dead", "agent_restarted", "forgotten"].iter().any(|one| reason == *one),
                    "{task}: {reason}"
                );
            }
        }
        Some(())
    });
}
