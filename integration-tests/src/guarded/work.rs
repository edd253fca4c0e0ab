//! What an administrator declares: the tenant, its actor, what that may work under, and what is guarded.

use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::{ACTOR, Guarded};
use crate::writ::writ_binary;

/// All of it as one document of `writ apply`. In a mandate, `@/` begins a path in the installation's folder.
pub(super) fn documents(guarded: &Guarded, mandates: &[(&str, Value)]) -> Value {
    let mandates: Vec<_> =
        mandates.iter().map(|(name, differs)| json!({ "name": name, "terms": terms(differs) })).collect();
    let here = guarded.path("").display().to_string();
    let mandates = json!(mandates).to_string().replace("\"@/", &format!("\"{here}"));
    let mandates: Value = serde_json::from_str(&mandates).expect("a path needs no escapes");
    json!({
        "tenants": [{ "name": "acme", "categories": ["payroll"] }],
        "actors": [{
            "id": ACTOR, "tenant": "acme", "owner": "ada@acme.example", "purpose": "does what a clerk does",
            "autonomy": 2, "review_at": "2099-01-01",
            "ceiling": { "scope": tools(), "data_max": 3, "environments": ["default"] },
        }],
        "mandates": mandates,
        "resources": resources(),
        "entries": entries(guarded),
    })
}

/// Terms of a mandate, with what differs from the usual.
pub(super) fn terms(differs: &Value) -> Value {
    let mut terms = json!({
        "actor": ACTOR, "purpose": "desk-work",
        "begin": { "itself": true, "workloads": ["/runner"], "parents": [ACTOR] },
        "scope": tools(), "data_max": 3, "environments": ["default"], "ttl": "10m", "tier": 1, "max_depth": 3,
    });
    for (field, value) in differs.as_object().expect("terms are an object") {
        terms[field] = value.clone();
    }
    terms
}

fn tools() -> Value {
    json!([{ "tool": "files/*" }, { "tool": "outbox/*" }, { "tool": "notes/*" }, { "tool": "everything/*" }])
}

/// Each names the gate as its only enforcement point.
fn resources() -> Value {
    let write = json!({ "effect": "write", "control_args": ["path"] });
    // How much it risks is the owner's to say; from tier 2 on a task must be cut off from any network.
    let send = json!({ "effect": "net", "tier": 1, "control_args": ["path"] });
    let payroll = json!({ "confidentiality": 2, "categories": ["payroll"] });
    json!([
        {
            "name": "files", "tenant": "acme", "enforcement_points": ["/gate"],
            "tools": {
                "read_text_file": { "effect": "read" }, "list_directory": { "effect": "read" },
                "write_file": write,
            },
        },
        {
            "name": "outbox", "tenant": "acme", "enforcement_points": ["/gate"],
            "tools": { "write_file": send },
        },
        {
            "name": "notes", "tenant": "acme", "enforcement_points": ["/gate"], "stateful": true,
            "clearance": payroll,
            "tools": { "read_text_file": { "effect": "read" }, "write_file": write },
        },
        {
            "name": "everything", "tenant": "acme", "enforcement_points": ["/gate"],
            "tools": {
                "echo": { "effect": "read" }, "get-sum": { "effect": "read" },
                "trigger-long-running-operation": { "effect": "read" },
            },
        },
    ])
}

/// The actor is known by its interpreter, or by the script that launches it; gate and launcher are `writ` itself.
fn entries(guarded: &Guarded) -> Value {
    let user = format!("unix:uid:{}", geteuid());
    let path = |program: &std::path::Path| {
        let found = std::fs::canonicalize(program).expect("it was fetched or built");
        format!("unix:path:{}", found.display())
    };
    let (python, writ) = (path(&guarded.mcp.python), path(&writ_binary()));
    let launch = |script: &str| format!("launch:script_sha256:{}", Guarded::sha256(&guarded.path(script)));
    let entry = |id: &str, selector: String| json!({ "spiffe_id": id, "parent": "local", "selectors": [user, selector] });
    json!([
        entry(ACTOR, python),
        entry(ACTOR, launch("agent/launch.sh")),
        entry(ACTOR, launch("agent/bridge.sh")),
        entry(ACTOR, launch("agent/around.sh")),
        entry("/gate", writ.clone()),
        entry("/runner", writ),
    ])
}
