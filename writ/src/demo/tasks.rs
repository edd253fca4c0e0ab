//! The second half of the story: who may do what, for how long, and who knows of it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;
use registry::scope::ResourceName;
use serde_json::{Value, json};

use super::{
    actor::{Event, Order},
    commands::writ,
    gate::Gate,
    program::{Binary, Program},
    stage::{Stage, fact, took},
};
use crate::up::serving::Ready;

/// A software agent at work, and the gate in front of its tools.
struct Work {
    program: Program,
    gate: Gate,
    resource: ResourceName,
}

pub(super) async fn tell(stage: &mut Stage, dir: &Path, ready: &Ready) -> Result<()> {
    let [triage, gate, tools] = ["triage", "gate", "tools"].map(|name| Binary::make(dir, name));
    let (triage, gate, tools) = (triage?, gate?, tools?);
    declare(stage, dir, &triage, &gate).await?;
    let mut work = start(stage, dir, ready, [&triage, &gate, &tools]).await?;
    let task = begin(stage, &mut work).await?;
    taint(stage, &mut work).await?;
    end(stage, &mut work).await?;
    look_back(stage, dir, &task, &work.gate).await
}

/// An administrator writes down who works on what, and approves it.
async fn declare(stage: &mut Stage, dir: &Path, triage: &Binary, gate: &Binary) -> Result<()> {
    let by =
        |binary: &Binary| [format!("unix:uid:{}", geteuid()), format!("unix:path:{}", binary.path.display())];
    let work = WORK
        .replace("TRIAGE", &serde_json::to_string(&by(triage))?)
        .replace("GATE", &serde_json::to_string(&by(gate))?);
    let policies = dir.join("policies");
    let rows = [
        ("work.yaml", work.as_str()),
        ("policies/actor/demo/own.cedar", OWN),
        ("policies/resource/demo/own.cedar", OWN),
        ("policies/platform/defaults.cedar", LOWERED),
    ];
    for (name, text) in rows {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&policies))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    writ(dir, &["apply", "-f", "work.yaml"]).await?;
    writ(dir, &["policy", "push", "policies"]).await?;
    let approved = writ(dir, &["mandate", "approve", "sort-tickets"]).await?;
    let shown = writ(dir, &["actor", "show", "/agent/triage", "--output", "json"]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    let facts = [
        fact(
            "so we type",
            "writ apply -f work.yaml\nwrit policy push policies\nwrit mandate approve sort-tickets".into(),
        ),
        fact("standing reach", standing(&shown)?),
        fact(
            "lowered",
            "platform/defaults lets a tool of tier 2 be called although the demo's agent has a network"
                .into(),
        ),
    ];
    stage.done(
        "An administrator approves a piece of work: sort tickets, with these tools and no others",
        &facts,
        &approved,
    )
}

