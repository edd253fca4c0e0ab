//! `writ fetch`: be a workload.

mod files;

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::Subcommand;
use serde::Serialize;
use spiffe::{Bundles, Timestamp};

use super::{
    Shared,
    output::{self, Format, plain},
};
use crate::{
    identity::{Identities, Shown, pem},
    wire::workload::{self, Refused},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ fetch x509                                who am I?
  writ fetch x509 --watch --write /run/app/tls   svid.pem, key.pem and bundle.pem, kept fresh
  writ fetch bundles                             whom may I believe?

The agent is found by --socket, then --data (or WRIT_DATA), then SPIFFE_ENDPOINT_SOCKET.";

/// Between an answer that ended and the next question.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What to fetch.
#[derive(Debug, Subcommand)]
pub(crate) enum Fetch {
    /// X509-SVIDs of this process, with the bundles to judge others by
    X509(How),
    /// X.509 bundles alone
    Bundles(How),
}

#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Go on, and print each change; an agent that is gone is asked again.
    #[arg(long)]
    watch: bool,
    /// Write svid.pem, key.pem (mode 0600) and bundle.pem into this directory, each replaced whole; a
    /// lost identity's files are removed.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(crate) async fn run(fetch: Fetch, shared: &Shared) -> Result<ExitCode> {
    let socket = shared.sockets.workload()?;
    let (mut pause, format) = (FIRST_PAUSE, shared.output);
    loop {
        let (how, ended) = match &fetch {
            Fetch::X509(how) => (how, x509(&socket, how, format, &mut pause).await?),
            Fetch::Bundles(how) => (how, bundles(&socket, how, format, &mut pause).await?),
        };
        let Some(refused) = ended else { return Ok(ExitCode::SUCCESS) };
        if !how.watch {
            bail!("{refused}");
        }
        if matches!(refused, Refused::NoIdentity(_)) {
            lose(how, format)?;
        }
        output::remark(&format!("writ: {}; asking again", plain(&refused.to_string())));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Shows what comes, until one has come and no more are wanted, or the agent refuses.
async fn x509(
    socket: &std::path::Path,
    how: &How,
    format: Format,
    pause: &mut Duration,
) -> Result<Option<Refused>> {
    let mut updates = match workload::x509_svids(socket).await {
        Ok(updates) => updates,
        Err(refused) => return Ok(Some(refused)),
    };
    loop {
        let identities = match updates.next(now).await {
            Ok(identities) => identities,
            Err(refused) => return Ok(Some(refused)),
        };
        *pause = FIRST_PAUSE;
        if let Some(dir) = &how.write {
            files::write(dir, &identities)?;
        }
        output::show(format, &Answer::of(&identities), |_| identities_text(&identities, now(), how))?;
        if !how.watch {
            return Ok(None);
        }
    }
}

async fn bundles(
    socket: &std::path::Path,
    how: &How,
    format: Format,
    pause: &mut Duration,
) -> Result<Option<Refused>> {
    let mut updates = match workload::x509_bundles(socket).await {
        Ok(updates) => updates,
        Err(refused) => return Ok(Some(refused)),
    };
    loop {
        let bundles = match updates.next().await {
            Ok(bundles) => bundles,
            Err(refused) => return Ok(Some(refused)),
        };
        *pause = FIRST_PAUSE;
        if let Some(dir) = &how.write {
            files::write_bundles(dir, &bundles)?;
        }
        let answer = Answer { svids: None, bundles: pems(&bundles) };
        output::show(format, &answer, |answer| bundles_text(&answer.bundles))?;
        if !how.watch {
            return Ok(None);
        }
    }
}

/// Absence is redaction: what was written is no longer this process's.
fn lose(how: &How, format: Format) -> Result<()> {
    if let Some(dir) = &how.write {
        files::remove(dir)?;
    }
    if format == Format::Json {
        output::show(format, &Answer { svids: Some(Vec::new()), bundles: BTreeMap::new() }, |_| {
            String::new()
        })?;
    }
    Ok(())
}

/// What is printed as JSON: no keys, as what is printed ends up in logs.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    svids: Option<Vec<Shown<'a>>>,
    bundles: BTreeMap<String, Vec<String>>,
}

impl<'a> Answer<'a> {
    fn of(identities: &'a Identities) -> Self {
        Self {
            svids: Some(identities.svids.iter().map(Shown::from).collect()),
            bundles: pems(&identities.bundles),
        }
    }
}

fn pems(bundles: &Bundles) -> BTreeMap<String, Vec<String>> {
    let authorities = bundles.iter().map(|bundle| {
        let pems = bundle.x509_authorities.iter().map(|der| pem("CERTIFICATE", der));
        (bundle.trust_domain.to_string(), pems.collect())
    });
    authorities.collect()
}

fn identities_text(identities: &Identities, now: Timestamp, how: &How) -> String {
    let mut text = String::new();
    for svid in &identities.svids {
        let left = Duration::from_secs(svid.not_after.since(now).as_secs());
        text.push_str(&format!("{}\n", svid.id));
        if !svid.hint.is_empty() {
            text.push_str(&format!("  hint         {}\n", plain(&svid.hint)));
        }
        text.push_str(&format!(
            "  valid until  {} ({} left)\n",
            svid.not_after,
            humantime::format_duration(left)
        ));
    }
    text.push_str(&bundles_text(&pems(&identities.bundles)));
    if let Some(dir) = &how.write {
        text.push_str(&format!("written to {}: svid.pem, key.pem, bundle.pem\n", dir.display()));
    }
    text
}

fn bundles_text(bundles: &BTreeMap<String, Vec<String>>) -> String {
    let line = |(name, authorities): (&String, &Vec<String>)| match authorities.len() {
        1 => format!("trusts {name} (1 authority)\n"),
        many => format!("trusts {name} ({many} authorities)\n"),
    };
    bundles.iter().map(line).collect()
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(daemon::now_unix_millis())
}
