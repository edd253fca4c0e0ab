//! Attestors that wait, fail, and break off, and processes that move.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::time::Instant;

use super::*;
use crate::Strength;

/// Says what its name says.
struct Scripted {
    name: &'static str,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl WorkloadAttestor for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn attest(&self, subject: &Subject, _: &Wanted) -> Evidence {
        self.asked.fetch_add(1, Relaxed);
        let mut evidence = Evidence::default();
        match self.name {
            "slow" => tokio::time::sleep(Duration::from_secs(3)).await,
            "hanging" => std::future::pending().await,
            "broken" => assert!(self.name.is_empty(), "as an attestor with a defect would"),
            "failing" => evidence.fail("its engine does not answer"),
            "recovering" if self.asked.load(Relaxed) != 2 => evidence.fail("its engine does not answer"),
            "placed" => drop(subject.cgroups(&mut evidence)),
            _ => {}
        }
        evidence.add(self.name, "here:yes", "the script", Strength::Kernel);
        evidence
    }
}

fn scripted(names: &[&'static str]) -> (WorkloadAttestors, Arc<AtomicUsize>) {
    let mut all = WorkloadAttestors {
        attestors: Vec::new(),
        off: Vec::new(),
        on_failure: Box::new(|_| ()),
        launches: Arc::default(),
        news: Arc::default(),
    };
    let asked = Arc::default();
    for name in names {
        all = all.and(Box::new(Scripted { name, asked: Arc::clone(&asked) }));
    }
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let all = all.on_failure(move |_| {
        count.fetch_add(1, Relaxed);
    });
    (all, failed)
}

fn own() -> Arc<Peer> {
    Arc::new(Peer::open(std::process::id()).expect("held"))
}

async fn facts(all: &WorkloadAttestors) -> (Vec<String>, Evidence) {
    let evidence = all.attest(&own(), &Wanted::everything()).await.expect("unchanged");
    (evidence.selectors().map(ToString::to_string).collect(), evidence)
}

#[tokio::test(start_paused = true)]
async fn attestors_run_together_and_the_slowest_sets_the_time() {
    let (all, _) = scripted(&["slow", "quick", "slow", "slow"]);
    let began = Instant::now();
    let (facts, evidence) = facts(&all).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(facts, ["slow:here:yes", "quick:here:yes", "slow:here:yes", "slow:here:yes"]);
    assert!(!evidence.incomplete && evidence.notes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_or_breaks_off_takes_away_its_own_facts_only_and_is_counted() {
    let (all, failed) = scripted(&["hanging", "broken", "quick"]);
    let began = Instant::now();
    let (facts, evidence) = facts(&all).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(facts, ["quick:here:yes"]);
    assert!(evidence.incomplete, "asking again may find more");
    assert!(
        evidence.notes.iter().any(|note| note.contains("the hanging attestor did not answer within 5 s"))
    );
    assert!(evidence.notes.iter().any(|note| note.contains("the broken attestor broke off")));
    assert_eq!(failed.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_news_once_and_again_after_a_recovery_but_not_within_a_minute() {
    let failures = Failures::default();
    let tells = || failures.is_news(Instant::now());
    let mut failed = Evidence::default();
    failed.fail("its engine does not answer");
    assert!(tells() && !tells() && !tells());
    assert!(failures.note("docker", &failed));
    assert!(!failures.note("docker", &Evidence::default()));
    assert!(!tells(), "it may recover as quickly as before");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(tells() && !tells(), "it did not");
    tokio::time::advance(Duration::from_secs(600)).await;
    assert!(!tells());
}

#[tokio::test]
async fn one_that_recovers_is_believed_again() {
    let (all, failed) = scripted(&["recovering"]);
    let incomplete = async || facts(&all).await.1.incomplete;
    assert!(incomplete().await && !incomplete().await && incomplete().await);
    assert_eq!(failed.load(Relaxed), 2);
}

#[test]
fn an_attestor_can_be_switched_off_but_not_one_that_is_not_there() {
    let with = |off: &str| {
        let mut config = Config::default();
        config.off.push(off.to_owned());
        WorkloadAttestors::new(&config)
    };
    let names = |all: &WorkloadAttestors| all.iter().map(|one| one.name()).collect::<Vec<_>>();
    assert!(names(&WorkloadAttestors::builtin()).contains(&"unix"));
    assert!(!names(&with("unix").expect("known")).contains(&"unix"));
    let wrong = with("unx").err().expect("unknown");
    assert_eq!(wrong.to_string(), "attestors.off names no attestor: unx");
}

#[tokio::test(start_paused = true)]
async fn each_says_what_it_said_itself_and_how_it_fares() {
    let (all, _) = scripted(&["quick", "failing", "recovering"]);
    let state = |name: &str| {
        let standing = all.standings().into_iter().find(|standing| standing.name == name);
        standing.map(|standing| (standing.state, standing.reason)).expect("it is there")
    };
    assert_eq!(state("failing"), (State::On, None), "nobody knows before it is asked");
    for round in 0..2 {
        let said = all.examine(&own(), &Wanted::everything()).await.expect("unchanged");
        assert!(said.iter().all(|said| said.evidence.selectors().all(|fact| fact.kind() == said.name)));
        let reason = Some("its engine does not answer".to_owned());
        assert_eq!(state("failing"), (State::Failing, reason), "round {round}");
        assert_eq!(state("quick"), (State::On, None));
    }
    let off = Config { off: vec!["unix".to_owned()], ..Config::default() };
    let standings = WorkloadAttestors::new(&off).expect("it is one of them").standings();
    assert_eq!(standings.last().map(|off| (off.name, off.state)), Some(("unix", State::Off)));
}
