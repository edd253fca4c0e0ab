//! Grants that somebody forged in an agent's own files: it believes none that its server did not sign.

use std::fs;
use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use integration_tests::gate::{Client, Gate};

use super::*;
use crate::SOON;
use crate::endurance::permitted_soon;

/// A task's record with something else in it.
type Forge = fn(&mut Value, &Value);

fn scope(kept: &mut Value, _: &Value) {
    kept["grant"]["scope"] = json!([{ "tool": "vault/*" }, { "tool": "box/*" }]);
}

fn life(kept: &mut Value, _: &Value) {
    kept["grant"]["expires_at"] = json!("2099-01-01T00:00:00Z");
}

fn budget(kept: &mut Value, _: &Value) {
    kept["grant"]["budget"]["actions"] = json!(u32::MAX);
}

fn others(kept: &mut Value, other: &Value) {
    kept["signed"] = other["signed"].clone();
}

fn unsigned(kept: &mut Value, _: &Value) {
    kept["signed"] = json!("");
}

/// A wider grant under the signature of the true one.
fn resigned(kept: &mut Value, _: &Value) {
    scope(kept, &Value::Null);
    respelled(kept, None);
}

/// The same under no signature at all.
fn of_nobody(kept: &mut Value, _: &Value) {
    scope(kept, &Value::Null);
    respelled(kept, Some(json!({ "alg": "none", "typ": "writ-grant+jwt" })));
}

fn respelled(kept: &mut Value, header: Option<Value>) {
    let signed = kept["signed"].as_str().expect("a grant").to_owned();
    let parts: Vec<_> = signed.split('.').collect();
    let payload = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url");
    let mut claims: Value = serde_json::from_slice(&payload).expect("JSON");
    claims["task"] = kept["grant"].clone();
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    kept["signed"] = json!(match header {
        None => format!("{}.{claims}.{}", parts[0], parts[2]),
        Some(header) => format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header.to_string())),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_goes_on_under_a_grant_that_the_server_did_not_sign() {
    let mut ground = Ground::new();
    let forgeries: [(&str, Forge); 7] = [
        ("more scope", scope),
        ("a longer life", life),
        ("a larger budget", budget),
        ("another task's signature", others),
        ("no signature", unsigned),
        ("a grant that was changed below its signature", resigned),
        ("a grant that nobody signed", of_nobody),
    ];
    let mut honest = ground.worker();
    let kept = honest.begin("work");
    let mut forged = Vec::new();
    for (what, forge) in forgeries {
        let mut worker = ground.worker();
        let task = worker.begin("work");
        forged.push((what, forge, worker, task));
    }
    let gate = ground.gate_soon().await;
    permitted_soon(&gate, &honest.for_task(&kept)).await;
    for (_, _, worker, task) in &forged {
        permitted_soon(&gate, &worker.for_task(task)).await;
    }

    ground.agent.kill();
    let file = |task: &str| -> PathBuf { ground.agent.file("state/tasks/live").join(task) };
    let read = |task: &str| -> Value {
        serde_json::from_slice(&fs::read(file(task)).expect("it is kept")).expect("JSON")
    };
    let other = read(&kept);
    for (what, forge, _, task) in &forged {
        let mut changed = read(task);
        let before = changed.clone();
        forge(&mut changed, &other);
        assert_ne!(changed, before, "{what}");
        fs::write(file(task), changed.to_string()).expect("it is ours");
    }
    ground.agent.start_again();

    // Sessions are begun anew with each change of what the agent knows, until it is back at where it was.
    let gate = permitted_again(&ground, &honest.for_task(&kept)).await;
    for (what, _, worker, task) in &forged {
        integration_tests::eventually(&format!("{what}: the task ends"), SOON, || {
            let state = ground.task(task)["state"].clone();
            (state["is"] == "ended").then(|| assert_eq!(state["reason"], "agent_restarted", "{what}"))
        });
        for tool in ["box/look", "vault/open"] {
            let verdict = gate.ask(&worker.for_task(task), tool, "{}").await.expect("the session stands");
            assert!(!verdict.permitted, "{what}: {tool}");
        }
    }
    assert_eq!(ground.task(&kept)["state"]["is"], "active");
}

/// A gate through which a call of this client was permitted.
async fn permitted_again(ground: &Ground, client: &Client) -> Gate {
    let search = async {
        loop {
            let gate = ground.gate_soon().await;
            while let Ok(verdict) = gate.ask(client, "box/look", "{}").await {
                if verdict.permitted {
                    return gate;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    };
    tokio::time::timeout(SOON, search).await.expect("it is permitted again")
}
