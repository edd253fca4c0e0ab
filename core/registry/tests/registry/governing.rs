//! Tenants, actors, resources and policies, as their declarations make them.

use registry::{
    Key, Refusal,
    decide::{
        actor::{DeleteActor, DisableActor, EnableActor},
        entry::Effect,
        expire::Expire,
        policy::{MAX_FILE, PolicyText, ReplacePolicies},
        resource::{DeleteResource, UpsertResource},
        tenant::{DeleteTenant, DisableTenant, EnableTenant, UpsertTenant},
    },
    objects::Layer,
};
use serde_json::{Value, json};

use crate::{
    support::id,
    work::{Work, actor, from},
};

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: Result<T, Refusal>, says: &str) {
    let refusal = result.expect_err("it was allowed").to_string();
    assert!(refusal.contains(says), "{refusal}");
}

fn changed(name: &str, fields: Value) -> Value {
    let mut actor = actor(name);
    for (name, value) in fields.as_object().unwrap() {
        actor[name] = value.clone();
    }
    actor
}

#[test]
fn without_owner_purpose_tenant_or_coming_review_nobody_is_registered() {
    let mut work = Work::new();
    for (fields, says) in [
        (json!({ "owner": " " }), "owner is empty"),
        (json!({ "purpose": "" }), "purpose is empty"),
        (json!({ "purpose": "one\ntwo" }), "one line"),
        (json!({ "tenant": "nobody" }), "there is no tenant nobody"),
        (json!({ "review_at": "2026-01-01T00:00:00Z" }), "lies in the past"),
        (json!({ "id": "spiffe://other.example/x" }), "not in the trust domain"),
        (json!({ "id": id("/spire/agent/x") }), "reserved"),
        (json!({ "id": id("/agent/task/x") }), "reserved for the SVIDs of tasks"),
        (
            json!({ "ceiling": { "scope": [{ "tool": "a/b", "args": { "x": [{ "param": "p" }] } }] } }),
            "only mandates have parameters",
        ),
    ] {
        assert_invalid(work.actor(changed("new", fields)), says);
        assert_eq!(work.world.last_record()["outcome"], "refused");
    }
    assert!(work.world.registry.actor(&id("/agent/new")).is_none());
}

#[test]
fn an_actor_declared_again_changes_nothing_and_keeps_its_switch_and_tenant() {
    let mut work = Work::new();
    let commits = work.world.log.len();
    assert_eq!(work.actor(actor("triage")).unwrap().effect, Effect::Unchanged);
    assert_eq!(work.world.log.len(), commits);
    work.world.run(DisableActor { id: id("/agent/triage"), why: "it ran wild".to_owned() }).unwrap();
    let applied = work.actor(changed("triage", json!({ "purpose": "another", "disabled": null }))).unwrap();
    assert_eq!(applied.effect, Effect::Updated);
    let why = work.world.registry.actor(&id("/agent/triage")).unwrap().disabled.clone();
    assert_eq!(why.as_deref(), Some("it ran wild"), "a declaration does not take the kill switch back");
    work.world.run(UpsertTenant { name: from(json!("other")), categories: [].into() }).unwrap();
    assert_invalid(work.actor(changed("triage", json!({ "tenant": "other" }))), "for ever");
}

#[test]
fn kill_switches_end_what_is_under_way_and_keep_new_tasks_from_beginning() {
    let mut work = Work::new();
    let (task, other) = (work.begin(json!({})).unwrap(), work.begin(json!({})).unwrap());
    let child = work.child(&task).unwrap();
    work.world.run(DisableActor { id: id("/agent/triage"), why: "wild".to_owned() }).unwrap();
    assert_eq!(work.state(&task), "ended: actor_disabled");
    assert_eq!(work.state(&other), "ended: actor_disabled");
    assert_eq!(work.state(&child), "ended: ancestor");
    assert_eq!(work.world.last_record()["facts"]["tasks"].as_array().unwrap().len(), 3, "in one commit");
    assert_invalid(work.begin(json!({})), "is disabled: wild");
    work.world.run(EnableActor { id: id("/agent/triage") }).unwrap();
    assert_eq!(work.state(&task), "ended: actor_disabled", "nothing leaves ended");

    let task = work.begin(json!({})).unwrap();
    let name = || from(json!("acme"));
    work.world.run(DisableTenant { name: name(), why: "not paid".to_owned() }).unwrap();
    assert_eq!(work.state(&task), "ended: tenant_disabled");
    assert_invalid(work.begin(json!({})), "the tenant acme is disabled: not paid");
    work.world.run(EnableTenant { name: name() }).unwrap();
    work.begin(json!({})).unwrap();
}

