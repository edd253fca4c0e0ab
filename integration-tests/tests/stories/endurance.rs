//! Authority under strain: rogue nodes, kills, full disks, floods, frozen clocks, and connections that outlive their task.

mod connections;
mod decisions;
mod disk;
mod flood;
mod frozen;
mod hosts;
mod kills;
mod rogue;
mod tier_three;
mod tier_two;

use std::path::Path;
use std::time::Duration;

use integration_tests::daemon::{Agent, Server};
use integration_tests::gate::{Client, Gate};
use integration_tests::{Answer, Folder, Running, eventually, test_workload};
use peer::Peer;
use serde_json::{Value, json};
use tonic::Status;

use crate::{SOON, own_uid};

/// The agent's node, as its server calls it.
const NODE: &str = "node";

/// A server and one node, on which the program `test-workload` is an actor and this test is the gate of a box.
struct Ground {
    server: Server,
    agent: Agent,
}

impl Ground {
    fn new() -> Self {
        Self::at(Server::start(""), Folder::new())
    }

    /// The same where the agent keeps what it has in this folder.
    fn at(server: Server, folder: Folder) -> Self {
        Self::below(&[], server, folder)
    }

    /// The same where the agent is started by a program that executes what it is given.
    fn below(program: &[&str], server: Server, folder: Folder) -> Self {
        let token = format!("token = {:?}\n", server.token(NODE));
        let agent = Agent::start_below(program, &server, folder, &token);
        let ground = Self { server, agent };
        ground.entry("/agent/worker", &test_workload());
        ground.entry("/gate", &std::env::current_exe().expect("a test knows its own program"));
        ground.apply(&[
            json!({ "kind": "Tenant", "name": "acme" }),
            actor("/agent/worker"),
            json!({
                "kind": "Resource", "name": "box", "tenant": "acme", "enforcement_points": ["/gate"],
                "tools": { "look": { "effect": "read" }, "put": { "effect": "write" } },
            }),
            mandate("work", &json!({})),
        ]);
        ground.approve("work");
        let policies = ground.server.folder().join("policies");
        for (layer, text) in [
            ("actor", r#"permit(principal in Writ::Tenant::"acme", action, resource);"#),
            ("resource", r#"permit(principal, action, resource in Writ::Tenant::"acme");"#),
        ] {
            let folder = policies.join(layer).join("acme");
            std::fs::create_dir_all(&folder).expect("the folder is ours");
            std::fs::write(folder.join("all.cedar"), text).expect("the folder is ours");
        }
        let _ = ground.server.run(&["policy", "push", &policies.display().to_string()]).done();
        ground
    }

    /// Registers a program of this user.
    fn entry(&self, path: &str, program: &Path) {
        let program = format!("unix:path:{}", program.display());
        self.agent.entry(&self.server, NODE, path, &[&own_uid(), &program]);
    }

    #[track_caller]
    fn apply(&self, documents: &[Value]) {
        apply(&self.server, documents);
    }

    #[track_caller]
    fn approve(&self, mandate: &str) {
        let _ = self.server.run(&["mandate", "approve", mandate]).done();
    }

    /// Takes away what the platform asks for by default: confinement and approvals at tiers 2 and 3 are another story.
    #[track_caller]
    fn lower(&self) {
        let lowered = self.server.folder().join("lowered");
        std::fs::create_dir_all(lowered.join("platform")).expect("the folder is ours");
        std::fs::write(lowered.join("platform/defaults.cedar"), "// nothing").expect("the folder is ours");
        let _ = self.server.run(&["policy", "push", &lowered.display().to_string()]).done();
    }

    /// A process that can begin and end tasks, and minds nothing else.
    fn worker(&self) -> Worker {
        Worker::start(&self.agent.workload_socket())
    }

    async fn gate(&self) -> Result<Gate, Status> {
        Gate::open(&self.agent.file("public/authz.sock"), &["box"]).await
    }

    /// A gate, as soon as the agent knows that it is one.
    async fn gate_soon(&self) -> Gate {
        let search = async {
            loop {
                match self.gate().await {
                    Ok(gate) if gate.welcome.refused.is_empty() => return gate,
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let found = tokio::time::timeout(SOON, search).await;
        found.unwrap_or_else(|_| panic!("the agent does not take the gate\n{}", self.agent.log()))
    }

    /// A task as the server has it.
    #[track_caller]
    fn task(&self, id: &str) -> Value {
        self.server.run(&["task", "show", id, "--output", "json"]).done().json()["tasks"][0].clone()
    }

    /// Every entry of the audit log whose record is of this kind.
    #[track_caller]
    fn recorded(&self, kind: &str) -> Vec<Value> {
        recorded(&self.server, kind)
    }
}

/// A process that is an actor.
struct Worker {
    running: Running,
    client: Client,
    _folder: Folder,
}

impl Worker {
    fn start(socket: &Path) -> Self {
        let folder = Folder::new();
        let mut command = std::process::Command::new(test_workload());
        command.arg("tasks").arg(socket);
        let running = Running::start(&mut command, "worker", folder.path());
        let peer = Peer::open(running.pid()).expect("it is there");
        let client = Client { pid: running.pid(), serial: peer.process().serial(), task: String::new() };
        Self { running, client, _folder: folder }
    }

    /// Begins a task, once the agent knows the mandate.
    #[track_caller]
    fn begin(&mut self, mandate: &str) -> String {
        eventually("the task begins", SOON, || self.order(&format!("begin {mandate}")).ok())
    }

    /// Ends it: when this returns true, no call of it is permitted any more.
    fn end(&mut self, task: &str) -> bool {
        self.order(&format!("end {task}")).is_ok()
    }

    #[track_caller]
    fn order(&mut self, order: &str) -> Result<String, Value> {
        self.running.say(order);
        let answer = self.running.json("an answer", SOON, |_| true);
        answer["id"].as_str().map(str::to_owned).ok_or(answer)
    }

    /// This process, for one of its tasks.
    fn for_task(&self, task: &str) -> Client {
        Client { task: task.to_owned(), ..self.client.clone() }
    }
}

/// Asks until a call is permitted: the agent must have heard from the server. The permit is not used.
async fn permitted_soon(gate: &Gate, client: &Client) {
    let mut last = String::new();
    let asked = async {
        loop {
            let verdict = gate.ask(client, "box/look", "{}").await.expect("the session stands");
            if verdict.permitted {
                return;
            }
            last = verdict.reason;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let permitted = tokio::time::timeout(SOON, asked).await;
    assert!(permitted.is_ok(), "nothing is permitted: {last}");
}

/// Does this until it is so: a tool and a policy come to the agent a moment after each other.
async fn done_soon(mut is_done: impl AsyncFnMut() -> bool) {
    let doing = async {
        while !is_done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, doing).await.expect("it is permitted while the server speaks");
}

/// An actor of the tenant, which may use the box.
fn actor(id: &str) -> Value {
    json!({
        "kind": "Actor", "id": id, "tenant": "acme", "owner": "ada@acme.example", "purpose": "fills the box",
        "autonomy": 2, "review_at": "2099-01-01",
        "ceiling": { "scope": [{ "tool": "box/*" }], "data_max": 2, "environments": ["default"] },
    })
}

/// A mandate that the actor may begin by itself, as far as it does not differ.
fn mandate(name: &str, differs: &Value) -> Value {
    let mut terms = json!({
        "actor": "/agent/worker", "purpose": "fill", "begin": { "itself": true }, "scope": [{ "tool": "box/*" }],
        "data_max": 1, "environments": ["default"], "ttl": "20m", "tier": 1, "budgets": { "actions": 1_000_000 },
    });
    for (field, value) in differs.as_object().into_iter().flatten() {
        terms[field] = value.clone();
    }
    json!({ "kind": "Mandate", "name": name, "terms": terms })
}

#[track_caller]
fn apply(server: &Server, documents: &[Value]) {
    let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
    let file = server.folder().write("applied.yaml", text.join("\n---\n"));
    let _: Answer = server.run(&["apply", "-f", &file.display().to_string()]).done();
}

#[track_caller]
fn recorded(server: &Server, kind: &str) -> Vec<Value> {
    let tail = server.run(&["audit", "tail", "-n", "10000000", "--output", "json"]).done();
    let entries = tail.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    entries.map(|entry| entry["record"].clone()).filter(|record| record["kind"] == kind).collect()
}
