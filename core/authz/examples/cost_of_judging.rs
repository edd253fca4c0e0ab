//! What a decision costs with 1,000 policies, and what it takes to push one:
//! `cargo run --release -p writ-authz --example cost_of_judging`.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use authz::{Chain, Freshness, Now, Situation, ToolCall, World, chain::Standing, judge};
use registry::{
    objects::{Object, Task, TaskId},
    scope::{Egress, Isolation, Label},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spiffe::Timestamp;

fn main() {
    let now = Now { wall: Timestamp::from_unix_seconds(1_800_000_000), boot: Duration::from_secs(1000) };
    for policies in [11, 101, 1001] {
        let world = world(policies);
        assert_eq!(world.policies().faults().next(), None);
        for tasks in [1, 2, 3] {
            decisions(&world, policies, tasks, now);
        }
    }
    pushes();
}

/// So many decisions for the last task of a line of tasks.
fn decisions(world: &World, policies: usize, tasks: u8, now: Now) {
    let mut chain = Chain::begin(Arc::new(grant(1, None)), Standing::default(), now);
    for child in 2..=tasks {
        chain.delegate(Arc::new(grant(child, Some(child - 1))), Standing::default(), now).expect("a child");
    }
    let gate = "spiffe://acme.example/gate".parse().expect("an ID");
    let (environment, nothing) = ("prod".parse().expect("a name"), Label::default());
    let situation = Situation {
        enforcement_point: &gate,
        remote: false,
        is_member: true,
        is_as_measured: true,
        environment: &environment,
        isolation: Isolation::Process,
        egress: Egress::Open,
        domain: &nothing,
        stored: &nothing,
        head: Some(now.boot),
        confirmed: true,
        freshness: Freshness::default(),
    };
    let calls: Vec<_> = (0..50)
        .map(|at| {
            let arguments = json!({ "path": format!("/srv/docs/{at}"), "limit": at, "tags": ["a", "b"] });
            ToolCall::new(format!("r{at}/read").parse().expect("a tool"), Some(arguments)).expect("a call")
        })
        .collect();
    let mut times = Vec::new();
    for call in calls.iter().cycle().take(20_000) {
        let begin = Instant::now();
        let verdict = judge(&mut chain, &id(tasks), world, &situation, call, now);
        times.push(begin.elapsed());
        assert_eq!(verdict.denial(), None);
        black_box(&verdict);
    }
    report(&format!("judge, {policies:4} policies, {} ancestors", tasks - 1), times);
}

/// Compiling everything, and again with one policy changed.
fn pushes() {
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let begin = Instant::now();
        let mut world = world(1000);
        cold.push(begin.elapsed());
        for change in 0..5 {
            let text = policy(
                "actor/acme/p500",
                &format!("permit(principal, action, resource) when {{ {change} > 9 }};"),
            );
            let begin = Instant::now();
            world.put(&text);
            world.settle();
            warm.push(begin.elapsed());
        }
    }
    report("compile 1000 policies, all new", cold);
    report("compile 1000 policies, one changed", warm);
    let mut one_text = Vec::new();
    let text = |changed: usize| {
        let policies = (0..1000).map(|at| rule(at, if at == 500 { changed } else { at }));
        policy("actor/acme/all", &policies.collect::<String>())
    };
    let mut world = world(0);
    for change in 0..20 {
        let text = text(change);
        let begin = Instant::now();
        world.put(&text);
        world.settle();
        one_text.push(begin.elapsed());
    }
    report("the same in one text (first: all new)", one_text);
}

fn rule(at: usize, note: usize) -> String {
    format!(
        "@id(\"p{at}\") {}(principal in Writ::Actor::\"spiffe://acme.example/agent/a{}\", action, resource in \
         Writ::Resource::\"r{}\") when {{ context.tier <= {} && context.label.confidentiality <= 2 }};\n",
        if at.is_multiple_of(10) { "forbid" } else { "permit" },
        at / 50,
        at % 50,
        note % 2,
    )
}

/// A tenant with 50 resources, and so many policies about them: texts of one policy each.
fn world(policies: usize) -> World {
    let mut world = World::default();
    world.put(&Object::Tenant(object(created(json!({ "name": "acme" })))));
    world.put(&Object::Actor(object(created(json!({
        "id": "spiffe://acme.example/agent/a0", "tenant": "acme", "owner": "ann", "purpose": "x", "autonomy": 1,
        "ceiling": { "scope": [] }, "review_at": "2030-01-01T00:00:00Z",
    })))));
    for at in 0..50 {
        world.put(&Object::Resource(object(created(json!({
            "name": format!("r{at}"), "tenant": "acme", "enforcement_points": ["spiffe://acme.example/gate"],
            "tools": { "read": { "effect": "read", "label": { "confidentiality": 1 } } },
        })))));
    }
    world.put(&policy("resource/acme/all", "permit(principal, action, resource in Writ::Tenant::\"acme\");"));
    world.put(&policy("actor/acme/all", "permit(principal, action, resource in Writ::Tenant::\"acme\");"));
    for at in 0..policies.saturating_sub(2) {
        let text = rule(at, at).replace("forbid", "permit");
        world.put(&policy(&format!("actor/acme/p{at}"), &text));
    }
    world.settle();
    world
}

fn grant(task: u8, parent: Option<u8>) -> Task {
    let rules: Vec<_> = (0..50)
        .map(|at| json!({ "tool": format!("r{at}/read"), "args": {
            "path": [{ "under": "/srv/docs" }], "limit": [{ "at_most": 100 }], "tags": [{ "one_of": ["a", "b"] }],
        } }))
        .collect();
    let mut grant = json!({
        "id": id(task), "actor": "spiffe://acme.example/agent/a0", "tenant": "acme", "mandate": "m",
        "mandate_version": 1, "purpose": "x", "home": "spiffe://acme.example/spire/agent/join_token/a",
        "environment": "prod", "beginner": "itself", "root": id(1), "depth": task - 1, "depth_left": 5,
        "scope": rules, "data_max": 2, "tier": 0, "isolation": "process", "egress": "open",
        "budget": { "actions": 10_000_000, "denials": 3, "children": 9 },
        "asked_sha256": "00".repeat(32), "began_at": "2027-01-15T08:00:00Z", "expires_at": "2027-01-15T09:00:00Z", "state": { "is": "active" },
    });
    if let Some(parent) = parent {
        grant["parent"] = json!(id(parent));
    }
    object(grant)
}

fn id(number: u8) -> TaskId {
    format!("01J00000000000000000000{number:03}").parse().expect("an id")
}

fn policy(id: &str, text: &str) -> Object {
    Object::Policy(object(json!({ "id": id, "text": text, "pushed_at": "2026-01-01T00:00:00Z" })))
}

fn created(mut value: Value) -> Value {
    value["created_at"] = "2026-01-01T00:00:00Z".into();
    value
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn report(name: &str, mut times: Vec<Duration>) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let first = micros(times.remove(0));
    times.sort_unstable();
    let (least, middle, p99) = (times[0], times[times.len() / 2], times[times.len() * 99 / 100]);
    let (least, middle, p99) = (micros(least), micros(middle), micros(p99));
    println!("{name:40} first {first:9.1}, then min {least:8.1} median {middle:8.1} p99 {p99:8.1} µs");
}
