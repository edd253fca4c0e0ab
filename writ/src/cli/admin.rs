//! What the commands of an administrator share: the way to the server, and how its answers are told.

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;
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

/// Objects of a kind, each of those named, or all where none is.
pub(crate) async fn listed<T: DeserializeOwned>(
    server: &mut Client,
    kind: &str,
    names: Vec<String>,
) -> Result<Vec<T>> {
    let listed = server.list(kind, names.clone()).await?;
    let is_missing =
        |name: &&String| !listed.iter().any(|object| object.key.to_string() == format!("{kind}/{name}"));
    if let Some(missing) = names.iter().find(is_missing) {
        bail!(
            "there is no {kind} {missing:?}; see: writ {kind} {}",
            if kind == "policy" { "show" } else { "list" }
        );
    }
    let objects = listed.iter().map(|object| serde_json::from_slice(&object.body));
    objects.collect::<Result<_, _>>().with_context(|| format!("the server's {kind} is of a newer kind"))
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
