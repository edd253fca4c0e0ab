//! A world in which there is work: a tenant, actors with mandates, nodes, and a scheduler that may begin.

use registry::{
    Refusal,
    decide::{
        actor::UpsertActor,
        applied::Applied,
        mandate::{ApproveMandate, DraftMandate},
        task::{BeginTask, ChangeTasks, HomeChange, To, Wish},
        tenant::UpsertTenant,
    },
    objects::{Sha256, Task, TaskId, Terms},
    scope::{Egress, Isolation},
};
use serde_json::{Value, json};
use spiffe::{SpiffeId, Timestamp};

use crate::support::{World, entry, entry_id, id};

pub(crate) struct Work {
    pub(crate) world: World,
    pub(crate) node: SpiffeId,
    pub(crate) other: SpiffeId,
    made: u32,
}

impl Work {
    /// Two nodes; `triage` and `helper` of the tenant acme are placed on the first, `cleaner` on the second.
    pub(crate) fn new() -> Self {
        Self::with(World::new())
    }

    pub(crate) fn with(mut world: World) -> Self {
        let (node, other) = (world.join("a"), world.join("b"));
        let categories = ["payroll".parse().unwrap()].into();
        world.run(UpsertTenant { name: "acme".parse().unwrap(), categories }).unwrap();
        for (name, path, place) in [
            ("triage", "/agent/triage", &node),
            ("helper", "/agent/helper", &node),
            ("cleaner", "/agent/cleaner", &other),
            ("scheduler", "/scheduler", &node),
        ] {
            world.create(entry(name, path, place)).result.unwrap();
        }
        let mut work = Self { world, node, other, made: 0 };
        for name in ["triage", "helper", "cleaner"] {
            work.actor(actor(name)).unwrap();
        }
        work.mandate("sort", terms("triage", json!({})));
        work.mandate("help", terms("helper", json!({ "begin": { "parents": [id("/agent/triage")] } })));
        work.mandate("clean", terms("cleaner", json!({})));
        work
    }

    pub(crate) fn actor(&mut self, actor: Value) -> Result<Applied, Refusal> {
        self.world.run(UpsertActor { actor: from(actor) })
    }

    pub(crate) fn draft(&mut self, name: &str, terms: Value) -> Result<Applied, Refusal> {
        self.world.run(DraftMandate { name: name.parse().unwrap(), terms: from(terms) })
    }

    /// Approves the draft as it is.
    pub(crate) fn approve(&mut self, name: &str) -> Result<u64, Refusal> {
        let name = name.parse().unwrap();
        let (draft, statement) = self.world.registry.to_approve(&name)?;
        let (version, sha256) = (draft.version, Sha256::of(&statement));
        let (signature, by) = ("c2lnbmVk".to_owned(), "ada".to_owned());
        self.world.run(ApproveMandate { name, version, sha256, signature, by })
    }

    pub(crate) fn mandate(&mut self, name: &str, terms: Value) {
        self.draft(name, terms).unwrap();
        self.approve(name).unwrap();
    }

    /// An id that was chosen now.
    pub(crate) fn new_id(&mut self) -> TaskId {
        self.made += 1;
        task_id(self.world.now, self.made)
    }

    /// What the agent of `triage` asks for, with other fields.
    pub(crate) fn wish(fields: Value) -> Wish {
        let field = |name: &str| fields.get(name).cloned();
        let text = |name: &str, other: &str| field(name).map_or(other.to_owned(), from);
        Wish {
            mandate: text("mandate", "sort").parse().unwrap(),
            entry: entry_id(&text("entry", "triage")),
            params: field("params").map(from).unwrap_or_default(),
            scope: field("scope").map(from),
            ttl: field("ttl").map(from),
            note: text("note", ""),
            parent: field("parent").map(from),
            beginner: field("beginner").map(from),
            isolation: field("isolation").map_or(Isolation::Process, from),
            egress: field("egress").map_or(Egress::Open, from),
        }
    }

    pub(crate) fn begin_as(&mut self, node: &SpiffeId, id: TaskId, wish: Wish) -> Result<Task, Refusal> {
        let node = node.clone();
        self.world.run(BeginTask { id, node, wish, records_refusal: true })
    }

    /// A new task on the first node.
    pub(crate) fn begin(&mut self, fields: Value) -> Result<Task, Refusal> {
        let (id, node) = (self.new_id(), self.node.clone());
        self.begin_as(&node, id, Self::wish(fields))
    }

    /// A child of a task, under `help`.
    pub(crate) fn child(&mut self, parent: &Task) -> Result<Task, Refusal> {
        self.begin(json!({ "mandate": "help", "entry": "helper", "parent": parent.id }))
    }

    pub(crate) fn task(&self, task: &Task) -> &Task {
        self.world.registry.task(&task.id).expect("the task is remembered")
    }

    /// The state of a task in one word, and why.
    pub(crate) fn state(&self, task: &Task) -> String {
        let state = serde_json::to_value(&self.task(task).state).unwrap();
        let word = state["is"].as_str().unwrap().to_owned();
        state["reason"].as_str().map_or(word.clone(), |reason| format!("{word}: {reason}"))
    }
}

pub(crate) fn task_id(now: Timestamp, number: u32) -> TaskId {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digit = |value: u64, place: u32| char::from(DIGITS[(value >> (5 * place) & 31) as usize]);
    let millis = u64::try_from(now.unix_millis()).unwrap();
    let time: String = (0..10).rev().map(|place| digit(millis, place)).collect();
    let rest: String = (0..7).rev().map(|place| digit(number.into(), place)).collect();
    format!("{time}000000000{rest}").parse().unwrap()
}

pub(crate) fn actor(name: &str) -> Value {
    json!({
        "id": id(&format!("/agent/{name}")), "tenant": "acme", "owner": "ada@acme.example", "purpose": "to sort tickets",
        "autonomy": 2,
        "ceiling": {
            "scope": [{ "tool": "files/*" }, { "tool": "mail/*" }], "data_max": 2, "environments": ["default", "prod"],
        },
        "review_at": "2030-01-01T00:00:00Z", "created_at": "2026-01-01T00:00:00Z",
    })
}

pub(crate) fn terms(actor: &str, fields: Value) -> Value {
    let mut terms = json!({
        "actor": id(&format!("/agent/{actor}")), "purpose": "sort", "begin": { "itself": true },
        "scope": [{ "tool": "files/*" }], "data_max": 1, "environments": ["default"], "ttl": 3600, "max_depth": 2, "tier": 1,
    });
    for (name, value) in fields.as_object().unwrap() {
        terms[name] = value.clone();
    }
    let _: Terms = from(terms.clone());
    terms
}

pub(crate) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(result: Result<T, Refusal>, says: &str) {
    let refusal = result.expect_err("it was granted").to_string();
    assert!(refusal.contains(says), "{refusal}");
}

/// The home says what became of a task.
pub(crate) fn change(work: &mut Work, task: &Task, to: To) -> Result<(), Refusal> {
    let (node, task, at) = (work.node.clone(), task.id.clone(), work.world.now);
    work.world.run(ChangeTasks { node, changes: vec![HomeChange { task, to, at }] }).remove(0)
}
