//! `writ actor`: AI agents as accountable parties, and what each could do with nobody asking.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use registry::{
    objects::{Actor, Mandate, Task, mandate::Reach},
    scope::Scope,
};
use serde::Serialize;
use serde_json::json;
use server_api::admin::{Client, Switched};
use spiffe::TrustDomain;

use super::{
    Shared, Usage, admin,
    output::{self, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ actor list
  writ actor show /agent/triage                     with its standing reach: what it can do with nobody asking
  writ actor disable /agent/triage --why 'it ran wild'    ends its tasks at once; none begins
  writ actor enable /agent/triage
Actors are declared in files: see `writ apply --help`.";

#[derive(Debug, Subcommand)]
pub(crate) enum ActorVerb {
    /// Show all actors
    List,
    /// Show actors whole, and what each could do with nobody asking
    Show {
        /// SPIFFE IDs, or their paths.
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    /// End all tasks of an actor and let none begin
    Disable {
        /// Its SPIFFE ID, or the path of it.
        id: String,
        /// Why, for whoever reads it later.
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Let an actor's tasks begin again; what ended stays ended
    Enable {
        /// Its SPIFFE ID, or the path of it.
        id: String,
    },
}

/// An actor with what follows from its mandates.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    actor: Actor,
    /// What it could do with nobody asking. Empty is what one wants.
    standing_reach: Vec<Reach>,
    /// The names of its mandates.
    mandates: Vec<String>,
    /// So many of its tasks are not over.
    tasks: usize,
}

pub(crate) async fn run(verb: ActorVerb, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    let trust_domain = admin::trust_domain(&mut server).await?;
    match verb {
        ActorVerb::List => {
            let actors = shown(&mut server, Vec::new()).await?;
            output::show(shared.output, &json!({ "actors": actors }), |_| rows(&actors))?;
        }
        ActorVerb::Show { ids } => {
            let ids = ids.iter().map(|id| whole(id, &trust_domain)).collect::<Result<_>>()?;
            let actors = shown(&mut server, ids).await?;
            output::show(shared.output, &json!({ "actors": actors }), |_| {
                actors.iter().map(block).collect::<Vec<_>>().join("\n")
            })?;
        }
        ActorVerb::Disable { id, why } => {
            let id = whole(&id, &trust_domain)?;
            server.switch(Switched::Actor, &id, Some(&why)).await?;
            let said = format!("{} is disabled; its tasks are over", plain(&id));
            output::show(shared.output, &json!({ "disabled": id, "why": why }), |_| said)?;
        }
        ActorVerb::Enable { id } => {
            let id = whole(&id, &trust_domain)?;
            server.switch(Switched::Actor, &id, None).await?;
            let said = format!("{} is enabled; its tasks may begin again", plain(&id));
            output::show(shared.output, &json!({ "enabled": id }), |_| said)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An actor's SPIFFE ID, where a person may have written its path.
pub(crate) fn whole(id: &str, trust_domain: &TrustDomain) -> Result<String> {
    match id.starts_with('/') {
        true => Ok(trust_domain.join(id).map_err(|error| Usage(error.to_string()))?.to_string()),
        false => Ok(id.to_owned()),
    }
}

async fn shown(server: &mut Client, ids: Vec<String>) -> Result<Vec<Shown>> {
    let actors: Vec<Actor> = admin::listed(server, "actor", ids).await?;
    let mandates: Vec<Mandate> = admin::listed(server, "mandate", Vec::new()).await?;
    let tasks: Vec<Task> = admin::listed(server, "task", Vec::new()).await?;
    Ok(actors
        .into_iter()
        .map(|actor| Shown {
            standing_reach: mandates.iter().filter_map(|mandate| mandate.standing_reach(&actor)).collect(),
            mandates: mandates.iter().filter(|m| m.is_of(&actor.id)).map(|m| m.name.to_string()).collect(),
            tasks: tasks.iter().filter(|task| task.actor == actor.id && !task.is_ended()).count(),
            actor,
        })
        .collect())
}

fn rows(actors: &[Shown]) -> String {
    let heading = ["ACTOR", "TENANT", "OWNER", "REVIEW", "STATE", "TASKS", "STANDING REACH"];
    let rows = actors.iter().map(|shown| {
        let Shown { actor, standing_reach, tasks, .. } = shown;
        vec![
            actor.id.to_string(),
            actor.tenant.to_string(),
            plain(&actor.owner),
            actor.review_at.to_string(),
            state(actor).to_owned(),
            tasks.to_string(),
            if standing_reach.is_empty() {
                "nothing".to_owned()
            } else {
                format!("{} mandates", standing_reach.len())
            },
        ]
    });
    output::table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>())
}

fn state(actor: &Actor) -> &'static str {
    match (&actor.disabled, actor.overdue) {
        (Some(_), _) => "disabled",
        (None, true) => "review overdue",
        (None, false) => "enabled",
    }
}

fn block(shown: &Shown) -> String {
    let Shown { actor, standing_reach, mandates, tasks } = shown;
    let mut text = format!("{}\n", actor.id);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<16}{}\n", plain(value)));
        }
    };
    line("state", state(actor));
    line("disabled", actor.disabled.as_deref().unwrap_or_default());
    line("tenant", actor.tenant.as_str());
    line("owner", &actor.owner);
    line("purpose", &actor.purpose);
    line("autonomy", &u8::from(actor.autonomy).to_string());
    line("review", &actor.review_at.to_string());
    let environments = actor.ceiling.environments.iter().map(ToString::to_string).collect::<Vec<_>>();
    line("environments", &environments.join(", "));
    line("data at most", &u8::from(actor.ceiling.data_max).to_string());
    rules(&actor.ceiling.scope).iter().for_each(|rule| line("ceiling", rule));
    line("mandates", &mandates.join(", "));
    line("tasks", &tasks.to_string());
    if !actor.is_task_only() {
        line(
            "identity",
            "its plain SPIFFE ID is handed out also without a task (insecure_standing_identity)",
        );
    }
    match standing_reach.is_empty() {
        true => line("standing reach", "nothing: it can do nothing unless somebody asks"),
        false => {
            for reach in standing_reach {
                let rules = rules(&reach.scope).join("; ");
                line("standing reach", &format!("{} v{}: {rules}", reach.mandate, reach.version));
            }
        }
    }
    text
}

/// The rules of a scope, one a line.
pub(crate) fn rules(scope: &Scope) -> Vec<String> {
    let args = |rule: &registry::scope::Rule| match &rule.args {
        None => String::new(),
        Some(args) => serde_json::to_string(args).map(|json| format!(" {json}")).unwrap_or_default(),
    };
    scope.rules().iter().map(|rule| format!("{}{}", rule.tool, args(rule))).collect()
}
