//! `writ fetch`: be a workload.

pub(super) mod files;
mod jwt;

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
  writ fetch jwt --audience db                   a token for the audience db
  writ fetch jwt --audience db --validate -      whose is the token on standard input, if it is good?
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
    /// JWT-SVIDs of this process, or the judgement of somebody else's
    Jwt(jwt::Jwt),
    /// Bundles alone: authorities for certificates and keys for tokens
    Bundles(How),
}

#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Go on, and print each change; an agent that is gone is asked again.
    #[arg(long)]
    watch: bool,
    /// Write svid.pem, key.pem (mode 0600) and bundle.pem, or svid.jwt (mode 0600), or a .bundle.pem and a
    /// .jwks.json for each trust domain into this directory, each replaced whole; a lost identity's files
    /// are removed.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(crate) async fn run(fetch: Fetch, shared: &Shared) -> Result<ExitCode> {
    let socket = shared.sockets.workload()?;
    let (mut pause, format) = (FIRST_PAUSE, shared.output);
    loop {
        let (how, ended) = match &fetch {
            Fetch::X509(how) => (how, x509(&socket, how, format, &mut pause).await?),
            Fetch::Jwt(jwt) => (&jwt.how, jwt::run(&socket, jwt, format, &mut pause).await?),
            Fetch::Bundles(how) => (how, bundles(&socket, how, format, &mut pause).await?),
        };
        let Some(refused) = ended else { return Ok(ExitCode::SUCCESS) };
        if !how.watch {
            bail!("{refused}");
        }
        if matches!(refused, Refused::NoIdentity(_)) {
            lose(&fetch, how, format)?;
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
    let both = async { tokio::try_join!(workload::x509_bundles(socket), workload::jwt_bundles(socket)) };
    let (mut x509, mut jwt) = match both.await {
        Ok(both) => both,
        Err(refused) => return Ok(Some(refused)),
    };
    let mut known = match tokio::try_join!(x509.next(), jwt.next()) {
        Ok(known) => known,
        Err(refused) => return Ok(Some(refused)),
    };
    loop {
        *pause = FIRST_PAUSE;
        let (authorities, keys) = &known;
        if let Some(dir) = &how.write {
            files::write_bundles(dir, authorities, keys)?;
        }
        let answer = Answer { svids: None, bundles: pems(authorities), jwt_bundles: key_sets(keys)? };
        output::show(format, &answer, |answer| bundles_text(&answer.bundles, Some(keys)))?;
        if !how.watch {
            return Ok(None);
        }
        let changed = tokio::select! {
            next = x509.next() => next.map(|next| known.0 = next),
            next = jwt.next() => next.map(|next| known.1 = next),
        };
        if let Err(refused) = changed {
            return Ok(Some(refused));
        }
    }
}

/// Absence is redaction: what was written is no longer this process's.
fn lose(fetch: &Fetch, how: &How, format: Format) -> Result<()> {
    match (&how.write, fetch) {
        (Some(dir), Fetch::Jwt(_)) => files::remove_token(dir)?,
        (Some(dir), _) => files::remove(dir)?,
        (None, _) => {}
    }
    if format == Format::Json {
        output::show(format, &Answer { svids: Some(Vec::new()), ..Answer::default() }, |_| String::new())?;
    }
    Ok(())
}

/// What is printed as JSON: no keys, as what is printed ends up in logs.
#[derive(Default, Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    svids: Option<Vec<Shown<'a>>>,
    bundles: BTreeMap<String, Vec<String>>,
    /// Key sets (JWKS) by trust domain.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    jwt_bundles: BTreeMap<String, serde_json::Value>,
}

impl<'a> Answer<'a> {
    fn of(identities: &'a Identities) -> Self {
        Self {
            svids: Some(identities.svids.iter().map(Shown::from).collect()),
            bundles: pems(&identities.bundles),
            jwt_bundles: BTreeMap::new(),
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

fn key_sets(bundles: &Bundles) -> Result<BTreeMap<String, serde_json::Value>> {
    let document = |bundle: &std::sync::Arc<spiffe::Bundle>| {
        Ok((bundle.trust_domain.to_string(), serde_json::from_slice(&bundle.to_document()?)?))
    };
    bundles.iter().map(document).collect()
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
    text.push_str(&bundles_text(&pems(&identities.bundles), None));
    if let Some(dir) = &how.write {
        text.push_str(&format!("written to {}: svid.pem, key.pem, bundle.pem\n", dir.display()));
    }
    text
}

fn bundles_text(bundles: &BTreeMap<String, Vec<String>>, keys: Option<&Bundles>) -> String {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let line = |(name, authorities): (&String, &Vec<String>)| {
        let authorities = counted(authorities.len(), "authority", "authorities");
        let keys = keys.and_then(|keys| keys.get(name)).map(|bundle| bundle.jwt_authorities.len());
        let keys = keys.map(|keys| format!(", {}", counted(keys, "key for tokens", "keys for tokens")));
        format!("trusts {name} ({authorities}{})\n", keys.unwrap_or_default())
    };
    bundles.iter().map(line).collect()
}

fn now() -> Timestamp {
    Timestamp::from_unix_millis(daemon::now_unix_millis())
}
