//! A server on which there is work: a tenant, actors with approved mandates, and nodes on which they are placed.

use std::time::Duration;

use registry::{decide::task::Wish, objects::TaskId};
use serde_json::{Value, json};
use server_api::{CallError, admin::Mode, tasks};
use spiffe::PrivateKey;

use crate::support::{Agent, Host, now};

/// A server with work, and two nodes: `triage` and `helper` are placed on the first, `cleaner` on the second.
pub(crate) struct Work {
    pub(crate) host: Host,
    pub(crate) mine: Agent,
    pub(crate) other: Agent,
}

impl Work {
    pub(crate) async fn start() -> Self {
        let host = Host::start().await;
        let (mine, other) = (host.agent("mine").await, host.agent("other").await);
        for (name, node) in
            [("triage", "mine"), ("helper", "mine"), ("cleaner", "other"), ("scheduler", "mine")]
        {
            let path = if name == "scheduler" { "/scheduler".to_owned() } else { format!("/agent/{name}") };
            host.entry(json!({ "id": name, "spiffe_id": path, "parent": node, "selectors": ["unix:uid:1"] }))
                .await;
        }
        let work = Self { host, mine, other };
        work.declare("tenant", json!({ "name": "acme", "categories": ["payroll"] })).await;
        for name in ["triage", "helper", "cleaner"] {
            work.declare("actor", actor(name)).await;
        }
        work.mandate("sort", terms("triage", json!({}))).await;
        work.mandate("help", terms("helper", json!({ "begin": { "parents": ["/agent/triage"] } }))).await;
        work.mandate("clean", terms("cleaner", json!({}))).await;
        work
    }

    /// Declares an object that is as it may be.
    pub(crate) async fn declare(&self, kind: &str, body: Value) {
        let bodies = vec![body.to_string().into()];
        let applied = self.host.admin().await.apply(Mode::Upsert, kind, bodies).await.unwrap().pop().unwrap();
        assert_eq!(applied.refused(), None, "{kind} {body}");
    }

    /// Declares a mandate and approves it.
    pub(crate) async fn mandate(&self, name: &str, terms: Value) {
        self.declare("mandate", json!({ "name": name, "terms": terms })).await;
        let mut admin = self.host.admin().await;
        let mandate = admin.list("mandate", vec![name.to_owned()]).await.unwrap().remove(0);
        let mandate: registry::objects::Mandate = serde_json::from_slice(&mandate.body).unwrap();
        let draft = mandate.draft.unwrap();
        let statement = draft.terms.statement(&mandate.name, draft.version).unwrap();
        let read = registry::objects::Sha256::of(&statement);
        admin.approve_mandate(name, draft.version, &read.to_string()).await.unwrap();
    }

    /// Begins a task of `triage` with other fields, on the first node.
    pub(crate) async fn begin(&self, fields: Value) -> Result<tasks::Begun, CallError> {
        begin(&self.mine, fresh_id(), &wish(fields)).await
    }
}

pub(crate) async fn begin(agent: &Agent, id: TaskId, wish: &Wish) -> Result<tasks::Begun, CallError> {
    let key = PrivateKey::generate().unwrap().public_key().unwrap();
    tasks_of(agent).await.begin(&id, wish, &key).await
}

pub(crate) async fn tasks_of(agent: &Agent) -> tasks::Client {
    tasks::Client::new(agent.channel().await)
}

pub(crate) fn fresh_id() -> TaskId {
    ulid::Ulid::from_datetime(
        std::time::UNIX_EPOCH + Duration::from_millis(now().unix_millis().unsigned_abs()),
    )
    .to_string()
    .parse()
    .unwrap()
}

pub(crate) fn wish(fields: Value) -> Wish {
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let text = |name: &str, other: &str| field(name).as_str().unwrap_or(other).to_owned();
    let word = |name: &str, other: &str| json!(text(name, other));
    Wish {
        mandate: text("mandate", "sort").parse().unwrap(),
        entry: text("entry", "triage").parse().unwrap(),
        params: serde_json::from_value(fields.get("params").cloned().unwrap_or(json!({}))).unwrap(),
        scope: serde_json::from_value(field("scope")).unwrap(),
        ttl: serde_json::from_value(field("ttl")).unwrap(),
        note: text("note", ""),
        parent: serde_json::from_value(field("parent")).unwrap(),
        beginner: serde_json::from_value(field("beginner")).unwrap(),
        isolation: serde_json::from_value(word("isolation", "process")).unwrap(),
        egress: serde_json::from_value(word("egress", "open")).unwrap(),
    }
}

fn actor(name: &str) -> Value {
    json!({
        "id": format!("/agent/{name}"), "tenant": "acme", "owner": "ada@acme.example", "purpose": "to sort tickets",
        "autonomy": 2, "review_at": "2099-01-01",
        "ceiling": { "scope": [{ "tool": "files/*" }], "data_max": 2, "environments": ["default", "prod"] },
    })
}

pub(crate) fn terms(actor: &str, fields: Value) -> Value {
    let mut terms = json!({
        "actor": format!("/agent/{actor}"), "purpose": "sort", "begin": { "itself": true },
        "scope": [{ "tool": "files/*" }], "data_max": 1, "environments": ["default"], "ttl": "1h", "tier": 1, "max_depth": 2,
    });
    for (name, value) in fields.as_object().unwrap() {
        terms[name] = value.clone();
    }
    terms
}
