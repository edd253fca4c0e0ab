//! `writ task begin|watch|token`: tasks of the process that asks, over the workload socket.

use std::process::ExitCode;

use anyhow::{Result, bail};
use registry::{
    objects::{Task, TaskId, TaskState},
    scope::{ParamName, Params, Scalar},
};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Shared, Usage, output};
use crate::wire::task::{Own, Tasks, Wish};

/// Tasks of the process that asks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum OwnTask {
    /// Begin a task for this very command, and hold it until it is told to end
    Begin(Begin),
    /// Follow the tasks of this process's domain
    Watch,
    /// Print a transaction token of a task of this process's domain
    Token {
        /// Of which one; without it of the only one.
        #[arg(value_name = "ID")]
        id: Option<TaskId>,
    },
}

/// A task that is to begin.
#[derive(Debug, clap::Args)]
pub(crate) struct Begin {
    /// Under which mandate.
    #[arg(long, value_name = "NAME")]
    mandate: String,
    /// A parameter of the mandate, as often as it has some. A whole number, true, false and a text in double quotes are
    /// what they are; anything else is text.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// It ends after this time, if the mandate does not end it before.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    ttl: Option<std::time::Duration>,
    /// What it does, for whoever reads it later. No decision reads it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

pub(crate) async fn run(verb: OwnTask, shared: &Shared) -> Result<ExitCode> {
    match verb {
        OwnTask::Begin(wish) => begin(wish, shared).await,
        OwnTask::Watch => watch(shared).await,
        OwnTask::Token { id } => token(id, shared).await,
    }
}

/// Begins a task for this command itself, holds it, and ends it with itself.
///
/// A task belongs to the process that asked for it, so this one stays: it says what began, waits, and ends the task when
/// it is told to end. Programs ask the agent themselves.
async fn begin(begin: Begin, shared: &Shared) -> Result<ExitCode> {
    let wish = Wish {
        mandate: begin.mandate,
        params: params(&begin.params)?,
        ttl: begin.ttl.map_or(Ok(0), |ttl| u32::try_from(ttl.as_secs()).map_err(|_| too_long()))?,
        note: begin.note,
    };
    let mut tasks = Tasks::connect(&shared.sockets.workload()?).await?;
    let mut told = Told::by_signals()?;
    let own = tasks.begin(wish).await?;
    show(&own, shared)?;
    let mut watched = tasks.watch().await?;
    loop {
        tokio::select! {
            () = told.end() => {
                let id = own.task.id.to_string();
                tasks.end(Some(id)).await?;
                return Ok(ExitCode::SUCCESS);
            }
            now = watched.next() => {
                let Some(now) = now? else { bail!("the agent ended, and with it goes the hold on {}", own.task.id) };
                match now.iter().find(|other| other.task.id == own.task.id).map(|other| &other.task.state) {
                    Some(TaskState::Ended { reason, .. }) => bail!("task {} has ended: {}", own.task.id, reason.as_str()),
                    None => bail!("task {} has ended", own.task.id),
                    Some(_) => {}
                }
            }
        }
    }
}

/// Prints the tasks of this process's domain, after each change.
async fn watch(shared: &Shared) -> Result<ExitCode> {
    let mut watched = Tasks::connect(&shared.sockets.workload()?).await?.watch().await?;
    while let Some(now) = watched.next().await? {
        let all: Vec<_> = now.iter().map(|own| &own.task).collect();
        output::show(shared.output, &json!({ "tasks": all }), |_| match now.as_slice() {
            [] => "no task".to_owned(),
            now => now
                .iter()
                .map(|own| format!("{}  {}", own.task.id, state(&own.task)))
                .collect::<Vec<_>>()
                .join("\n"),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a transaction token of a task of this process's domain.
async fn token(id: Option<TaskId>, shared: &Shared) -> Result<ExitCode> {
    let mut tasks = Tasks::connect(&shared.sockets.workload()?).await?;
    let (token, expires_at) = tasks.token(id.map(|id| id.to_string())).await?;
    output::show(shared.output, &json!({ "token": token, "expires_at": expires_at }), |_| token.clone())?;
    Ok(ExitCode::SUCCESS)
}

/// `NAME=VALUE` pairs as the JSON object that the agent takes.
pub(crate) fn params(pairs: &[String]) -> Result<Vec<u8>> {
    let mut params = Params::new();
    for pair in pairs {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Usage(format!("{pair:?} is not a parameter: write NAME=VALUE")))?;
        let name: ParamName = name.parse().map_err(|error| Usage(format!("{error}")))?;
        if params.insert(name, scalar(value)).is_some() {
            bail!(Usage(format!("{pair:?} names a parameter that was given before")));
        }
    }
    Ok(serde_json::to_vec(&params)?)
}

fn scalar(value: &str) -> Scalar {
    match serde_json::from_str::<serde_json::Value>(value) {
        Ok(serde_json::Value::Bool(value)) => Scalar::Bool(value),
        Ok(serde_json::Value::String(text)) => Scalar::Text(text),
        Ok(serde_json::Value::Number(number)) => match number.as_i64() {
            Some(number) => Scalar::Int(number),
            None => Scalar::Text(value.to_owned()),
        },
        _ => Scalar::Text(value.to_owned()),
    }
}

/// The state of a task in a few words.
fn state(task: &Task) -> String {
    match &task.state {
        TaskState::Active => "active".to_owned(),
        TaskState::Suspended { reason, .. } => format!("suspended: {}", reason.as_str()),
        TaskState::Ended { reason, .. } => format!("ended: {}", reason.as_str()),
    }
}

fn show(own: &Own, shared: &Shared) -> Result<()> {
    let Own { task, spiffe_id } = own;
    let shown = json!({ "id": task.id, "spiffe_id": spiffe_id, "task": task });
    output::show(shared.output, &shown, |_| format!("{}\n{spiffe_id}\nuntil {}", task.id, task.expires_at))?;
    Ok(())
}

/// What tells a command to end.
struct Told([Signal; 3]);

impl Told {
    fn by_signals() -> Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn end(&mut self) {
        let [interrupted, terminated, hung_up] = &mut self.0;
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
        }
    }
}

fn too_long() -> Usage {
    Usage("a task does not last that long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(pairs: &[&str]) -> String {
        let pairs: Vec<_> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        String::from_utf8(params(&pairs).unwrap()).unwrap()
    }

    #[test]
    fn a_parameter_is_what_it_looks_like_and_text_when_it_is_quoted() {
        let all = json_of(&["a=x y", "b=7", "c=true", "d=\"7\"", "e=1.5", "f=a=b", "g="]);
        assert_eq!(all, r#"{"a":"x y","b":7,"c":true,"d":"7","e":"1.5","f":"a=b","g":""}"#);
        assert!(params(&["a=1".to_owned(), "a=2".to_owned()]).is_err());
        assert!(params(&["a".to_owned()]).is_err());
    }
}
