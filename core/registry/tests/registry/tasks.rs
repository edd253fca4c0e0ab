//! How tasks begin, and how they end.

use std::time::Duration;

use registry::{
    decide::{
        environment::SetEnvironment,
        expire::Expire,
        node::{BanNode, EvictNode},
        policy::{PolicyText, ReplacePolicies},
        task::{ChangeTasks, EndTask, HomeChange, ResumeTask, SuspendTask, To},
    },
    objects::{Layer, Reason, Task, TaskState},
};
use serde_json::{Value, json};

use crate::{
    support::{World, id},
    work::{Work, assert_refused, change, from, task_id, terms},
};

#[test]
fn a_task_is_what_ceiling_mandate_and_asker_allow_together() {
    let mut work = Work::new();
    let scope = json!([{ "tool": "files/*", "args": { "path": [{ "under_param": "dir" }], "to": ["optional"] } }, { "tool": "shop/*" }]);
    work.mandate(
        "narrow",
        terms("triage", json!({ "scope": scope, "parameters": { "dir": { "text": { "max_bytes": 40 } } } })),
    );
    let asked = json!({
        "mandate": "narrow", "params": { "dir": "/tickets/7" }, "ttl": 60,
        "scope": [{ "tool": "files/read" }, { "tool": "mail/send" }],
    });
    let task = work.begin(asked).unwrap();
    let left = json!([{ "tool": "files/read", "args": { "path": [{ "under": "/tickets/7" }], "to": ["optional"] } }]);
    assert_eq!(
        serde_json::to_value(&task.scope).unwrap(),
        left,
        "no shop (ceiling), no mail (mandate), only read (asked)"
    );
    assert_eq!(task.expires_at, work.world.now + Duration::from_secs(60));
    assert_eq!(u8::from(task.data_max), 1, "the lower of ceiling and mandate");
    assert_eq!(task.root, task.id);
    let record = work.world.last_record();
    assert_eq!((&record["kind"], &record["facts"]["task"]), (&json!("task.begin"), &json!(task.id)));
    for (params, says) in [
        (json!({}), "the parameter dir is missing"),
        (json!({ "dir": 7 }), "is not what the mandate allows"),
        (json!({ "dir": "/x", "other": 1 }), "no parameter other"),
    ] {
        assert_refused(work.begin(json!({ "mandate": "narrow", "params": params })), says);
    }
    let nothing =
        json!({ "mandate": "narrow", "params": { "dir": "/x" }, "scope": [{ "tool": "mail/send" }] });
    assert_refused(work.begin(nothing), "nothing is left");
    let long = work.begin(json!({ "ttl": 1_000_000 })).unwrap();
    assert_eq!(long.expires_at, work.world.now + Duration::from_secs(3600), "never longer than the mandate");
}

#[test]
fn the_same_request_again_is_the_same_task_and_no_other_request_takes_its_name() {
    let mut work = Work::new();
    let (id, node) = (work.new_id(), work.node.clone());
    let wish = Work::wish(json!({ "ttl": 60 }));
    let task = work.begin_as(&node, id.clone(), wish.clone()).unwrap();
    work.world.wait(5);
    let commits = work.world.log.len();
    assert_eq!(work.begin_as(&node, id.clone(), wish.clone()), Ok(task.clone()));
    assert_eq!(work.world.log.len(), commits);
    let others = [
        json!({ "ttl": 61 }),
        json!({ "ttl": 60, "note": "x" }),
        json!({ "ttl": 60, "isolation": "cgroup" }),
    ];
    for other in others {
        assert_refused(work.begin_as(&node, id.clone(), Work::wish(other)), "this task id is used");
    }
    let elsewhere = Work::wish(json!({ "entry": "cleaner", "mandate": "clean" }));
    let other = work.other.clone();
    assert_refused(work.begin_as(&other, id.clone(), elsewhere), "this task id is used");
    work.world.run(EndTask { id: id.clone(), why: "enough".to_owned() }).unwrap();
    assert_refused(work.begin_as(&node, id.clone(), wish.clone()), "this task id is used");
    // Long forgotten, and still no new task.
    work.world.wait(3600);
    work.world.run(Expire);
    assert!(work.world.registry.task(&id).is_none());
    assert_refused(work.begin_as(&node, id, wish.clone()), "which is not now");
    let ahead = task_id(work.world.now + Duration::from_secs(301), 9);
    assert_refused(work.begin_as(&node, ahead, wish), "which is not now");
}

