use std::sync::Arc;

use proptest::prelude::*;
use registry::{
    objects::{Reason, TaskId},
    scope::{Egress, Label},
};
use serde_json::json;

use super::*;
use crate::{Decision, Permit, permit, testing::*};

/// Something that happens to one of five tasks: 1 above 2 and 3, 2 above 4, 4 above 5.
#[derive(Clone, Debug)]
enum Event {
    Raise(u8, u8),
    Release(u8, u8),
    Answered(u8),
    Suspend(u8),
    Resume(u8),
    End(u8),
    Call(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..6_u8, 0..4_u8).prop_map(|(task, level)| Event::Raise(task, level)),
        (1..6_u8, 0..4_u8).prop_map(|(task, level)| Event::Release(task, level)),
        (1..6_u8).prop_map(Event::Answered),
        (1..6_u8).prop_map(Event::Suspend),
        (1..6_u8).prop_map(Event::Resume),
        (1..6_u8).prop_map(Event::End),
        (1..6_u8).prop_map(Event::Call),
    ]
}

fn tree(open: [bool; 5]) -> Chain {
    let grant = |task: u8, parent: Option<u8>, depth: u8| {
        let mut grant = grant(task, parent);
        (grant.depth, grant.depth_left) = (depth, 5 - depth);
        grant.egress = if open[usize::from(task) - 1] { Egress::Open } else { Egress::Confined };
        Arc::new(grant)
    };
    let mut chain = Chain::begin(grant(1, None, 0), Standing::default(), NOW);
    for (task, parent, depth) in [(2, 1, 1), (3, 1, 1), (4, 2, 2), (5, 4, 3)] {
        chain.delegate(grant(task, Some(parent), depth), Standing::default(), NOW).unwrap();
    }
    chain
}

fn level(level: u8) -> Label {
    Label { confidentiality: level.try_into().unwrap(), ..Label::default() }
}

proptest! {
    #[test]
    fn whatever_happens_labels_rise_ends_stay_and_no_permit_outlives_a_change(
        open in any::<[bool; 5]>(),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let (mut chain, world) = (tree(open), world());
        let ids: Vec<TaskId> = (1..6).map(id).collect();
        for event in events {
            let before: Vec<_> = ids.iter().map(|id| chain.standing(id).unwrap()).collect();
            let epochs: Vec<_> = ids.iter().map(|id| chain.epoch(id).unwrap().now()).collect();
            match event {
                Event::Raise(task, to) => drop(chain.raise(&id(task), &level(to))),
                Event::Release(task, to) => drop(chain.release(&id(task), &level(to), NOW)),
                Event::Answered(task) => drop(chain.answered(&id(task))),
                Event::Suspend(task) => drop(chain.suspend(&id(task), Reason::Administrator)),
                Event::Resume(task) => drop(chain.resume(&id(task))),
                Event::End(task) => drop(chain.end(&id(task), Reason::Done)),
                Event::Call(task) => {
                    let good = Good::default();
                    let mut situation = good.situation();
                    situation.egress = Egress::Confined;
                    let verdict =
                        crate::judge(&mut chain, &id(task), &world, &situation, &call("files/read", json!({})), NOW);
                    prop_assert_eq!(verdict.code().is_none(), chain.may_act(&id(task), NOW).is_ok());
                }
            }
            for ((id, before), epoch) in ids.iter().zip(before).zip(epochs) {
                let now = chain.standing(id).unwrap();
                prop_assert!(before.label.is_within(&now.label), "a label fell");
                prop_assert!(!matches!(before.state, State::Ended(_)) || now.state == before.state, "an end was lifted");
                prop_assert!(before.state == now.state || chain.epoch(id).unwrap().now() != epoch, "permits live on");
                let parent = chain.grant(id).unwrap().parent.clone();
                if let Some(parent) = parent.as_ref().and_then(|parent| chain.standing(parent)) {
                    let ended = matches!(parent.state, State::Ended(_));
                    prop_assert!(!ended || matches!(now.state, State::Ended(_)), "a child outlived its parent");
                    prop_assert!(parent.spent.reads >= now.spent.reads, "a child spent what its parent did not have");
                }
            }
            for (task, parent) in [(2, 1), (3, 1), (4, 2), (5, 4)] {
                if open[task - 1] || open[parent - 1] {
                    let label = |task: usize| chain.label(&ids[task - 1]).unwrap();
                    prop_assert_eq!(label(task), label(parent), "one of two that can talk knows more");
                }
            }
        }
    }
}

