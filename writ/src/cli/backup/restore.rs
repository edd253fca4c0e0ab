//! `writ backup restore` and `writ backup accept`: what a server goes on from.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use daemon::{DirLock, Layout};
use server::backup::restore::{self as state, Accepted, Restored};
use spiffe::TrustDomain;

use super::{Target, secret};
use crate::cli::{Shared, Usage, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The backup, or - for standard input.
    file: PathBuf,
    #[command(flatten)]
    target: Target,
    /// Take the passphrase from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "identity_file")]
    passphrase_file: Option<PathBuf>,
    /// Open it with the keys in this file (AGE-SECRET-KEY-1…).
    #[arg(long, value_name = "FILE")]
    identity_file: Option<PathBuf>,
    /// Move what is in the state directory aside.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Accept {
    #[command(flatten)]
    target: Target,
}

/// The state of a server that is not running.
struct Place {
    state_dir: PathBuf,
    trust_domain: Option<TrustDomain>,
    /// Of `writ up`.
    layout: Option<Layout>,
    /// How to start it.
    start: String,
    /// Keeps `writ up` from starting meanwhile.
    _alone: Option<DirLock>,
}

pub(super) fn restore(restore: Restore, shared: &Shared) -> Result<()> {
    let input: Box<dyn Read> = match restore.file.as_os_str().as_encoded_bytes() {
        b"-" => Box::new(io::stdin().lock()),
        _ => Box::new(
            File::open(&restore.file).with_context(|| format!("cannot open {}", restore.file.display()))?,
        ),
    };
    let place = Place::of(&restore.target, shared)?;
    let with = secret::opens(restore.passphrase_file.as_deref(), restore.identity_file.as_deref())?;
    let asked = state::Restore {
        state_dir: &place.state_dir,
        trust_domain: place.trust_domain.as_ref(),
        replace: restore.replace,
        evict_nodes: restore.target.evict_nodes,
    };
    let restored = state::restore(input, &with, &asked)?;
    place.remember(&restored)?;
    output::show(shared.output, &restored, |restored| text(restored, &place))?;
    Ok(())
}

pub(super) fn accept(accept: &Accept, shared: &Shared) -> Result<()> {
    let place = Place::of(&accept.target, shared)?;
    let trust_domain = place.trust_domain.as_ref().with_context(|| {
        format!(
            "nothing says whose server {} is; name its configuration with --config",
            place.state_dir.display()
        )
    })?;
    let accepted = state::accept(&place.state_dir, trust_domain, accept.target.evict_nodes)?;
    output::show(shared.output, &accepted, |accepted| {
        let Accepted { begins_at, begun } = accepted;
        format!(
            "The log in {} goes on as a new one from revision {}\n{}\nStart it: {}",
            place.state_dir.display(),
            begins_at.0,
            void(begun),
            place.start
        )
    })?;
    Ok(())
}

impl Place {
    fn of(target: &Target, shared: &Shared) -> Result<Self> {
        if let Some(file) = &target.config {
            if shared.sockets.data.is_some() && std::env::var_os("WRIT_DATA").is_none() {
                return Err(
                    Usage("--data and --config name two servers; leave one of them away".to_owned()).into()
                );
            }
            let config: server::Config = daemon::load(file)?;
            let start = format!("writ server run --config {}", file.display());
            let (state_dir, trust_domain) = (config.state_dir, Some(config.trust_domain));
            return Ok(Self { state_dir, trust_domain, layout: None, start, _alone: None });
        }
        let layout = shared.sockets.layout()?;
        daemon::private_dir(&layout.state)?;
        let alone = daemon::lock_dir(&layout.state)?;
        let trust_domain = remembered(&layout)?;
        let start = match &shared.sockets.data {
            Some(data) => format!("writ up --data {}", data.display()),
            None => "writ up".to_owned(),
        };
        let state_dir = layout.server_state();
        Ok(Self { state_dir, trust_domain, layout: Some(layout), start, _alone: Some(alone) })
    }

    /// A fresh directory of `writ up` must know whose it is, and where its agents look for the server.
    fn remember(&self, restored: &Restored) -> Result<()> {
        match (&self.layout, &self.trust_domain) {
            (Some(layout), None) => remember(layout, restored),
            _ => Ok(()),
        }
    }
}

#[cfg(feature = "agent")]
fn remembered(layout: &Layout) -> Result<Option<TrustDomain>> {
    crate::up::trust_domain_of(layout)
}

#[cfg(feature = "agent")]
fn remember(layout: &Layout, restored: &Restored) -> Result<()> {
    crate::up::remember(layout, &restored.content.trust_domain, &restored.content.listen)
}

#[cfg(not(feature = "agent"))]
fn remembered(_: &Layout) -> Result<Option<TrustDomain>> {
    Ok(None)
}

#[cfg(not(feature = "agent"))]
fn remember(_: &Layout, _: &Restored) -> Result<()> {
    Ok(())
}

fn text(restored: &Restored, place: &Place) -> String {
    let content = &restored.content;
    let mut text = format!(
        "Restored {} as of {} (revision {} of log {}) in {}: {} entries, {} nodes\n",
        content.trust_domain,
        content.at,
        content.revision.0,
        output::plain(&content.log.0),
        place.state_dir.display(),
        content.entries,
        content.nodes,
    );
    if let Some(aside) = &restored.moved_to {
        text.push_str(&format!("What was there lies in {} now\n", aside.display()));
    }
    text.push_str(&format!(
        "It goes on as a new log: what was done after revision {} is not in it, so bans, evictions and deletions since then must be made again\n",
        content.revision.0
    ));
    text.push_str(&void(&restored.begun));
    text.push_str(&format!(
        "\nStart it: {}\nAgents come back by themselves where they find it at their address for it (it was {})",
        place.start,
        output::plain(&content.listen)
    ));
    text
}

fn void(begun: &server::backup::restore::Begun) -> String {
    let tasks = match begun.tasks_ended {
        0 => String::new(),
        ended => format!("; {ended} tasks that were under way are over"),
    };
    let nodes = match begun.nodes_evicted {
        0 => format!(
            "{} join tokens that were not spent are void, and {} nodes must prove their keys, which their agents do by themselves",
            begun.tokens_void, begun.nodes_to_return
        ),
        evicted => format!(
            "{} join tokens that were not spent are void, and {evicted} nodes are forgotten: each must join with a new token",
            begun.tokens_void
        ),
    };
    nodes + &tasks
}