#[test]
fn a_node_begins_nothing_for_actors_that_are_not_placed_on_it() {
    let mut work = Work::new();
    let foreign = json!({ "entry": "cleaner", "mandate": "clean" });
    assert_refused(work.begin(foreign), "the entry cleaner is not for this node");
    let invented = json!({ "entry": "nobody" });
    assert_refused(work.begin(invented), "the entry nobody is not for this node");
    for mandate in ["clean", "help", "invented"] {
        assert_refused(
            work.begin(json!({ "mandate": mandate })),
            &format!("has no approved mandate {mandate}"),
        );
    }
    assert_refused(work.begin(json!({ "entry": "scheduler" })), "has no approved mandate sort");
}

#[test]
fn only_whom_the_mandate_names_may_begin() {
    let mut work = Work::new();
    let scheduled = terms("triage", json!({ "begin": { "workloads": [id("/scheduler")] }, "tier": 2 }));
    work.mandate("scheduled", scheduled);
    let strong = |beginner: Value| json!({ "mandate": "scheduled", "beginner": beginner, "isolation": "cgroup", "egress": "confined" });
    assert_refused(
        work.begin(
            strong(json!(null))
                .as_object()
                .map(|o| {
                    let mut o = o.clone();
                    o.remove("beginner");
                    Value::Object(o)
                })
                .unwrap(),
        ),
        "may not begin this mandate by itself",
    );
    for other in ["triage", "helper", "cleaner", "nobody"] {
        assert_refused(work.begin(strong(json!(other))), "this workload may not begin");
    }
    let task = work.begin(strong(json!("scheduler"))).unwrap();
    assert_eq!(serde_json::to_value(&task.beginner).unwrap(), json!({ "workload": id("/scheduler") }));
    assert_refused(work.begin(json!({ "beginner": "scheduler" })), "this workload may not begin");
}

#[test]
fn a_child_has_less_than_its_parent_and_ends_with_it() {
    let mut work = Work::new();
    let parent = work.begin(json!({ "ttl": 100, "scope": [{ "tool": "files/read" }] })).unwrap();
    let child = work.child(&parent).unwrap();
    assert_eq!((&child.root, child.depth, child.depth_left), (&parent.id, 1, 1));
    assert_eq!(child.scope, parent.scope);
    assert_eq!(child.expires_at, parent.expires_at);
    assert_eq!(work.task(&parent).children, 1);
    assert_refused(work.child(&child), "tasks of this actor may not begin");
    let both = json!({ "mandate": "help", "entry": "helper", "parent": parent.id, "beginner": "scheduler" });
    assert_refused(work.begin(both), "one beginner");
    let invented = json!({ "mandate": "help", "entry": "helper", "parent": task_id(work.world.now, 99) });
    assert_refused(work.begin(invented), "there is no task");
    // A task of another node is no parent here.
    let other = work.other.clone();
    let id = work.new_id();
    let far =
        work.begin_as(&other, id, Work::wish(json!({ "entry": "cleaner", "mandate": "clean" }))).unwrap();
    let below = json!({ "mandate": "help", "entry": "helper", "parent": far.id });
    assert_refused(work.begin(below), "on this node");
    change(&mut work, &parent, To::Ended(Reason::Done)).unwrap();
    assert_eq!(work.state(&child), "ended: ancestor");
    assert_refused(work.child(&parent), "is not active");
}

#[test]
fn depth_and_children_run_out() {
    let mut work = Work::new();
    let alone = json!({ "budgets": { "children": 2 }, "max_depth": 1, "begin": { "itself": true, "parents": [id("/agent/triage")] } });
    work.mandate("sort", terms("triage", alone));
    let parent = work.begin(json!({})).unwrap();
    let below = |parent: &Task| json!({ "parent": parent.id });
    let child = work.begin(below(&parent)).unwrap();
    assert_refused(work.begin(below(&child)), "no further task may stand below");
    change(&mut work, &child, To::Ended(Reason::Done)).unwrap();
    work.begin(below(&parent)).unwrap();
    assert_refused(work.begin(below(&parent)), "as many children as it may");
}

