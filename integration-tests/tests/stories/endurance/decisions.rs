//! The ground itself: a call of a live task is permitted, and one of an ended task is not.

use super::{Ground, permitted_soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_permitted_while_its_task_lives_and_not_a_moment_longer() {
    let ground = Ground::new();
    let mut worker = ground.worker();
    let task = worker.begin("work");
    let gate = ground.gate_soon().await;
    let client = worker.for_task(&task);
    permitted_soon(&gate, &client).await;
    assert!(worker.end(&task));
    let verdict = gate.ask(&client, "box/look", "{}").await.expect("the session stands");
    assert!(!verdict.permitted);
    assert_eq!(verdict.reason, "no_task");
}
