//! Tier 3: the server is asked about each call, not each second.

use integration_tests::eventually;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Ground, done_soon, permitted_soon};
use crate::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn at_tier_three_a_silent_server_permits_nothing_from_the_first_call_on() {
    let mut ground = Ground::new();
    ground.apply(&[json!({
        "kind": "Resource", "name": "box", "tenant": "acme", "enforcement_points": ["/gate"],
        "tools": {
            "look": { "effect": "read" }, "burn": { "effect": "delete", "tier": 3 },
            "sell": { "effect": "pay", "tier": 3 },
        },
    })]);
    let scope = json!({ "scope": [{ "tool": "box/look" }, { "tool": "box/burn" }] });
    ground.apply(&[super::mandate("work", &scope)]);
    ground.approve("work");
    ground.lower();

    let mut worker = ground.worker();
    let task = worker.begin("work");
    let (gate, client) = (ground.gate_soon().await, worker.for_task(&task));
    permitted_soon(&gate, &client).await;
    let burn = async || gate.ask(&client, "box/burn", r#"{"page":7}"#).await.expect("the session stands");
    done_soon(async || burn().await.permitted).await;

    ground.server.signal(Signal::SIGSTOP);
    let (look, burnt, sold) =
        tokio::join!(gate.ask(&client, "box/look", "{}"), burn(), gate.ask(&client, "box/sell", "{}"));
    assert!(look.expect("the session stands").permitted, "what is less risky goes on");
    assert_eq!((burnt.permitted, burnt.reason.as_str()), (false, "stale"));
    // What is denied anyway is denied for its own reason, and waits for nobody.
    let sold = sold.expect("the session stands");
    assert_eq!((sold.permitted, sold.reason.as_str()), (false, "out_of_scope"));
    ground.server.signal(Signal::SIGCONT);
    assert!(burn().await.permitted, "the server speaks again");

    let records = eventually("the records are in the log", SOON, || {
        let records: Vec<_> = ground
            .recorded("decision")
            .into_iter()
            .filter(|record| record["tool"] == "box/burn" && record["task"] == task)
            .collect();
        records.iter().any(|record| record["decision"] == "deny").then_some(records)
    });
    let digest = &records[0]["args_digest"];
    assert!(digest.as_str().is_some_and(|digest| !digest.is_empty()), "the arguments have a digest");
    assert!(records.iter().all(|record| record["args_digest"] == *digest), "equal arguments, equal digests");
    assert!(
        records
            .iter()
            .all(|record| record["enforcement_point"].as_str().is_some_and(|id| id.ends_with("/gate"))),
        "the gate is named, and apart from it the task: {records:?}"
    );
}