#[test]
fn caps_hold_for_actor_node_and_tenant() {
    let mut settings = registry::Settings::new("acme.example".parse().unwrap());
    settings.tasks = registry::TaskCaps { of_actor: 2, on_node: 3, of_tenant: 4 };
    let mut work = Work::with(World::with(settings));
    let help = terms("helper", json!({}));
    work.mandate("help", help);
    let helper = || json!({ "mandate": "help", "entry": "helper" });
    let first = work.begin(json!({})).unwrap();
    work.begin(json!({})).unwrap();
    assert_refused(work.begin(json!({})), "this actor has 2 tasks");
    work.begin(helper()).unwrap();
    assert_refused(work.begin(helper()), "this node has 3 tasks");
    let other = work.other.clone();
    let clean = || Work::wish(json!({ "mandate": "clean", "entry": "cleaner" }));
    let id = work.new_id();
    work.begin_as(&other, id, clean()).unwrap();
    let id = work.new_id();
    assert_refused(work.begin_as(&other, id, clean()), "this tenant has 4 tasks");
    change(&mut work, &first, To::Ended(Reason::Done)).unwrap();
    work.begin(json!({})).unwrap();
}

#[test]
fn isolation_and_egress_are_as_the_tier_needs_unless_the_platform_lowers_them_by_name() {
    let mut work = Work::new();
    let begin = json!({ "workloads": [id("/scheduler")] });
    work.mandate("risky", terms("triage", json!({ "begin": begin, "tier": 2 })));
    let measured = |isolation: &str, egress: &str| json!({ "mandate": "risky", "beginner": "scheduler", "isolation": isolation, "egress": egress });
    work.begin(measured("cgroup", "confined")).unwrap();
    assert_refused(
        work.begin(measured("process", "confined")),
        "the isolation of the asking process is process",
    );
    assert_refused(work.begin(measured("cgroup", "open")), "the egress of the asking process is open");
    let policy = |lowers: Value| ReplacePolicies {
        layer: Layer::Platform,
        policies: [(
            "platform/lab".parse().unwrap(),
            PolicyText { text: String::new(), lowers: from(lowers) },
        )]
        .into(),
    };
    work.world.run(policy(json!({ "egress": [2] }))).unwrap();
    let task = work.begin(measured("cgroup", "open")).unwrap();
    assert_eq!(
        serde_json::to_value(&task.lowered_by).unwrap(),
        json!(["platform/lab"]),
        "whose choice it was is told"
    );
    assert!(work.begin(measured("cgroup", "confined")).unwrap().lowered_by.is_empty());
    assert_refused(work.begin(measured("process", "open")), "isolation");
    work.world.run(policy(json!({ "egress": [2], "isolation": [2] }))).unwrap();
    work.begin(measured("process", "open")).unwrap();
    assert_refused(work.begin(measured("shared", "open")), "isolation");
    // What the mandate itself asks for is not lowered.
    let strict = json!({ "begin": { "workloads": [id("/scheduler")] }, "tier": 2, "egress": "confined" });
    work.mandate("risky", terms("triage", strict));
    assert_refused(work.begin(measured("cgroup", "open")), "egress");
    assert_refused(work.begin(json!({ "isolation": "shared" })), "isolation");
    work.mandate("sort", terms("triage", json!({ "isolation": "shared" })));
    work.begin(json!({ "isolation": "shared" })).unwrap();
}

#[test]
fn a_task_counts_in_the_environment_of_its_node_and_does_not_move() {
    let mut work = Work::new();
    let task = work.begin(json!({})).unwrap();
    assert_eq!(task.environment.as_str(), "default");
    let to = |work: &Work, environment: &str| SetEnvironment {
        node: work.node.clone(),
        environment: environment.parse().unwrap(),
    };
    let (prod, same) = (to(&work, "prod"), to(&work, "default"));
    work.world.run(same).unwrap();
    assert_eq!(work.state(&task), "active");
    work.world.run(prod).unwrap();
    assert_eq!(work.state(&task), "ended: environment_changed");
    assert_refused(work.begin(json!({})), "stands in the environment prod");
    work.mandate("sort", terms("triage", json!({ "environments": ["prod"] })));
    assert_eq!(work.begin(json!({})).unwrap().environment.as_str(), "prod");
}

#[test]
fn tasks_end_with_their_node_and_at_their_time_and_are_forgotten_later() {
    let mut work = Work::new();
    let task = work.begin(json!({ "ttl": 60 })).unwrap();
    let child = work.child(&task).unwrap();
    work.world.wait(59);
    work.world.run(Expire);
    assert_eq!(work.state(&task), "active");
    work.world.wait(1);
    work.world.run(Expire);
    assert_eq!(work.state(&task), "ended: ttl");
    assert!(matches!(work.task(&child).state, TaskState::Ended { .. }));
    work.world.wait(600);
    work.world.run(Expire);
    assert!(work.world.registry.task(&task.id).is_none() && work.world.registry.task(&child.id).is_none());
    let task = work.begin(json!({})).unwrap();
    let node = work.node.clone();
    work.world.run(BanNode { id: node.clone() }).unwrap();
    assert_eq!(work.state(&task), "ended: node_lost");
    assert_refused(work.begin(json!({})), "not for this node");
    work.world.run(EvictNode { id: node }).unwrap();
    assert_eq!(work.state(&task), "ended: node_lost");
}

