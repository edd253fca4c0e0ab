//! `writ policy`: Cedar policies as code, one directory a layer.

mod files;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Subcommand;
use registry::objects::{Layer, Policy};
use serde_json::json;
use server_api::admin::Pushed;

use super::{
    Shared, admin,
    output::{self, plain},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ policy check policies/          is every file in order? asks no server
  writ policy push policies/           makes each layer that has a directory exactly what its files say
  writ policy show                     the names; with --output json also the texts
  writ policy show platform/lab
A directory holds layers:
  platform/NAME.cedar                  may only forbid
  platform/NAME.lowers.yaml            beside it: tiers that need less, e.g. `egress: [2]`; explain names it
  actor/TENANT/NAME.cedar              about the tenant's actors
  resource/TENANT/NAME.cedar           about the tenant's resources";

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Say what is wrong with the files of a directory
    Check {
        /// The directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Make each layer that has a directory exactly what its files say, each in one step
    Push {
        /// The directory.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Show policies; the names of all where none is named
    Show {
        /// Names, such as platform/lab.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
}

pub(crate) async fn run(verb: PolicyVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        PolicyVerb::Check { directory } => check(&files::read(&directory)?, shared),
        PolicyVerb::Push { directory } => push(files::read(&directory)?, shared).await,
        PolicyVerb::Show { names } => show(names, shared).await,
    }
}

fn check(layers: &[files::Layered], shared: &Shared) -> Result<ExitCode> {
    let policies: Vec<&Policy> = layers.iter().flat_map(|layer| &layer.policies).collect();
    let faults: Vec<String> = policies
        .iter()
        .flat_map(|policy| authz::policy::check(policy, &files::Unknown))
        .map(|fault| fault.to_string())
        .collect();
    output::show(shared.output, &json!({ "policies": policies.len(), "faults": faults }), |_| match faults
        .len()
    {
        0 => format!("{} files are in order", policies.len()),
        _ => faults.iter().map(|fault| plain(fault)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn push(layers: Vec<files::Layered>, shared: &Shared) -> Result<ExitCode> {
    if layers.is_empty() {
        bail!("there is no layer in the directory; make platform/, actor/TENANT/ or resource/TENANT/");
    }
    let mut server = admin::connect(shared).await?;
    for files::Layered { layer, policies } in layers {
        let Pushed { put, gone, revision } = server.push_policies(&layer, policies).await?;
        let said = json!({ "layer": layer.to_string(), "put": put, "gone": gone, "revision": revision });
        output::show(shared.output, &said, |_| match put.len() + gone.len() {
            0 => format!("{layer}: nothing changed"),
            _ => format!(
                "{layer}: {} put, {} gone, in effect from revision {revision} on",
                put.len(),
                gone.len()
            ),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(names: Vec<String>, shared: &Shared) -> Result<ExitCode> {
    let mut server = admin::connect(shared).await?;
    let whole = !names.is_empty();
    let policies: Vec<Policy> = admin::listed(&mut server, "policy", names).await?;
    output::show(shared.output, &json!({ "policies": policies }), |_| match whole {
        true => policies.iter().map(block).collect::<Vec<_>>().join("\n"),
        false => rows(&policies),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn block(policy: &Policy) -> String {
    // What a policy says may be shown as it is, but for control characters other than its own lines.
    let text = policy.text.lines().map(plain).collect::<Vec<_>>().join("\n");
    format!("// {}, pushed {}{}\n{text}\n", policy.id, policy.pushed_at, lowers(policy))
}

fn rows(policies: &[Policy]) -> String {
    let heading = ["POLICY", "BYTES", "PUSHED", "LOWERS"].map(str::to_owned).to_vec();
    let rows = policies.iter().map(|policy| {
        let (bytes, lowers) =
            (policy.text.len().to_string(), lowers(policy).trim_start_matches(", ").to_owned());
        vec![policy.id.to_string(), bytes, policy.pushed_at.to_string(), lowers]
    });
    output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

/// What a policy of the platform lowers; nobody should have to look for it.
fn lowers(policy: &Policy) -> String {
    let tiers = |what: &str, tiers: &std::collections::BTreeSet<registry::scope::Tier>| {
        let tiers: Vec<String> = tiers.iter().map(|tier| u8::from(*tier).to_string()).collect();
        if tiers.is_empty() {
            String::new()
        } else {
            format!(", lowers {what} of tier {}", tiers.join(" and "))
        }
    };
    debug_assert!(policy.lowers.is_nothing() || policy.id.layer == Layer::Platform);
    tiers("isolation", &policy.lowers.isolation) + &tiers("egress", &policy.lowers.egress)
}
