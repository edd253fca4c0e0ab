//! Tasks over whole histories, and what a rogue agent gains.

use std::time::Duration;

use proptest::prelude::*;
use registry::{
    decide::{
        expire::Expire,
        task::{EndTask, ResumeTask, SuspendTask, To},
    },
    objects::{Reason, Task, TaskState},
};
use serde_json::json;

use crate::{
    support::{World, entry, id},
    work::{Work, change, from, task_id, terms},
};

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Child(usize),
    Home(usize, u8),
    Admin(usize, u8),
    Wait(u64),
    Switch(u8),
    Ceiling(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Begin),
        6 => (0..12_usize).prop_map(Step::Child),
        4 => (0..12_usize, 0..4_u8).prop_map(|(task, to)| Step::Home(task, to)),
        4 => (0..12_usize, 0..3_u8).prop_map(|(task, what)| Step::Admin(task, what)),
        2 => (1..500_u64).prop_map(Step::Wait),
        1 => (0..6_u8).prop_map(Step::Switch),
        2 => (0..4_u8).prop_map(Step::Ceiling),
    ]
}

fn take(work: &mut Work, seen: &mut Vec<Task>, step: &Step) {
    use registry::decide::{
        actor::{DisableActor, EnableActor},
        mandate::WithdrawMandate,
    };
    let why = || "why".to_owned();
    let pick = |seen: &[Task], n: usize| (!seen.is_empty()).then(|| seen[n % seen.len()].clone());
    match step {
        Step::Begin => seen.extend(work.begin(json!({ "ttl": 1000 }))),
        Step::Child(n) => {
            let child = pick(seen, *n).and_then(|parent| work.child(&parent).ok());
            seen.extend(child);
        }
        Step::Home(n, to) => {
            let to = match to {
                0 => To::Suspended(Reason::Probing),
                1 | 2 => To::Ended(Reason::Done),
                _ => To::Closed,
            };
            drop(pick(seen, *n).map(|task| change(work, &task, to)));
        }
        Step::Admin(n, what) => {
            let Some(Task { id, .. }) = pick(seen, *n) else { return };
            drop(match what {
                0 => work.world.run(EndTask { id, why: why() }),
                1 => work.world.run(SuspendTask { id, why: why() }),
                _ => work.world.run(ResumeTask { id, why: why() }),
            });
        }
        Step::Wait(seconds) => {
            work.world.wait(*seconds);
            work.world.run(Expire);
        }
        Step::Switch(0) => drop(work.world.run(DisableActor { id: id("/agent/triage"), why: why() })),
        Step::Switch(1) => {
            let withdrawn = work.world.run(WithdrawMandate { name: from(json!("help")) });
            drop(withdrawn.and_then(|()| work.approve("help")));
        }
        Step::Switch(_) => drop(work.world.run(EnableActor { id: id("/agent/triage") })),
        Step::Ceiling(which) => {
            let tools = [
                json!([{ "tool": "files/*" }]),
                json!([{ "tool": "files/a" }, { "tool": "mail/*" }]),
                json!([]),
                json!([{ "tool": "files/*" }, { "tool": "files/a" }]),
            ];
            let mut actor = crate::work::actor("triage");
            actor["ceiling"]["scope"] = tools[usize::from(*which)].clone();
            work.actor(actor).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn nothing_leaves_ended_children_have_less_and_caps_hold(steps in prop::collection::vec(step(), 1..60)) {
        let mut settings = registry::Settings::new("acme.example".parse().unwrap());
        settings.tasks = registry::TaskCaps { of_actor: 4, on_node: 6, of_tenant: 100 };
        let mut work = Work::with(World::with(settings));
        let mut seen = Vec::new();
        for step in &steps {
            let before: Vec<Task> = work.world.registry.tasks().map(|task| Task::clone(task)).collect();
            take(&mut work, &mut seen, step);
            for old in &before {
                let Some(new) = work.world.registry.task(&old.id) else {
                    prop_assert!(old.is_ended(), "{} was forgotten alive", old.id);
                    continue;
                };
                if let TaskState::Ended { reason, at, .. } = old.state {
                    let same = matches!(new.state, TaskState::Ended { reason: r, at: a, .. } if (r, a) == (reason, at));
                    prop_assert!(same, "{:?} became {:?}", old.state, new.state);
                }
                prop_assert_eq!(new.scope.within(&old.scope), Ok(new.scope.clone()), "a scope grew");
                prop_assert!(new.data_max <= old.data_max);
            }
            let tasks: Vec<&Task> = work.world.registry.tasks().map(|task| &**task).collect();
            for task in &tasks {
                let Some(parent) = task.parent.as_ref().and_then(|id| work.world.registry.task(id)) else { continue };
                let has_less = task.scope.within(&parent.scope) == Ok(task.scope.clone());
                prop_assert!(has_less || task.is_ended(), "{:?} under {:?}", task.scope, parent.scope);
                prop_assert!(task.expires_at <= parent.expires_at && task.depth == parent.depth + 1);
                prop_assert!(task.home == parent.home && task.root == parent.root);
                prop_assert!(!parent.is_ended() || task.is_ended(), "a child outlives its parent");
                prop_assert!(parent.state == TaskState::Active || task.state != TaskState::Active);
            }
            let live = |of: &dyn Fn(&Task) -> bool| tasks.iter().filter(|task| !task.is_ended() && of(task)).count();
            prop_assert!(live(&|task| task.actor == id("/agent/triage")) <= 4);
            prop_assert!(live(&|task| task.home == work.node) <= 6);
        }
    }
}

proptest! {
    /// Whatever a rogue agent asks for, it gets at most what the mandate and the ceiling give an actor that is placed
    /// on its own node.
    #[test]
    fn a_rogue_agent_gains_nothing(
        node in 0..2_usize, entry_of in 0..6_usize, mandate in 0..5_usize, ttl in prop::option::of(0..1_000_000_u32),
        tools in prop::option::of(prop::collection::vec(0..5_usize, 0..4)), parent in 0..4_usize, beginner in 0..4_usize,
        isolation in 0..3_usize, egress in 0..2_usize, own_id in 0..3_usize,
    ) {
        let mut work = Work::new();
        let scheduler = entry("scheduler-b", "/scheduler", &work.other.clone());
        work.world.create(scheduler).result.unwrap();
        let risky = json!({ "begin": { "workloads": [id("/scheduler")] }, "tier": 2, "scope": [{ "tool": "mail/*" }] });
        work.mandate("risky", terms("triage", risky));
        let own = work.begin(json!({ "scope": [{ "tool": "files/read" }], "ttl": 50 })).unwrap();
        let (far_id, far_node) = (work.new_id(), work.other.clone());
        let far = work.begin_as(&far_node, far_id, Work::wish(json!({ "entry": "cleaner", "mandate": "clean" }))).unwrap();
        let nodes = [work.node.clone(), work.other.clone()];
        let entries = ["triage", "helper", "cleaner", "scheduler", "scheduler-b", "nobody"];
        let mandates = ["sort", "help", "clean", "risky", "nothing"];
        let (isolations, egresses) = (["shared", "process", "cgroup"], ["open", "confined"]);
        let mut wish = json!({
            "entry": (entries[entry_of]), "mandate": (mandates[mandate]),
            "isolation": (isolations[isolation]), "egress": (egresses[egress]),
        });
        if let Some(ttl) = ttl { wish["ttl"] = json!(ttl); }
        if let Some(tools) = &tools {
            let patterns = ["files/*", "files/read", "mail/*", "shop/*", "mail/send"];
            let tools = tools.iter().map(|n| json!({ "tool": (patterns[*n]) }));
            wish["scope"] = tools.collect();
        }
        match parent { 0 => wish["parent"] = json!(own.id), 1 => wish["parent"] = json!(far.id), 2 => wish["parent"] = json!(task_id(work.world.now, 4242)), _ => {} }
        if beginner > 0 { wish["beginner"] = entries[beginner + 2].into(); }
        let id = match own_id { 0 => own.id.clone(), 1 => far.id.clone(), _ => work.new_id() };
        let before = work.world.registry.tasks().len();
        let Ok(task) = work.begin_as(&nodes[node], id, Work::wish(wish)) else {
            prop_assert_eq!(work.world.registry.tasks().len(), before);
            return Ok(());
        };
        prop_assert!(own_id == 2 && task.home == nodes[node]);
        let placed = match task.actor.path() {
            "/agent/triage" | "/agent/helper" => 0,
            _ => 1,
        };
        prop_assert_eq!(placed, node, "a foreign actor's task");
        let mandate = work.world.registry.mandate(&task.mandate).unwrap();
        let terms = &mandate.approved.as_ref().unwrap().terms;
        prop_assert_eq!(&terms.actor, &task.actor);
        prop_assert_eq!(task.scope.within(&terms.scope), Ok(task.scope.clone()));
        let ceiling = &work.world.registry.actor(&task.actor).unwrap().ceiling;
        prop_assert_eq!(task.scope.within(&ceiling.scope), Ok(task.scope.clone()));
        prop_assert!(task.expires_at <= work.world.now + Duration::from_secs(terms.ttl.into()));
        prop_assert!(u8::from(task.tier) < 2 || (isolation == 2 && egress == 1));
        if terms.tier >= from(json!(2)) {
            prop_assert!(matches!(task.beginner, registry::objects::Beginner::Workload(_)));
        }
        if let Some(parent) = &task.parent {
            prop_assert_eq!(parent, &own.id);
            prop_assert_eq!(task.scope.within(&own.scope), Ok(task.scope.clone()));
            prop_assert!(task.expires_at <= own.expires_at);
        }
    }
}