#[test]
fn a_home_takes_away_and_never_gives_back() {
    let mut work = Work::new();
    let task = work.begin(json!({})).unwrap();
    let child = work.child(&task).unwrap();
    assert_refused(change(&mut work, &task, To::Closed), "is not over");
    assert_refused(change(&mut work, &task, To::Ended(Reason::Administrator)), "not for a node to say");
    change(&mut work, &task, To::Suspended(Reason::Probing)).unwrap();
    assert_eq!(
        (work.state(&task), work.state(&child)),
        ("suspended: probing".into(), "suspended: ancestor".into())
    );
    let commits = work.world.log.len();
    change(&mut work, &task, To::Suspended(Reason::Probing)).unwrap();
    assert_eq!(work.world.log.len(), commits, "repeating it is safe");
    change(&mut work, &task, To::Ended(Reason::DomainDead)).unwrap();
    change(&mut work, &task, To::Suspended(Reason::Probing)).unwrap();
    change(&mut work, &task, To::Ended(Reason::Done)).unwrap();
    assert_eq!(work.state(&task), "ended: domain_dead");
    change(&mut work, &task, To::Closed).unwrap();
    assert!(matches!(work.task(&task).state, TaskState::Ended { closed: true, .. }));
    // Another node's tasks are none of its business.
    let task = work.begin(json!({})).unwrap();
    let (node, at) = (work.other.clone(), work.world.now);
    let changes = vec![HomeChange { task: task.id.clone(), to: To::Ended(Reason::Done), at }];
    assert_refused(work.world.run(ChangeTasks { node, changes }).remove(0), "no task");
    assert_eq!(work.state(&task), "active");
}

#[test]
fn a_home_that_tells_what_an_administrator_did_is_told_that_it_is_so() {
    let mut work = Work::new();
    let task = work.begin(json!({})).unwrap();
    let tell = |work: &mut Work, to| {
        let (node, at) = (task.home.clone(), work.world.now);
        work.world
            .run(ChangeTasks { node, changes: vec![HomeChange { task: task.id.clone(), to, at }] })
            .remove(0)
    };
    for to in [To::Suspended(Reason::Administrator), To::Ended(Reason::Administrator)] {
        assert_refused(tell(&mut work, to), "not for a node to say");
    }
    work.world.run(SuspendTask { id: task.id.clone(), why: "looking".to_owned() }).unwrap();
    tell(&mut work, To::Suspended(Reason::Administrator)).unwrap();
    assert_refused(tell(&mut work, To::Ended(Reason::ActorDisabled)), "not for a node to say");
    work.world.run(EndTask { id: task.id.clone(), why: "looked".to_owned() }).unwrap();
    for to in [To::Suspended(Reason::Administrator), To::Ended(Reason::ActorDisabled)] {
        tell(&mut work, to).unwrap();
    }
    assert_eq!(work.state(&task), "ended: administrator");
}

#[test]
fn an_administrator_suspends_resumes_and_ends() {
    let mut work = Work::new();
    let task = work.begin(json!({})).unwrap();
    let child = work.child(&task).unwrap();
    let why = || "looking".to_owned();
    work.world.run(SuspendTask { id: child.id.clone(), why: why() }).unwrap();
    work.world.run(SuspendTask { id: task.id.clone(), why: why() }).unwrap();
    assert_refused(work.world.run(ResumeTask { id: child.id.clone(), why: why() }), "above it is not active");
    work.world.run(ResumeTask { id: task.id.clone(), why: why() }).unwrap();
    assert_eq!(work.state(&task), "active");
    assert_eq!(work.state(&child), "suspended: administrator", "it was suspended for a reason of its own");
    assert_refused(
        work.world.run(EndTask { id: task.id.clone(), why: " ".to_owned() }),
        "the reason is empty",
    );
    work.world.run(EndTask { id: task.id.clone(), why: why() }).unwrap();
    assert_eq!(work.state(&child), "ended: ancestor");
    assert_refused(work.world.run(ResumeTask { id: task.id.clone(), why: why() }), "nothing brings it back");
    assert_refused(work.world.run(SuspendTask { id: task.id.clone(), why: why() }), "nothing brings it back");
    let nobody = task_id(work.world.now, 77);
    assert_refused(work.world.run(EndTask { id: nobody, why: why() }), "there is no task");
}
