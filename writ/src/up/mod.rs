//! `writ up`: a server and an agent on this machine, under one directory, until they are told to end.
//!
//! Both run as children of this process, from the same binary. Each holds the read end of a pipe
//! whose write end only this process has; when this process is gone, however it went, they read the
//! end of the pipe and end as well.

mod child;
mod host;
mod keep;
mod kept;
pub(crate) mod serving;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use daemon::{Layout, Shutdown};
use nix::unistd::geteuid;
use spiffe::TrustDomain;

use crate::cli::{Shared, output, paint::Paint};
pub(crate) use host::{Host, Plan};
use kept::Kept;
use serving::Ready;

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ up                                    in $XDG_DATA_HOME/writ, trust domain writ.local
  writ up --data /srv/w --listen 10.0.0.5    other machines can join: writ token create --node NAME
  writ up --output json                      one line of JSON when everything answers";

#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// The trust domain of a new directory [default: writ.local]
    #[arg(long, value_name = "TD")]
    trust_domain: Option<TrustDomain>,
    /// Where the server listens for agents, as IP or IP:PORT [default: 127.0.0.1 and a free port that is kept]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Identify processes by their id alone, as kernels before Linux 6.5 must: a process id that is used
    /// again can be mistaken.
    #[arg(long)]
    insecure_peer_by_pid: bool,
}

pub(crate) async fn run(up: Up, shared: &Shared) -> Result<ExitCode> {
    let layout = shared.sockets.layout()?;
    // Before anything is made: a path that no socket can have would be noticed late.
    let sockets = [layout.server_socket()?, layout.agent_socket()?, layout.workload_socket()?];
    drop(sockets);
    let _alone = take(&layout)?;
    let mut kept = Kept::open(&layout, up.trust_domain, up.listen.as_deref())?;

    let (_trigger, shutdown) = Shutdown::on_signals().context("cannot listen for signals")?;
    let plan = Plan {
        layout,
        trust_domain: kept.trust_domain.clone(),
        listen: kept.listen,
        insecure_peer_by_pid: up.insecure_peer_by_pid,
        logs: "warn",
    };
    let host = tokio::select! {
        host = Host::start(plan) => host?,
        () = shutdown.requested() => return Ok(ExitCode::SUCCESS),
    };
    kept.listened_on(&host.ready().server_address)?;

    let data = shared.sockets.data.as_deref().map(std::path::absolute).transpose()?;
    output::show(shared.output, host.ready(), |ready| block(ready, data.as_deref(), Paint::for_stdout()))?;
    host.keep(shutdown).await;
    Ok(ExitCode::SUCCESS)
}

/// Whose directory of `writ up` this is, if it is one.
pub(crate) fn trust_domain_of(layout: &Layout) -> Result<Option<TrustDomain>> {
    Kept::is_there(layout).then(|| Ok(Kept::open(layout, None, None)?.trust_domain)).transpose()
}

/// Makes a directory one of `writ up`, for a server that listened there.
pub(crate) fn remember(layout: &Layout, trust_domain: &TrustDomain, listened_on: &str) -> Result<()> {
    Kept::open(layout, Some(trust_domain.clone()), None)?.listened_on(listened_on)
}

/// Takes the directory for this process alone, and makes sure that only we can change it.
fn take(layout: &Layout) -> Result<daemon::DirLock> {
    daemon::private_dir(&layout.state)?;
    daemon::private_dir(&layout.private)?;
    daemon::public_dir(&layout.public)?;
    Ok(daemon::lock_dir(&layout.state)?)
}

/// What a person reads when everything answers.
fn block(ready: &Ready, data: Option<&Path>, paint: Paint) -> String {
    let mut text = format!(
        "{}\n\n  workload API   {}\n  server         {}\n  server's pin   {}\n\nTry, in another terminal\n",
        paint.bold(&format!("Writ is up: trust domain {}", ready.trust_domain)),
        ready.workload_api,
        ready.server_address,
        ready.server_pin,
    );
    if let Some(data) = data {
        text.push_str(&format!("  export WRIT_DATA={}\n", data.display()));
    }
    text.push_str(&format!(
        "  writ entry create --spiffe-id /hello --parent local --selector unix:uid:{}\n  writ fetch x509\n",
        geteuid()
    ));
    if !geteuid().is_root() {
        text.push_str(&format!(
            "\nWithout root, this agent and what it serves run as one user (uid {}): that shows the flow, not the boundary.\n",
            geteuid()
        ));
    }
    text
}
