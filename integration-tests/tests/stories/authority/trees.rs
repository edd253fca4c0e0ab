//! Children end with their parents, and there are only so many.

use integration_tests::guarded::{Guarded, is_denied};
use integration_tests::{eventually, needs};
use serde_json::json;

use super::{LONG, clerk, long};
use crate::SOON;

/// A9: the parent ends while its child is in the middle of a call.
#[test]
fn a_childs_call_ends_with_its_parent_and_its_answer_is_not_released() {
    if !needs::root() {
        return;
    }
    let Some(guarded) = Guarded::up_with_everything(&[("desk", clerk()), ("below", clerk())]) else { return };
    let (mut parent, task) = guarded.launched("desk");
    parent.say(json!(["run", guarded.launch_words("below"), long()]));
    let child = eventually("the child", SOON, || guarded.tasks("below").first().cloned());
    guarded.trace("nothing yet of the parent", &task, |_| true);
    guarded.recorded("that the child's call was permitted", |record| {
        record["task"] == child.as_str() && record["decision"] == "allow"
    });
    let began = std::time::Instant::now();
    let _ = guarded.writ.run(&["task", "end", &task, "--why", "enough"]).done();
    let answer = parent.hear();
    assert!(began.elapsed() < SOON, "a minute's call ended with the parent");
    assert!(is_denied(&answer["did"][0], "task_ended"), "{answer}");
    guarded.ended(&child, "ancestor");
    guarded.recorded("that nobody knows what the server did", |record| {
        record["task"] == child.as_str()
            && record["kind"] == "outcome"
            && record["outcome"] == "unknown"
            && record["tool"] == LONG
    });
    guarded.verified();
}

/// A16: one task tries to begin a thousand below it.
#[test]
fn of_a_thousand_children_a_task_has_as_many_as_its_mandate_says_and_all_end_with_it() {
    let mut above = clerk();
    above["budgets"] = json!({ "children": 20 });
    let mut below = clerk();
    below["isolation"] = json!("shared");
    let Some(guarded) = Guarded::up(&[("desk", above), ("below", below)]) else { return };
    let mut agent = guarded.agent();
    let task = agent.begin("desk");
    let swarm = agent.ask(json!(["swarm", "below", 1000]));
    assert_eq!(swarm["begun"], 20, "{swarm}");
    assert!(swarm["refused"]["why"].as_str().is_some_and(|why| why.contains("children")), "{swarm}");
    assert_eq!(guarded.tasks("below").len(), 20);
    let _ = guarded.writ.run(&["task", "end", &task, "--why", "a swarm"]).done();
    for child in guarded.tasks("below") {
        guarded.ended(&child, "ancestor");
    }
    guarded.recorded("that children were refused", |record| {
        record["kind"].as_str().is_some_and(|kind| kind.starts_with("task."))
            && record["outcome"] == "refused"
    });
    guarded.verified();
}