#[test]
fn what_a_task_was_before_a_restart_it_is_afterwards() {
    let (mut chain, world) = (chain(), world());
    ask(&mut chain, &world, &call("files/write", json!({})));
    chain.raise(&id(1), &level(2));
    chain.suspend(&id(1), Reason::Administrator);
    let written = serde_json::to_vec(&chain.standing(&id(1)).unwrap()).unwrap();
    let again = Chain::begin(Arc::new(grant(1, None)), serde_json::from_slice(&written).unwrap(), NOW);
    assert_eq!(again.standing(&id(1)), chain.standing(&id(1)));
    assert_eq!(again.may_act(&id(1), NOW).unwrap_err().code, Code::TaskSuspended);
}

fn permit() -> (Chain, crate::ToolCall, Permit) {
    let (mut chain, read) = (chain(), call("files/read", json!({ "path": "/a" })));
    let verdict = ask(&mut chain, &world(), &read);
    assert!(!verdict.needs_acknowledgement());
    (chain, read, Permit::from_record(verdict, durable(), NOW).unwrap())
}

#[test]
fn a_permit_is_for_one_call_for_a_second_while_nothing_has_changed() {
    let (_chain, read, first) = permit();
    assert!(first.spend(&read, later(1)).is_ok());
    let late = crate::Now { boot: NOW.boot + permit::LIFETIME + std::time::Duration::from_nanos(1), ..NOW };
    let (_chain, read, second) = permit();
    assert_eq!(second.spend(&read, late).unwrap_err().code, Code::PermitExpired);
    for other in [call("files/read", json!({ "path": "/b" })), call("files/secret", json!({ "path": "/a" }))]
    {
        let (_chain, _, third) = permit();
        assert_eq!(third.spend(&other, NOW).unwrap_err().code, Code::PermitExpired);
    }
}

#[test]
fn an_end_or_a_suspension_voids_the_permits_that_are_out_and_those_being_used() {
    let (mut chain, read, spent) = permit();
    let spent = spent.spend(&read, NOW).unwrap();
    let (_, other, _) = permit();
    let verdict = ask(&mut chain, &world(), &other);
    let out = Permit::from_record(verdict, durable(), NOW).unwrap();
    assert!(!spent.is_void() && !out.is_void());
    chain.suspend(&id(1), Reason::Administrator);
    chain.resume(&id(1));
    assert!(spent.is_void() && out.is_void(), "a task that goes on begins new calls");
    assert_eq!(out.spend(&other, NOW).unwrap_err().code, Code::TaskEnded);
}

#[test]
fn a_recorded_denial_is_no_permit() {
    let verdict = ask(&mut chain(), &world(), &call("files/nothing", json!({})));
    assert!(matches!(verdict.decision, Decision::Deny(_)));
    assert_eq!(Permit::from_record(verdict, durable(), NOW).unwrap_err().code, Code::UnknownTool);
}

#[test]
fn a_verdict_of_tier_2_waits_for_the_server_too() {
    let mut world = world();
    world.put(&policy("platform/defaults", "// lowered"));
    world.settle();
    assert!(ask(&mut chain(), &world, &call("mail/erase", json!({}))).needs_acknowledgement());
    assert!(!ask(&mut chain(), &world, &call("mail/send", json!({}))).needs_acknowledgement());
}
