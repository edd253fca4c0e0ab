//! What the commands of an administrator share: the way to the server, and how its answers are told.

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use server_api::admin::{Applied, Client, Mode};
use spiffe::TrustDomain;

use tonic::Code;

use super::{Shared, Usage, output, sockets};

/// Connects to the server's private socket.
pub(crate) async fn connect(shared: &Shared) -> Result<Client> {
    let socket = shared.sockets.server()?;
    Client::connect(&socket)
        .await
        .map_err(|error| anyhow!("{error}; {}", sockets::way_out(&socket, "server")))
}

/// The server's state.
pub(crate) async fn status(server: &mut Client) -> Result<Value> {
    serde_json::from_slice(&server.status().await?).context("the server's state is not JSON")
}

/// The trust domain of the server.
pub(crate) async fn trust_domain(server: &mut Client) -> Result<TrustDomain> {
    let status = status(server).await?;
    let name = status["trust_domain"].as_str().context("the server does not say its trust domain")?;
    Ok(name.parse()?)
}

/// Applies one object of a kind, and gives it back as it is then.
pub(crate) async fn apply_one(server: &mut Client, mode: Mode, kind: &str, body: Vec<u8>) -> Result<Applied> {
    let mut applied = server.apply(mode, kind, vec![body.into()]).await?;
    let Some(applied) = applied.pop() else { bail!("the server did not say what became of it") };
    match applied.refused() {
        Some((Code::InvalidArgument, message)) => return Err(Usage(message.to_owned()).into()),
        Some((_, message)) => bail!("{message}"),
        None => {}
    }
    warn(&applied.warnings);
    Ok(applied)
}

/// Tells the administrator beside the result.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        output::remark(&format!("warning: {}", output::plain(warning)));
    }
}
