//! `writ task`: what is under way, and an administrator's hand on it. What a process asks for itself is beside.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use registry::objects::{Beginner, Task, TaskState};
use serde_json::json;
use server_api::admin::{Client, Turned};

use super::{
    Shared, actor, admin,
    output::{self, plain},
    own_task,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ task list                                    tasks that are not over
  writ task list --all                              also those that ended a moment ago
  writ task show 01JD8…
  writ task end 01JD8… --why 'wrong ticket'         with all tasks below it
  writ task suspend 01JD8… --why 'looking at it'
  writ task resume 01JD8… --why 'it is fine'
  writ task begin --mandate sort-tickets --param queue=billing    held until this command is told to end
  writ task watch                                                 tasks of this process, after each change
  writ task token                                                 a transaction token of its only task

A task belongs to the process that asked for it: programs ask over the workload socket, see docs/tasks.md, and
`writ run --mandate` makes a command one.";

#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// Show tasks that are not over
    List {
        /// Also those that ended a moment ago.
        #[arg(long)]
        all: bool,
    },
    /// Show tasks whole
    Show {
        /// Ids of tasks.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// End a task and all below it
    End(Turn),
    /// Suspend a task and all below it: it may wait or end
    Suspend(Turn),
    /// Let a suspended task go on
    Resume(Turn),
    #[command(flatten)]
    Own(own_task::OwnTask),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Turn {
    /// The task's id.
    id: String,
    /// Why, for whoever reads it later.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

pub(crate) async fn run(verb: TaskVerb, shared: &Shared) -> Result<ExitCode> {
    if let TaskVerb::Own(verb) = verb {
        return own_task::run(verb, shared).await;
    }
    let mut server = admin::connect(shared).await?;
    match verb {
        TaskVerb::Own(_) => {} // answered above, without any server
        TaskVerb::List { all } => {
            let mut tasks: Vec<Task> = admin::listed(&mut server, "task", Vec::new()).await?;
            tasks.retain(|task| all || !task.is_ended());
            output::show(shared.output, &json!({ "tasks": tasks }), |_| rows(&tasks))?;
        }
        TaskVerb::Show { ids } => {
            let tasks: Vec<Task> = admin::listed(&mut server, "task", ids).await?;
            output::show(shared.output, &json!({ "tasks": tasks }), |_| {
                tasks.iter().map(block).collect::<Vec<_>>().join("\n")
            })?;
        }
        TaskVerb::End(turn) => turned(&mut server, Turned::Ended, turn, shared).await?,
        TaskVerb::Suspend(turn) => turned(&mut server, Turned::Suspended, turn, shared).await?,
        TaskVerb::Resume(turn) => turned(&mut server, Turned::Resumed, turn, shared).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn turned(server: &mut Client, to: Turned, Turn { id, why }: Turn, shared: &Shared) -> Result<()> {
    server.turn_task(&id, to, &why).await?;
    let (word, said) = match to {
        Turned::Ended => ("ended", "is over, with all tasks below it"),
        Turned::Suspended => ("suspended", "is suspended, with all tasks below it"),
        Turned::Resumed => ("resumed", "may act again"),
    };
    output::show(shared.output, &json!({ word: id, "why": why }), |_| format!("{} {said}", plain(&id)))?;
    Ok(())
}

fn rows(tasks: &[Task]) -> String {
    let heading = ["TASK", "ACTOR", "MANDATE", "NODE", "STATE", "ENDS"];
    let rows = tasks.iter().map(|task| {
        vec![
            "  ".repeat(task.depth.into()) + task.id.as_str(),
            task.actor.path().to_owned(),
            format!("{} v{}", task.mandate, task.mandate_version),
            task.home.path().rsplit('/').next().unwrap_or_default().to_owned(),
            state(task),
            task.expires_at.to_string(),
        ]
    });
    output::table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>())
}

/// The state of a task in a few words.
pub(crate) fn state(task: &Task) -> String {
    match &task.state {
        TaskState::Active => "active".to_owned(),
        TaskState::Suspended { reason, .. } => format!("suspended: {}", reason.as_str()),
        TaskState::Ended { reason, closed, .. } => {
            format!("{}: {}", if *closed { "closed" } else { "ended" }, reason.as_str())
        }
    }
}

fn block(task: &Task) -> String {
    let mut text = format!("{}\n", task.id);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<14}{}\n", plain(&value)));
        }
    };
    line("state", state(task));
    line("actor", task.actor.to_string());
    line("tenant", task.tenant.to_string());
    line("mandate", format!("{} v{}, for {}", task.mandate, task.mandate_version, task.purpose));
    line(
        "begun by",
        match &task.beginner {
            Beginner::Itself => "itself, with nobody asking".to_owned(),
            Beginner::Workload(id) => id.to_string(),
            Beginner::Parent(id) => format!("the task {id}"),
        },
    );
    task.params.iter().for_each(|(name, value)| {
        line("parameter", format!("{name} = {}", serde_json::to_string(value).unwrap_or_default()));
    });
    line("note", task.note.clone());
    line("node", format!("{} ({})", task.home, task.environment));
    line("chain", format!("{}, depth {}", task.root, task.depth));
    actor::rules(&task.scope).into_iter().for_each(|rule| line("scope", rule));
    line("data at most", u8::from(task.data_max).to_string());
    line("tier", u8::from(task.tier).to_string());
    line("measured", format!("isolation {}, egress {}", task.isolation.as_str(), task.egress.as_str()));
    let lowered = task.lowered_by.iter().map(ToString::to_string).collect::<Vec<_>>();
    line("lowered by", lowered.join(", "));
    let budget = &task.budget;
    line(
        "budget",
        format!(
            "{} actions, {} denials, {} of {} children",
            budget.actions, budget.denials, task.children, budget.children
        ),
    );
    line("began", task.began_at.to_string());
    line("ends", task.expires_at.to_string());
    text
}
