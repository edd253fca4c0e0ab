//! `writ mandate`: the templates of work, and who stands behind each.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use registry::objects::{Mandate, Sha256, Terms};
use serde_json::json;

use super::{
    Shared, actor, admin,
    output::{self, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ mandate list
  writ mandate show sort-tickets
  writ mandate approve sort-tickets                 the draft as it is now
  writ mandate approve sort-tickets --sha256 3f2a…  only if it is still the draft that you read
  writ mandate withdraw sort-tickets                ends all tasks under it
Mandates are declared in files: see `writ apply --help`. What is declared is a draft until it is approved.";

#[derive(Debug, Subcommand)]
pub(crate) enum MandateVerb {
    /// Show all mandates
    List,
    /// Show mandates whole: what is approved, and what waits for that
    Show {
        /// Names.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Approve the draft of a mandate; the server signs it
    Approve {
        /// Its name.
        name: String,
        /// Approve only the draft with this digest, as `show` prints it.
        #[arg(long, value_name = "DIGEST")]
        sha256: Option<Sha256>,
    },
    /// Take the approval of a mandate back; all tasks under it end
    Withdraw {
        /// Its name.
        name: String,
    },
}

pub(crate) async fn run(verb: MandateVerb, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    match verb {
        MandateVerb::List => {
            let mandates: Vec<Mandate> = admin::listed(&mut server, "mandate", Vec::new()).await?;
            output::show(shared.output, &json!({ "mandates": mandates }), |_| rows(&mandates))?;
        }
        MandateVerb::Show { names } => {
            let mandates: Vec<Mandate> = admin::listed(&mut server, "mandate", names).await?;
            output::show(shared.output, &json!({ "mandates": mandates }), |_| {
                mandates.iter().map(block).collect::<Vec<_>>().join("\n")
            })?;
        }
        MandateVerb::Approve { name, sha256 } => {
            let mandates: Vec<Mandate> = admin::listed(&mut server, "mandate", vec![name.clone()]).await?;
            let draft = mandates.first().and_then(|mandate| Some((mandate, mandate.draft.as_ref()?)));
            let Some((mandate, draft)) = draft else {
                bail!("the mandate {} has no draft; change it with: writ apply", plain(&name));
            };
            let read = digest(mandate, &draft.terms, draft.version)?;
            if sha256.is_some_and(|wanted| wanted != read) {
                bail!(
                    "the draft of {} is another one by now, {read}; read it with: writ mandate show {}",
                    plain(&name),
                    plain(&name)
                );
            }
            let version = server.approve_mandate(&name, draft.version, &read.to_string()).await?;
            let said = format!(
                "{} v{version} is approved, by one person; tasks may begin under it\n{}",
                plain(&name),
                terms(&draft.terms)
            );
            output::show(
                shared.output,
                &json!({ "approved": name, "version": version, "sha256": read }),
                |_| said,
            )?;
        }
        MandateVerb::Withdraw { name } => {
            server.withdraw_mandate(&name).await?;
            let said = format!("{} is withdrawn; its tasks are over", plain(&name));
            output::show(shared.output, &json!({ "withdrawn": name }), |_| said)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What an approval would sign, as it was read here: the server compares.
fn digest(mandate: &Mandate, terms: &Terms, version: u64) -> Result<Sha256> {
    let statement = terms.statement(&mandate.name, version).context("the draft cannot be signed")?;
    Ok(Sha256::of(&statement))
}

fn rows(mandates: &[Mandate]) -> String {
    let heading = ["MANDATE", "TENANT", "ACTOR", "TIER", "APPROVED", "DRAFT", "BEGUN BY"];
    let rows = mandates.iter().map(|mandate| {
        let newest = mandate.draft.as_ref().map(|draft| &draft.terms);
        let newest = newest.or(mandate.approved.as_ref().map(|approved| &approved.terms));
        let version = |version: Option<u64>| version.map_or("-".to_owned(), |version| format!("v{version}"));
        let approved = mandate.approved.as_ref();
        let alone = approved.filter(|it| it.one_person).map_or("", |_| " (one person)");
        vec![
            mandate.name.to_string(),
            mandate.tenant.to_string(),
            newest.map(|terms| terms.actor.path().to_owned()).unwrap_or_default(),
            newest.map(|terms| u8::from(terms.tier).to_string()).unwrap_or_default(),
            version(approved.map(|it| it.version)) + alone,
            version(mandate.draft.as_ref().map(|draft| draft.version)),
            newest.map(beginners).unwrap_or_default(),
        ]
    });
    output::table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect::<Vec<_>>())
}

fn beginners(terms: &Terms) -> String {
    let itself = terms.begin.itself.then(|| "itself".to_owned());
    let workloads = terms.begin.workloads.iter().map(|id| id.path().to_owned());
    let parents = terms.begin.parents.iter().map(|id| format!("tasks of {}", id.path()));
    itself.into_iter().chain(workloads).chain(parents).collect::<Vec<_>>().join(", ")
}

fn block(mandate: &Mandate) -> String {
    let mut text = format!("{}\n  tenant          {}\n", mandate.name, mandate.tenant);
    match &mandate.approved {
        None => text.push_str("  approved        nothing: no task begins under it\n"),
        Some(approved) => {
            let alone = if approved.one_person { ", one person" } else { "" };
            text.push_str(&format!(
                "  approved        v{} by {} at {}{alone}\n  sha256          {}\n{}",
                approved.version,
                plain(&approved.by),
                approved.at,
                approved.sha256,
                terms(&approved.terms),
            ));
        }
    }
    if let Some(draft) = &mandate.draft {
        let digest = digest(mandate, &draft.terms, draft.version).map(|it| it.to_string());
        text.push_str(&format!(
            "  draft           v{}, which waits for: writ mandate approve {}\n  sha256          {}\n{}",
            draft.version,
            mandate.name,
            digest.unwrap_or_default(),
            terms(&draft.terms),
        ));
    }
    text
}

fn terms(terms: &Terms) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("    {name:<14}{}\n", plain(&value)));
        }
    };
    line("actor", terms.actor.to_string());
    line("purpose", terms.purpose.to_string());
    line("begun by", beginners(terms));
    actor::rules(&terms.scope).into_iter().for_each(|rule| line("scope", rule));
    let parameters = terms
        .parameters
        .iter()
        .map(|(name, kind)| format!("{name} {}", serde_json::to_string(kind).unwrap_or_default()));
    parameters.for_each(|parameter| line("parameter", parameter));
    line("data at most", u8::from(terms.data_max).to_string());
    line("environments", terms.environments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    line("ttl", humantime::format_duration(std::time::Duration::from_secs(terms.ttl.into())).to_string());
    line("tier", u8::from(terms.tier).to_string());
    line("isolation", terms.isolation.map(|it| it.as_str().to_owned()).unwrap_or_default());
    line("egress", terms.egress.map(|it| it.as_str().to_owned()).unwrap_or_default());
    line("depth", terms.max_depth.to_string());
    if terms.export_key {
        line("key", "its processes get the task's key".to_owned());
    }
    text
}
