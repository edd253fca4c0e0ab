//! An actor at work: a program on the published MCP client, told line by line what its model would have it do.

use std::process::Command;

use serde_json::{Value, json};

use super::{Guarded, SOON};
use crate::running::{Running, eventually};
use crate::writ::{writ_binary, writ_command};

/// A running actor.
#[derive(Debug)]
pub struct Agent(Running);

impl Guarded {
    /// An actor that speaks to the gate's socket, outside of any task.
    #[must_use]
    pub fn agent(&self) -> Agent {
        self.start(Agent::OVER_SOCKET)
    }

    /// An actor that can only start commands, and so speaks through `writ mcp stdio`.
    #[must_use]
    pub fn agent_with_bridge(&self) -> Agent {
        self.start(Agent::OVER_BRIDGE)
    }

    /// An actor that starts the server of `files` itself, through `writ mcp stdio` with a gate in it.
    #[must_use]
    pub fn agent_around_command(&self) -> Agent {
        self.start(Agent::AROUND_COMMAND)
    }

    fn start(&self, kind: &str) -> Agent {
        let words = self.program(kind);
        let mut command = Command::new(&words[0]);
        Agent::ready(command.args(&words[1..]).env("SPIFFE_ENDPOINT_SOCKET", self.endpoint()), self)
    }

    /// The same actor, launched as a task, and that task.
    #[must_use]
    pub fn launched(&self, mandate: &str) -> (Agent, String) {
        self.launch(mandate, Agent::OVER_SOCKET)
    }

    /// The actor with the bridge, launched as a task.
    #[must_use]
    pub fn launched_with_bridge(&self, mandate: &str) -> (Agent, String) {
        self.launch(mandate, Agent::OVER_BRIDGE)
    }

    /// The actor that starts the server itself, launched as a task.
    #[must_use]
    pub fn launched_around_command(&self, mandate: &str) -> (Agent, String) {
        self.launch(mandate, Agent::AROUND_COMMAND)
    }

    fn launch(&self, mandate: &str, kind: &str) -> (Agent, String) {
        let script = Agent::script(kind);
        let before = self.tasks(mandate);
        let mut command = writ_command();
        command.args(["run", "--mandate", mandate, "--", "sh"]).arg(self.path(script));
        command.current_dir("/tmp").env("SPIFFE_ENDPOINT_SOCKET", self.endpoint());
        let agent = Agent::ready(&mut command, self);
        let task = self.tasks(mandate).into_iter().find(|task| !before.contains(task));
        (agent, task.expect("a launch with a mandate is a task"))
    }

    /// The words with which an actor launches another one.
    #[must_use]
    pub fn launch_words(&self, mandate: &str) -> Value {
        let script = self.path("agent/launch.sh");
        json!([writ_binary(), "run", "--mandate", mandate, "--", "sh", script])
    }

    /// The ids of all tasks under a mandate.
    #[must_use]
    pub fn tasks(&self, mandate: &str) -> Vec<String> {
        let all = self.writ.ask(&["task", "list", "--all"]);
        let tasks = all["tasks"].as_array().cloned().unwrap_or_default();
        let of = tasks.iter().filter(|task| task["mandate"] == mandate);
        of.filter_map(|task| Some(task["id"].as_str()?.to_owned())).collect()
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.writ.workload_socket().display())
    }
}

impl Agent {
    pub(super) const OVER_SOCKET: &str = "over a socket";
    pub(super) const OVER_BRIDGE: &str = "over a bridge";
    pub(super) const AROUND_COMMAND: &str = "around a command";

    /// Which script launches which of them.
    pub(super) const SCRIPTS: [(&str, &str); 3] = [
        (Self::OVER_SOCKET, "agent/launch.sh"),
        (Self::OVER_BRIDGE, "agent/bridge.sh"),
        (Self::AROUND_COMMAND, "agent/around.sh"),
    ];

    fn script(kind: &str) -> &'static str {
        let of = Self::SCRIPTS.iter().find(|(of, _)| *of == kind);
        of.expect("each kind has one").1
    }

    fn ready(command: &mut Command, guarded: &Guarded) -> Self {
        let running = Running::start(command, "agent", guarded.folder.path());
        let _ = running.json("that it is ready", SOON, |line| line["ready"].is_u64());
        Self(running)
    }

    /// Its process; of a launched one, that of `writ run`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Has it do something, and waits for what came of it.
    #[track_caller]
    pub fn ask(&mut self, what: Value) -> Value {
        self.say(what);
        self.hear()
    }

    /// Has it do something.
    pub fn say(&mut self, what: Value) {
        self.0.say(&what.to_string());
    }

    /// What came of what it was told to do.
    #[track_caller]
    pub fn hear(&self) -> Value {
        let line = self.0.line(SOON * 2);
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
    }

    /// Begins a task for its process.
    #[track_caller]
    pub fn begin(&mut self, mandate: &str) -> String {
        self.begin_with(mandate, json!({}))
    }

    /// The same with parameters.
    #[track_caller]
    pub fn begin_with(&mut self, mandate: &str, params: Value) -> String {
        // The agent of the node learns of a mandate a moment after the server has it.
        eventually("the task begins", SOON, || {
            let begun = self.ask(json!(["begin", mandate, params]));
            begun["task"].as_str().map(str::to_owned)
        })
    }

    /// Ends its only task: when this returns, nothing is permitted for it any more.
    #[track_caller]
    pub fn end(&mut self) {
        let ended = self.ask(json!(["end"]));
        assert_eq!(ended, json!({ "ended": true }));
    }

    /// Calls a tool of a resource.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask(call(tool, arguments))
    }

    /// Calls a tool, and insists that it was done.
    #[track_caller]
    pub fn done(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        assert_eq!(answer["failed"], false, "{tool}: {answer}");
        answer["text"].as_str().expect("it answers").to_owned()
    }

    /// Calls a tool, and insists that the gate denied it for this reason.
    #[track_caller]
    pub fn denied(&mut self, tool: &str, arguments: Value, reason: &str) {
        let answer = self.call(tool, arguments);
        assert!(is_denied(&answer, reason), "{tool} was not denied as {reason}: {answer}");
    }
}

/// What an agent is told to call: `resource/tool`.
#[must_use]
pub fn call(tool: &str, arguments: Value) -> Value {
    let (resource, tool) = tool.split_once('/').expect("a tool has a resource");
    json!(["call", resource, tool, arguments])
}

/// Whether an answer is the gate's denial for this reason.
#[must_use]
pub fn is_denied(answer: &Value, reason: &str) -> bool {
    answer["code"] == -32001 && answer["data"]["reason"] == reason
}
