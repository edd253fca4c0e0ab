//! Tier 2: nothing without the server's word of the last five seconds, nor without its having the record.

use std::time::{Duration, Instant};

use integration_tests::eventually;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Ground, done_soon, permitted_soon};
use crate::SOON;

/// An agent permits nothing of tier 2 when the server's word is older than this.
const BOUND: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn at_tier_two_a_silent_server_permits_nothing_and_after_five_seconds_nobody_waits_for_it() {
    let mut ground = Ground::new();
    ground.apply(&[json!({
        "kind": "Resource", "name": "box", "tenant": "acme", "enforcement_points": ["/gate"],
        "tools": { "look": { "effect": "read" }, "empty": { "effect": "delete" } },
    })]);
    ground.lower();

    let mut worker = ground.worker();
    let task = worker.begin("work");
    let (gate, client) = (ground.gate_soon().await, worker.for_task(&task));
    permitted_soon(&gate, &client).await;
    let empty = async || gate.ask(&client, "box/empty", "{}").await.expect("the session stands");
    done_soon(async || empty().await.permitted).await;

    ground.server.signal(Signal::SIGSTOP);
    let silent = Instant::now();
    let mut unheard = 0;
    loop {
        let asked = silent.elapsed();
        let verdict = empty().await;
        assert!(!verdict.permitted, "asked {asked:?} after the last word");
        match verdict.reason.as_str() {
            "stale" => break,
            // The server does not say that it has the record.
            "unrecorded" => assert!(asked < BOUND, "asked {asked:?} after the last word, and waited for it"),
            other => panic!("{other}"),
        }
        unheard += 1;
    }
    assert!(unheard > 0, "what is granted is judged for a while");
    let look = gate.ask(&client, "box/look", "{}").await.expect("the session stands");
    assert!(look.permitted, "what is less risky goes on: {}", look.reason);
    ground.server.signal(Signal::SIGCONT);
    done_soon(async || empty().await.permitted).await;

    let of_task = |kind| {
        let mut records = ground.recorded(kind);
        records.retain(|record| record["tool"] == "box/empty" && record["task"] == task);
        records
    };
    eventually("the denial is in the log, with its reason", SOON, || {
        let is_stale = |why: &str| why.starts_with("stale: ") && why.ends_with(", and 5 s are allowed");
        let decisions = of_task("decision");
        decisions.iter().any(|record| record["reason"].as_str().is_some_and(is_stale)).then_some(())
    });
    eventually("what was permitted if only the server had heard of it was not sent", SOON, || {
        let not_sent = of_task("outcome").into_iter().filter(|record| record["outcome"] == "not_sent");
        (not_sent.count() >= unheard).then_some(())
    });
}
