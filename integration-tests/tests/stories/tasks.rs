//! Tasks on a node: who has one, what it gives, and all that ends it.

mod ends;
mod launched;
mod program;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use integration_tests::{Answer, Running, Writ, eventually, test_workload, writ_binary};
use serde_json::{Value, json};

use crate::{SOON, own_uid};

/// An installation in which the processes of this user are an actor, which may begin tasks by itself.
struct Work {
    writ: Writ,
}

impl Work {
    /// Up, with these mandates beside `sort`, as far as they differ from it.
    fn up(mandates: &[(&str, Value)]) -> Self {
        Self::up_with(&[], mandates)
    }

    fn up_with(arguments: &[&str], mandates: &[(&str, Value)]) -> Self {
        let work = Self { writ: Writ::up_with(arguments) };
        work.writ.entry("/agent/sorter", &[&own_uid()]);
        work.apply(&[
            json!({ "kind": "Tenant", "name": "acme" }),
            json!({
                "kind": "Actor", "id": "/agent/sorter", "tenant": "acme", "owner": "ada@acme.example",
                "purpose": "sorts tickets", "autonomy": 2, "review_at": "2099-01-01",
                "ceiling": { "scope": [{ "tool": "files/*" }], "data_max": 2, "environments": ["default"] },
            }),
        ]);
        for (name, differs) in [("sort", json!({}))].iter().chain(mandates) {
            work.mandate(name, differs);
        }
        work
    }

    /// Declares and approves a mandate.
    fn mandate(&self, name: &str, differs: &Value) {
        let mut terms = json!({
            "actor": "/agent/sorter", "purpose": "sort", "begin": { "itself": true, "parents": ["/agent/sorter"] },
            "scope": [{ "tool": "files/*" }], "data_max": 1, "environments": ["default"], "ttl": "10m", "tier": 1,
            "max_depth": 2,
        });
        for (field, value) in differs.as_object().expect("terms are an object") {
            terms[field] = value.clone();
        }
        self.apply(&[json!({ "kind": "Mandate", "name": name, "terms": terms })]);
        let _ = self.writ.run(&["mandate", "approve", name]).done();
    }

    #[track_caller]
    fn apply(&self, documents: &[Value]) {
        let mut command = self.writ.command(&["apply", "-f", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("writ runs");
        let text: Vec<String> = documents.iter().map(ToString::to_string).collect();
        child.stdin.take().expect("piped").write_all(text.join("\n---\n").as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A process that holds a task, and the task.
    fn begin(&self, mandate: &str) -> (Running, Value) {
        self.begin_with(mandate, &[])
    }

    fn begin_with(&self, mandate: &str, more: &[&str]) -> (Running, Value) {
        // The agent learns of a mandate a moment after the server has it.
        eventually("the task begins", SOON, || {
            let mut command = self.writ.command(&["task", "begin", "--mandate", mandate, "--output", "json"]);
            let held = Running::start(command.args(more), "task", self.folder());
            let line = held.line_unless_it_ends(SOON)?;
            Some((held, serde_json::from_str(&line).expect("JSON")))
        })
    }

    /// A task as the server has it.
    #[track_caller]
    fn task(&self, id: &Value) -> Value {
        let id = id.as_str().expect("an id");
        self.writ.ask(&["task", "show", id])["tasks"][0].clone()
    }

    /// Waits until the server knows that a task ended, for this reason.
    #[track_caller]
    fn ended(&self, id: &Value, reason: &str) {
        let last = std::cell::RefCell::new(Value::Null);
        eventually(&format!("the server knows that it ended by {reason}"), SOON, || {
            let state = self.task(id)["state"].clone();
            let ended = state["is"] == "ended";
            *last.borrow_mut() = state.clone();
            ended.then(|| assert_eq!(state["reason"], reason))
        });
    }

    /// What `FetchX509SVID` answers to another process.
    fn fetch(&self) -> Answer {
        Answer::of(Command::new(test_workload()).arg("fetch").arg(self.writ.workload_socket()))
    }

    /// `writ run …` in this installation.
    fn launch(&self, mandate: &str, command: &[&str]) -> Command {
        let mut run = Command::new(writ_binary());
        run.args(["run", "--mandate", mandate, "--"]).args(command).current_dir("/tmp");
        run.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", self.writ.workload_socket().display()));
        run.env_remove("WRIT_DATA");
        run
    }

    fn folder(&self) -> &Path {
        self.writ.data().parent().unwrap_or(self.writ.data())
    }
}

#[test]
fn an_actor_has_no_identity_outside_of_a_task() {
    let work = Work::up(&[]);
    eventually("the agent knows that it is an actor", SOON, || {
        work.fetch().out.contains("PermissionDenied").then_some(())
    });
    let token = work.writ.run(&["fetch", "jwt", "--audience", "db"]);
    assert_ne!(token.code, 0, "{token:?}");
    let (_held, begun) = work.begin("sort");
    assert_eq!(
        begun["spiffe_id"],
        format!("{}/task/{}", work.writ.id("/agent/sorter"), begun["id"].as_str().unwrap_or(""))
    );
    // It is another process's task.
    assert!(work.fetch().out.contains("PermissionDenied"));
    assert_eq!(work.task(&begun["id"])["isolation"], "process");
}

#[test]
fn what_the_mandate_does_not_allow_does_not_begin() {
    let work = Work::up(&[
        ("asked", json!({ "begin": { "workloads": ["/scheduler"] } })),
        ("risky", json!({ "begin": { "workloads": ["/scheduler"] }, "tier": 2 })),
        ("named", json!({ "parameters": { "queue": { "text": { "max_bytes": 9 } } } })),
    ]);
    drop(work.begin("sort"));
    for (mandate, more) in [
        ("asked", None),
        ("risky", None),
        ("unknown", None),
        ("named", None),
        ("named", Some("queue=far-too-long")),
    ] {
        let mut arguments = vec!["task", "begin", "--mandate", mandate];
        arguments.extend(more.into_iter().flat_map(|more| ["--param", more]));
        let refused = work.writ.run(&arguments).refused();
        assert!(refused.starts_with("writ: "), "{refused}");
    }
    let (_held, begun) = work.begin_with("named", &["--param", "queue=billing"]);
    assert_eq!(work.task(&begun["id"])["params"]["queue"], "billing");
}