/// What the actor could do with nobody asking. Its mandate lets it begin by itself, so that is this mandate, and no more.
fn standing(shown: &Value) -> Result<String> {
    let reach = shown["actors"][0]["standing_reach"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mandates: Vec<_> = reach.iter().filter_map(|reach| reach["mandate"].as_str()).collect();
    ensure!(mandates == ["sort-tickets"], "the actor can do something else with nobody asking: {mandates:?}");
    Ok("outside of a task nothing; with nobody asking it may begin sort-tickets, and no other".to_owned())
}

/// Gate and agent start. Without a task the agent is nobody.
async fn start(
    stage: &mut Stage,
    dir: &Path,
    ready: &Ready,
    [triage, gate, tools]: [&Binary; 3],
) -> Result<Work> {
    let config = dir.join("gate.toml");
    let text = format!(
        "socket = {}\nauthz = {}\n[upstreams.tickets]\ncommand = [{}, \"demo-tools\"]\n",
        json!(dir.join("gate.sock")),
        json!(ready.authz),
        json!(tools.path),
    );
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let gate = Gate::start(dir, gate, &config).await?;
    let mut program = Program::start(triage, &ready.workload_api)?;
    let Event::NoIdentity { reason } = program.event().await? else {
        bail!("an agent without a task has an identity");
    };
    let mut work = Work { program, gate, resource: "tickets".parse()? };
    let refused = work.denied("read_ticket", json!({ "id": "T-1" }), "no_task").await?;
    let facts = [
        fact(
            "gate",
            format!("pid {}, an MCP server's only door: writ mcp serve --config gate.toml", work.gate.pid),
        ),
        fact("agent", format!("pid {}, asks who it is: {reason}", work.program.pid()?)),
        fact("it calls a tool", refused),
    ];
    stage.done("The agent starts. Without a task it is nobody, and may call nothing", &facts, "")?;
    Ok(work)
}

/// A task begins; one call is allowed and one refused.
async fn begin(stage: &mut Stage, work: &mut Work) -> Result<String> {
    let started = Instant::now();
    let order = Order::Begin { mandate: "sort-tickets".to_owned(), params: vec!["ticket=T-1".to_owned()] };
    let Event::Began { task, spiffe_id, expires_at } = work.does(&order).await? else {
        bail!("the task did not begin");
    };
    let time = started.elapsed();
    let facts = [
        fact(
            "task",
            format!("{spiffe_id}\nuntil {expires_at}, begun in {}, signed by the server", took(time)),
        ),
        fact("it reads T-1", work.called("read_ticket", json!({ "id": "T-1" })).await?),
        fact(
            "it reads T-2",
            work.denied("read_ticket", json!({ "id": "T-2" }), "argument_out_of_scope").await?,
        ),
    ];
    stage.done("It begins a task about ticket T-1. That ticket it may read, another one not", &facts, "")?;
    Ok(task)
}

/// What it has read decides what it may still send.
async fn taint(stage: &mut Stage, work: &mut Work) -> Result<()> {
    let mail = json!({ "to": "ada@demo.example", "text": "T-1 is sorted" });
    let stolen = json!({ "to": "me@elsewhere.example", "text": "as you asked" });
    let facts = [
        fact("a mail to Ada", work.called("send_mail", mail.clone()).await?),
        fact("where the ticket wants it", work.denied("send_mail", stolen, "argument_out_of_scope").await?),
        fact("the payroll", work.called("read_payroll", json!({})).await?),
        fact("the mail to Ada again", work.denied("send_mail", mail, "label_exceeds_clearance").await?),
    ];
    stage.done("It may send mail to Ada, until it has read what mail may not carry", &facts, "")
}

/// The task ends, and with it everything.
async fn end(stage: &mut Stage, work: &mut Work) -> Result<()> {
    let started = Instant::now();
    let Event::Ended { task } = work.does(&Order::End).await? else { bail!("the task did not end") };
    let time = started.elapsed();
    let facts = [
        fact("ended", format!("{task}, in {}", took(time))),
        fact("it reads T-1 again", work.denied("read_ticket", json!({ "id": "T-1" }), "no_task").await?),
    ];
    stage.done("The task ends. The next call fails", &facts, "")
}

/// Who knows of it: the chain, and the log that proves it.
async fn look_back(stage: &mut Stage, dir: &Path, task: &str, gate: &Gate) -> Result<()> {
    let reached = gate.reached()?;
    let chain = whole_chain(dir, task).await?;
    let verified = writ(dir, &["audit", "verify"]).await?;
    let facts = [
        fact("reached the tools", reached.join("\n")),
        fact("writ audit verify", verified),
        fact("writ trace", format!("writ trace {task}")),
    ];
    ensure!(
        reached.len() == 3,
        "other calls than the three that were permitted reached the tools: {reached:?}"
    );
    stage.done("Everything is on record, what was refused as well, and the record verifies", &facts, &chain)
}

/// The node uploads its records a moment after they are durable.
async fn whole_chain(dir: &Path, task: &str) -> Result<String> {
    let deadline = Instant::now() + UPLOADED_WITHIN;
    loop {
        let chain = writ(dir, &["trace", task]).await?;
        if [RECORDED, "ended: done"].iter().all(|word| chain.contains(word)) {
            return Ok(chain);
        }
        ensure!(
            Instant::now() < deadline,
            "the node's records do not reach the server; this is there:\n{chain}"
        );
        tokio::time::sleep(LOOKS_AGAIN_AFTER).await;
    }
}

impl Work {
    async fn does(&mut self, order: &Order) -> Result<Event> {
        self.program.order(order).await?;
        match self.program.event().await? {
            Event::Failed { reason } => bail!("the agent failed: {reason}"),
            event => Ok(event),
        }
    }

    async fn uses(&mut self, tool: &str, arguments: Value) -> Result<(Event, Duration)> {
        let (gate, resource) = (self.gate.socket.clone(), self.resource.clone());
        let started = Instant::now();
        let event = self.does(&Order::Use { gate, resource, tool: tool.to_owned(), arguments }).await?;
        Ok((event, started.elapsed()))
    }

    /// A call that must be allowed, and what came of it.
    async fn called(&mut self, tool: &str, arguments: Value) -> Result<String> {
        match self.uses(tool, arguments).await? {
            (Event::Called { said }, time) => Ok(format!("{tool} in {}: {said}", took(time))),
            (event, _) => bail!("{tool} was not allowed: {event:?}"),
        }
    }

    /// A call that must be denied, for this reason.
    async fn denied(&mut self, tool: &str, arguments: Value, code: &str) -> Result<String> {
        match self.uses(tool, arguments).await? {
            (Event::Denied { reason }, time) if reason == code => {
                Ok(format!("denied in {}: {reason}", took(time)))
            }
            (event, _) => bail!("{tool} was not denied because of {code}: {event:?}"),
        }
    }
}

const WORK: &str = "\
tenants:
- name: demo
  categories: [payroll]
actors:
- id: /agent/triage
  tenant: demo
  owner: ada@demo.example
  purpose: to sort tickets
  autonomy: 2
  review_at: 2099-01-01
  ceiling:
    scope: [{tool: \"tickets/*\"}]
    data_max: 3
    environments: [default]
mandates:
- name: sort-tickets
  terms:
    actor: /agent/triage
    purpose: ticket-triage
    begin: {itself: true}
    parameters: {ticket: {text: {max_bytes: 20}}}
    scope:
    - {tool: tickets/read_ticket, args: {id: [{param: ticket}]}}
    - {tool: tickets/read_payroll, args: {}}
    - {tool: tickets/send_mail, args: {to: [{one_of: [ada@demo.example]}], text: []}}
    data_max: 3
    environments: [default]
    ttl: 5m
    tier: 1
    isolation: process
    egress: open
resources:
- name: tickets
  tenant: demo
  enforcement_points: [/gate]
  tools:
    read_ticket: {effect: read, label: {sources: [tickets]}}
    read_payroll: {effect: read, label: {confidentiality: 2, categories: [payroll]}}
    send_mail: {effect: net, control_args: [to]}
entries:
- {spiffe_id: /agent/triage, parent: local, selectors: TRIAGE}
- {spiffe_id: /gate, parent: local, selectors: GATE}
";

/// Both sides of the demo's tenant say the same.
const OWN: &str = "permit(principal in Writ::Tenant::\"demo\", action, resource);\n";

/// Mail is tier 2, and from there on the platform wants a task without a network of its own. A demo without root cannot
/// take the network away, so it lowers that by name; what is read still decides what is sent.
const LOWERED: &str = "\
@id(\"apart-from-tier-2\")
forbid (principal, action, resource)
when { context.tier >= 2 && context.isolation == \"shared\" };

@id(\"nothing-of-tier-3\")
forbid (principal, action, resource)
when { context.tier >= 3 };
";

/// The last of the node's records about the task.
const RECORDED: &str = "task.end";
const UPLOADED_WITHIN: Duration = Duration::from_secs(10);
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(50);