#[test]
fn an_overdue_review_suspends_and_only_a_review_and_an_administrator_let_go_on() {
    use registry::decide::task::ResumeTask;
    let mut work = Work::new();
    let soon = work.world.now + std::time::Duration::from_secs(60);
    work.actor(changed("triage", json!({ "review_at": soon }))).unwrap();
    let task = work.begin(json!({})).unwrap();
    let child = work.child(&task).unwrap();
    assert_eq!(work.world.registry.next_end(), Some(soon));
    work.world.wait(60);
    work.world.run(Expire);
    assert_eq!(work.state(&task), "suspended: review_overdue");
    assert_eq!(work.state(&child), "suspended: ancestor");
    assert!(work.world.registry.next_end().is_some_and(|next| next > work.world.now), "it is due once");
    assert_invalid(work.begin(json!({})), "overdue");
    let resume = || ResumeTask { id: task.id.clone(), why: "reviewed".to_owned() };
    assert_invalid(work.world.run(resume()), "overdue");
    work.actor(actor("triage")).unwrap();
    assert_eq!(work.state(&task), "suspended: review_overdue", "a review alone resumes nothing");
    work.world.run(resume()).unwrap();
    assert_eq!(work.state(&task), "active");
    assert_eq!(work.state(&child), "active", "it was suspended only with the task above");
}

#[test]
fn a_lower_ceiling_narrows_live_tasks_and_all_below_them() {
    let mut work = Work::new();
    let task = work.begin(json!({})).unwrap();
    let child = work.child(&task).unwrap();
    let lower = json!({ "scope": [{ "tool": "files/read" }], "data_max": 0, "environments": ["default"] });
    work.actor(changed("triage", json!({ "ceiling": lower }))).unwrap();
    for task in [&task, &child] {
        let now = work.task(task);
        assert_eq!(serde_json::to_value(&now.scope).unwrap(), json!([{ "tool": "files/read" }]));
        assert_eq!(u8::from(now.data_max), 0);
    }
    work.actor(actor("triage")).unwrap();
    assert_eq!(work.task(&task).scope.rules().len(), 1, "nothing widens what a live task may");
    let elsewhere = json!({ "scope": [{ "tool": "files/*" }], "environments": ["prod"] });
    work.actor(changed("triage", json!({ "ceiling": elsewhere }))).unwrap();
    assert_eq!(work.state(&task), "ended: environment_changed");
    assert_eq!(work.state(&child), "ended: ancestor");
}

#[test]
fn what_is_still_needed_is_not_deleted() {
    let mut work = Work::new();
    assert_invalid(work.world.run(DeleteTenant { name: from(json!("acme")) }), "still owns");
    assert_invalid(work.world.run(DeleteActor { id: id("/agent/triage") }), "the mandate sort is for");
    assert_invalid(work.world.run(DeleteActor { id: id("/agent/nobody") }), "there is no actor");
    work.actor(actor("new")).unwrap();
    work.world.run(DeleteActor { id: id("/agent/new") }).unwrap();
    assert!(work.world.registry.actor(&id("/agent/new")).is_none());
}

#[test]
fn a_resource_names_only_categories_of_its_tenant_and_tools_that_can_be_called() {
    let mut work = Work::new();
    let resource = |fields: Value| {
        let mut resource = json!({
            "name": "files", "tenant": "acme", "enforcement_points": [id("/gate")],
            "tools": { "read": { "effect": "read", "label": { "categories": ["payroll"] } } },
            "created_at": "2026-01-01T00:00:00Z",
        });
        for (name, value) in fields.as_object().unwrap() {
            resource[name] = value.clone();
        }
        UpsertResource { resource: from(resource) }
    };
    for (fields, says) in [
        (json!({ "tenant": "nobody" }), "there is no tenant nobody"),
        (json!({ "label": { "categories": ["health"] } }), "health is not a category of the tenant acme"),
        (json!({ "clearance": { "categories": ["health"] } }), "health is not a category"),
        (json!({ "tools": { "a b": { "effect": "read" } } }), "cannot be the name of a tool"),
        (json!({ "enforcement_points": ["spiffe://other.example/gate"] }), "not in the trust domain"),
    ] {
        assert_invalid(work.world.run(resource(fields)), says);
    }
    assert_eq!(work.world.run(resource(json!({}))).unwrap().effect, Effect::Created);
    assert_eq!(work.world.run(resource(json!({}))).unwrap().effect, Effect::Unchanged);
    let without = UpsertTenant { name: from(json!("acme")), categories: [].into() };
    assert_invalid(work.world.run(without.clone()), "still has the category payroll");
    work.world.run(DeleteResource { name: from(json!("files")) }).unwrap();
    work.world.run(without).unwrap();
}

