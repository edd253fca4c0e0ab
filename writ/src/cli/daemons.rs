//! What `server run` and `agent run` share: logs, the orderly end, and the pipe to `writ up`.

use std::{future::Future, io, os::fd::AsFd as _, process::ExitCode};

use anyhow::{Context as _, Result};
use daemon::{Shutdown, Trigger};
use tokio::{io::AsyncReadExt as _, net::unix::pipe};

/// Runs a daemon until it ends or is told to.
pub(crate) fn run<D: Future<Output = Result<()>>>(
    supervised: bool,
    daemon: impl FnOnce(Shutdown) -> D,
) -> Result<ExitCode> {
    daemon::init_logs("info");
    if let Err(error) = daemon::raise_open_files() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let (trigger, shutdown) = Shutdown::on_signals().context("cannot listen for signals")?;
        if supervised {
            tokio::spawn(end_with_supervisor(life_line()?, trigger));
        }
        daemon(shutdown).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Standard input, which is a pipe that only the supervisor can write to.
fn life_line() -> Result<pipe::Receiver> {
    let own = || pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?);
    own().context("--supervised is for `writ up`, which gives its children a pipe")
}

/// The pipe ends when its last writer is gone, however it went.
async fn end_with_supervisor(mut life_line: pipe::Receiver, trigger: Trigger) {
    let mut nothing = [0; 64];
    while life_line.read(&mut nothing).await.is_ok_and(|read| read > 0) {}
    tracing::info!("the supervisor asks for the end, or is gone");
    trigger.request();
}
