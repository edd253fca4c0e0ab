//! One caller is denied again and again: others notice little of it, and the log nothing but a count.
//!
//! A hundred thousand times here; `WRIT_FLOOD_DENIALS` says how often else.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use integration_tests::eventually;
use integration_tests::gate::{Client, Gate};
use serde_json::Value;

use super::{Ground, permitted_soon};
use crate::SOON;

/// Questions of the flood that are on their way at once.
const AT_ONCE: u64 = 32;
/// What a task's denials are recorded singly up to, and per second after that.
const SINGLY: u64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_denials_are_counted_and_others_are_served() {
    let denials: u64 =
        env::var("WRIT_FLOOD_DENIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let ground = Ground::new();
    let (mut loud, mut calm) = (ground.worker(), ground.worker());
    let (denied, served) = (loud.begin("work"), calm.begin("work"));
    let gate = Arc::new(ground.gate_soon().await);
    let client = calm.for_task(&served);
    permitted_soon(&gate, &client).await;
    let alone = latencies(&gate, &client, Duration::from_secs(3), &AtomicBool::new(false)).await;

    let (begun, over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let flood = Arc::new(ground.gate_soon().await);
    let left = Arc::new(AtomicU64::new(denials));
    let askers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (flood, left, client) = (flood.clone(), left.clone(), loud.for_task(&denied));
            tokio::spawn(async move {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let verdict = flood.ask(&client, "box/none", "{}").await.expect("the session stands");
                    assert!(!verdict.permitted, "there is no such tool");
                }
            })
        })
        .collect();
    let measured = {
        let (gate, client, over) = (gate.clone(), client.clone(), over.clone());
        tokio::spawn(async move { latencies(&gate, &client, Duration::from_secs(3600), &over).await })
    };
    for asker in askers {
        asker.await.expect("no asker panics");
    }
    let took = begun.elapsed();
    over.store(true, Ordering::Relaxed);
    let during = measured.await.expect("it does not panic");
    report(denials, took, &alone, &during);
    assert!(during.len() > 100, "others were served {} times", during.len());

    let about = |records: &[Value]| -> Vec<Value> {
        records.iter().filter(|record| record["task"] == denied.as_str()).cloned().collect()
    };
    // What was counted last is recorded within a second.
    let (singles, counted) = eventually("every denial is on record", SOON, || {
        let (singles, counted) = (about(&ground.recorded("decision")), about(&ground.recorded("denials")));
        let sum: u64 = counted.iter().filter_map(|record| record["count"].as_u64()).sum();
        (sum + singles.len() as u64 == denials).then_some((singles.len() as u64, counted.len() as u64))
    });
    let seconds = took.as_secs() + 5;
    assert!(singles <= SINGLY + seconds, "{singles} single records in {seconds} s");
    assert!(counted <= seconds, "{counted} counts in {seconds} s");
    assert_eq!(ground.task(&denied)["state"]["is"], "suspended", "who is denied that often is probing");
    let _ = ground.server.run(&["audit", "verify"]).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_task_is_only_counted() {
    let ground = Ground::new();
    let nobody = ground.worker();
    let gate = ground.gate_soon().await;
    for _ in 0..1000 {
        let verdict = gate.ask(&nobody.client, "box/look", "{}").await.expect("the session stands");
        assert_eq!((verdict.permitted, verdict.reason.as_str()), (false, "no_task"));
    }
    let counted = eventually("they are counted", SOON, || {
        let counted = ground.recorded("denials");
        let sum: u64 = counted.iter().filter_map(|record| record["count"].as_u64()).sum();
        (sum == 1000).then_some(counted.len())
    });
    assert!(counted < 100 && ground.recorded("decision").is_empty(), "{counted} records");
}

/// How long permits and their outcomes take, one after the other.
async fn latencies(gate: &Gate, client: &Client, during: Duration, over: &AtomicBool) -> Vec<Duration> {
    let (end, mut all) = (Instant::now() + during, Vec::new());
    while Instant::now() < end && !over.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let verdict = gate.ask(client, "box/look", "{}").await.expect("the session stands");
        all.push(asked.elapsed());
        assert!(verdict.permitted, "{}", verdict.reason);
        let _ = gate.executed(verdict.id).await.expect("the session stands");
    }
    all.sort();
    all
}

#[expect(clippy::print_stdout, reason = "a figure of a loaded machine is printed, not judged")]
fn report(denials: u64, took: Duration, alone: &[Duration], during: &[Duration]) {
    let at = |all: &[Duration], share: usize| all[(all.len() - 1) * share / 100];
    println!(
        "{denials} denials in {took:.1?}; a permit of somebody else, p50 and p99: alone {:.2?} {:.2?} ({}), meanwhile {:.2?} {:.2?} ({})",
        at(alone, 50),
        at(alone, 99),
        alone.len(),
        at(during, 50),
        at(during, 99),
        during.len()
    );
}
