//! `writ trace`: one chain of actions as a tree, from the audit log.

mod chain;
mod leaf;

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use registry::objects::TaskId;
use server_api::audit::{Client, Range};

use self::{chain::Chains, leaf::Leaf};
use super::{Shared, output, sockets};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ trace 01K9ZJ4T9V6Q2M8B3N7C5D1F0G    everything in the chain that this task belongs to
  writ trace 01K9ZJ4T9V6Q2M8B3N7C5D1F0G --output json";

#[derive(Debug, clap::Args)]
pub(crate) struct Trace {
    /// A task, or the task at the top of a chain.
    #[arg(value_name = "TASK|CHAIN")]
    task: TaskId,
}

pub(crate) async fn run(trace: Trace, shared: &Shared) -> Result<ExitCode> {
    let socket = shared.sockets.server()?;
    let connected = Client::connect(&socket).await;
    let mut server =
        connected.map_err(|error| anyhow!("{error}; {}", sockets::way_out(&socket, "server")))?;
    let mut entries = server.entries(Range::default()).await?;
    let mut chains = Chains::default();
    while let Some((_, leaves)) = entries.next().await? {
        leaves.iter().filter_map(|leaf| Leaf::read(leaf)).for_each(|leaf| chains.add(leaf));
    }
    let Some(chain) = chains.of(trace.task.as_str()) else {
        bail!("no record speaks of the task {}; see: writ task list", trace.task);
    };
    output::show(shared.output, &chain, chain::Chain::to_text)?;
    Ok(ExitCode::SUCCESS)
}