#[test]
fn a_transformer_is_one_definition_and_drops_only_what_is_its_owners_alone() {
    let mut work = Work::new();
    let tenant = |name: &str, categories: &[&str]| UpsertTenant {
        name: from(json!(name)),
        categories: categories.iter().map(|category| category.parse().unwrap()).collect(),
    };
    let resource = |tenant: &str, tool: Value| {
        let name = format!("of-{tenant}");
        UpsertResource {
            resource: from(json!({
                "name": name, "tenant": tenant, "enforcement_points": [id("/gate")], "tools": { "redact": tool },
                "created_at": "2026-01-01T00:00:00Z",
            })),
        }
    };
    let redact = |drop: Value| {
        resource(
            "acme",
            json!({ "effect": "read", "definition_sha256": "ab".repeat(32), "declassifies": drop }),
        )
    };
    work.world.run(tenant("acme", &["payroll"])).unwrap();
    work.world.run(tenant("other", &["health"])).unwrap();
    let label = json!({ "confidentiality": 1, "categories": ["health"], "sources": ["web"] });
    work.world.run(resource("other", json!({ "effect": "read", "label": label }))).unwrap();
    let unpinned = json!({ "effect": "read", "declassifies": { "categories": ["payroll"] } });
    assert_invalid(work.world.run(resource("acme", unpinned)), "pin its definition_sha256");
    for (drop, says) in [
        (json!({}), "drops nothing"),
        (json!({ "confidentiality": { "from": 1, "to": 1 } }), "which is not lower"),
        (json!({ "categories": ["health"] }), "health is not a category of the tenant acme"),
        (json!({ "sources": ["web"] }), "the source web, of which the tenant other has data"),
        (
            json!({ "confidentiality": { "from": 3, "to": 0 } }),
            "the tenant other has data that is above that",
        ),
    ] {
        assert_invalid(work.world.run(redact(drop)), says);
    }
    let may =
        json!({ "confidentiality": { "from": 3, "to": 1 }, "categories": ["payroll"], "sources": ["mail"] });
    let applied = work.world.run(redact(may)).unwrap();
    assert!(applied.warnings.iter().any(|warning| warning.contains("will not drop the source mail")));
    work.world.run(tenant("other", &["health", "payroll"])).unwrap();
    let payroll = json!({ "categories": ["payroll"] });
    assert_invalid(
        work.world.run(redact(payroll)),
        "the category payroll, which is the tenant other's as well",
    );
}

#[test]
fn a_layer_of_policies_is_replaced_in_one_commit() {
    let mut work = Work::new();
    let layer = Layer::Actor(from(json!("acme")));
    let push = |texts: &[(&str, &str)]| ReplacePolicies {
        layer: layer.clone(),
        policies: texts
            .iter()
            .map(|(name, text)| {
                let id = format!("actor/acme/{name}").parse().unwrap();
                (id, PolicyText { text: (*text).to_owned(), ..PolicyText::default() })
            })
            .collect(),
    };
    work.world.run(push(&[("a", "1"), ("b", "2")])).unwrap();
    let commits = work.world.log.len();
    let replaced = work.world.run(push(&[("b", "3"), ("c", "4")])).unwrap();
    assert_eq!(work.world.log.len(), commits + 1);
    let names = |ids: &[registry::objects::PolicyId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&replaced.put), ["actor/acme/b", "actor/acme/c"]);
    assert_eq!(names(&replaced.gone), ["actor/acme/a"]);
    assert!(work.world.registry.object(&Key::Policy("actor/acme/a".parse().unwrap())).is_none());
    work.world.run(push(&[("b", "3"), ("c", "4")])).unwrap();
    assert_eq!(work.world.log.len(), commits + 1, "the same again changes nothing");
    assert_invalid(work.world.run(push(&[("b", &"x".repeat(MAX_FILE + 1))])), "at most 262144");
    let big = "x".repeat(MAX_FILE);
    let many: Vec<String> = (0..17).map(|n| format!("p{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), big.as_str())).collect();
    assert_invalid(work.world.run(push(&many)), "the layer actor/acme has");
    let other = ReplacePolicies { layer: Layer::Actor(from(json!("nobody"))), policies: [].into() };
    assert_invalid(work.world.run(other), "there is no tenant");
    let mut lowering = push(&[("b", "3")]);
    lowering.policies.values_mut().for_each(|policy| policy.lowers = from(json!({ "egress": [2] })));
    assert_invalid(work.world.run(lowering), "only the platform's can");
}
