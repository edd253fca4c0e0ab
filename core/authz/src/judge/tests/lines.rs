//! Tasks below tasks: an ancestor's state, scope, budget and policies hold for all below it.

use std::sync::Arc;

use registry::{objects::Reason, scope::Label};
use serde_json::json;

use super::secret;
use crate::{Chain, Code, Verdict, World, chain::Standing, judge, testing::*};

/// A parent (1), its child (2) and the child's child (3).
fn line() -> Chain {
    let mut chain = chain();
    chain.delegate(Arc::new(grant(2, Some(1))), Standing::default(), NOW).unwrap();
    let mut below = grant(3, Some(2));
    (below.depth, below.depth_left) = (2, 1);
    chain.delegate(Arc::new(below), Standing::default(), NOW).unwrap();
    chain
}

fn of(task: u8, chain: &mut Chain, world: &World, tool: &str) -> Verdict {
    judge(chain, &id(task), world, &Good::default().situation(), &call(tool, json!({})), NOW)
}

#[test]
fn an_ancestors_end_or_suspension_holds_for_all_below() {
    let (mut chain, world) = (line(), world());
    assert_eq!(chain.suspend(&id(2), Reason::Administrator), [id(2), id(3)]);
    assert_eq!(of(1, &mut chain, &world, "files/read").code(), None);
    assert_eq!(of(3, &mut chain, &world, "files/read").code(), Some(Code::TaskSuspended));
    assert!(chain.resume(&id(2)));
    assert_eq!(of(3, &mut chain, &world, "files/read").code(), None);
    assert_eq!(chain.end(&id(1), Reason::Done), [id(1), id(2), id(3)]);
    for task in 1..=3 {
        assert_eq!(of(task, &mut chain, &world, "files/read").code(), Some(Code::TaskEnded));
    }
    assert!(chain.is_over() && chain.end(&id(1), Reason::Done).is_empty());
}

#[test]
fn a_child_can_do_nothing_that_a_task_above_it_cannot() {
    let world = world();
    let mut narrow = grant(1, None);
    narrow.scope = serde_json::from_value(json!([{ "tool": "files/read" }])).unwrap();
    let mut chain = Chain::begin(Arc::new(narrow), Standing::default(), NOW);
    chain.delegate(Arc::new(grant(2, Some(1))), Standing::default(), NOW).unwrap();
    assert_eq!(of(2, &mut chain, &world, "files/read").code(), None);
    assert_eq!(of(2, &mut chain, &world, "files/write").code(), Some(Code::OutOfScope));
}

#[test]
fn a_policy_about_the_parents_actor_decides_about_the_childs_call() {
    let mut world = world();
    let forbid = "@id(\"not-triage\") forbid(principal in Writ::Actor::\"spiffe://acme.example/agent/triage\", action, \
                  resource == Writ::Tool::\"files/write\");";
    world.put(&policy("actor/acme/x", forbid));
    world.settle();
    let verdict = of(2, &mut line(), &world, "files/write");
    let denial = verdict.denial().unwrap();
    assert_eq!((denial.code, denial.policies[0].as_ref()), (Code::PolicyDenied, "not-triage"));
    assert!(denial.explanation.contains(id(1).as_str()), "{}", denial.explanation);
}

#[test]
fn a_childs_actions_and_denials_are_spent_from_all_above() {
    let (mut chain, world) = (line(), world());
    for _ in 0..2 {
        of(3, &mut chain, &world, "files/read");
    }
    of(2, &mut chain, &world, "files/write");
    let spent = |task| chain.standing(&id(task)).unwrap().spent;
    assert_eq!(
        [spent(1), spent(2), spent(3)].map(|spent| (spent.reads, spent.changes)),
        [(2, 1), (2, 1), (2, 0)]
    );
    for _ in 0..3 {
        of(3, &mut chain, &world, "files/nothing");
    }
    let verdict = of(2, &mut chain, &world, "files/nothing");
    assert_eq!(verdict.suspended, [id(1), id(2), id(3)], "delegating does not start the count anew");
}

/// Attack A16: a task forks tasks without end.
#[test]
fn a_task_and_all_below_it_have_so_many_children_and_so_much_depth() {
    let mut chain = line();
    for child in [4, 5] {
        chain.delegate(Arc::new(grant(child, Some(1))), Standing::default(), NOW).unwrap();
    }
    let refused = chain.delegate(Arc::new(grant(6, Some(1))), Standing::default(), NOW).unwrap_err();
    assert_eq!(refused.code, Code::BudgetSpent, "two children, one grandchild, and one more are four");
    let mut leaf = grant(2, Some(1));
    leaf.depth_left = 0;
    let mut shallow = self::chain();
    shallow.delegate(Arc::new(leaf), Standing::default(), NOW).unwrap();
    let mut below = grant(3, Some(2));
    below.depth = 2;
    assert_eq!(
        shallow.delegate(Arc::new(below), Standing::default(), NOW).unwrap_err().code,
        Code::OutOfScope
    );
}

#[test]
fn nothing_begins_below_what_may_not_act() {
    let mut chain = chain();
    chain.end(&id(1), Reason::Done);
    let refused = chain.delegate(Arc::new(grant(2, Some(1))), Standing::default(), NOW).unwrap_err();
    assert_eq!(refused.code, Code::TaskEnded);
    let stranger = grant(4, Some(9));
    assert_eq!(chain.delegate(Arc::new(stranger), Standing::default(), NOW).unwrap_err().code, Code::NoTask);
}

#[test]
fn what_open_tasks_of_one_line_know_each_other_knows() {
    let mut chain = line();
    let raised = chain.raise(&id(3), &secret());
    assert_eq!(raised.len(), 3, "{raised:?}");
    assert_eq!(chain.label(&id(1)), Some(&secret()));
}

#[test]
fn a_confined_childs_answer_tells_its_parent_what_the_child_knows() {
    let mut confined = grant(1, None);
    confined.egress = registry::scope::Egress::Confined;
    let mut child = grant(2, Some(1));
    child.egress = registry::scope::Egress::Confined;
    let start = Standing { label: super::untrusted(), ..Standing::default() };
    let mut chain = Chain::begin(Arc::new(confined), start, NOW);
    chain.delegate(Arc::new(child), Standing::default(), NOW).unwrap();
    assert_eq!(chain.label(&id(2)), Some(&super::untrusted()), "a child starts with its parent's");
    chain.raise(&id(2), &secret());
    assert_eq!(chain.label(&id(1)), Some(&super::untrusted()));
    chain.answered(&id(2));
    assert_eq!(chain.label(&id(1)), Some(&super::untrusted().join(&secret())));
    assert_eq!(chain.label(&id(9)), None::<&Label>);
}
