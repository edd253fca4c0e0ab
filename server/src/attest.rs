//! How a node's agent comes to its certificate: by a join token the first time, then by the
//! certificate before (and in `returning.rs`, when that has ended, by its key).

use std::{collections::BTreeSet, sync::Arc};

use registry::{
    decide::{node::RenewNode, token::AttestNode},
    objects::{JoinToken, NodeName, Sha256, well_known::joined_node},
};
use spiffe::SpiffeId;
use tonic::Status;

use crate::{
    Server,
    ca::{Issued, KeyRefused, Subject, SubjectKey},
    callers::{Caller, NodeCaller},
    ledger::Unavailable,
    now,
};

/// An agent's new certificate.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) id: SpiffeId,
    pub(crate) issued: Issued,
}

/// A token is a name of at most 128 bytes, a dot and a secret of 43.
const MAX_TOKEN: usize = 256;

/// Lets a node join with a token, which from then on is bound to the key of its request.
pub(crate) async fn join(
    server: &Arc<Server>,
    caller: &Caller,
    token: &[u8],
    csr: &[u8],
) -> Result<Granted, Status> {
    let (node, secret) = known_token(server, token).ok_or_else(|| {
        // Strangers who guess are counted, not recorded: the log must not grow by their doing.
        server.figures.refused_joins.increment();
        not_valid()
    })?;
    let place = server.joining.acquire().await.map_err(|_| stopping())?;
    let key = key_of(csr)?;
    let id = joined_node(server.ledger.current().trust_domain(), &node);
    let issued = issue(server, &id, &key)?; // nobody gets it before the log admits the node
    let attest = AttestNode {
        node,
        secret_sha256: secret,
        key_sha256: key.sha256(),
        selectors: BTreeSet::new(), // a join token proves nothing about the machine
        serial: issued.serial.clone(),
        not_after: issued.not_after,
    };
    let attested = server.ledger.submit(attest, caller.author()).await.map_err(unavailable)?;
    drop(place);
    let attested = attested.map_err(|refusal| server_api::wire::status::call(&refusal))?;
    server.figures.joined.increment();
    tracing::info!(node = %attested.id, "a node joined");
    Ok(Granted { id: attested.id, issued })
}

/// Gives an agent its next certificate; the present one counts until the next is used.
pub(crate) async fn renew(server: &Arc<Server>, caller: &NodeCaller, csr: &[u8]) -> Result<Granted, Status> {
    let key = key_of(csr)?;
    let issued = issue(server, &caller.id, &key)?;
    let renew = RenewNode {
        id: caller.id.clone(),
        presented: caller.serial.clone(),
        serial: issued.serial.clone(),
        key_sha256: key.sha256(),
        not_after: issued.not_after,
    };
    let author = Caller::Node(caller.clone()).author();
    let renewed = server.ledger.submit(renew, author).await.map_err(unavailable)?;
    renewed.map_err(crate::callers::turned_away)?;
    Ok(Granted { id: caller.id.clone(), issued })
}

/// The node and hash of a token whose secret is right, looked up before anything is computed.
fn known_token(server: &Server, token: &[u8]) -> Option<(NodeName, Sha256)> {
    let text = std::str::from_utf8(token.get(..token.len().min(MAX_TOKEN + 1))?).ok()?;
    let (node, secret) = JoinToken::split(text).filter(|_| text.len() <= MAX_TOKEN)?;
    let registry = server.ledger.current();
    let is_right = registry.token(&node).is_some_and(|known| known.secret_sha256.matches(&secret));
    is_right.then_some((node, secret))
}

pub(crate) fn key_of(csr: &[u8]) -> Result<SubjectKey, Status> {
    SubjectKey::from_csr(csr).map_err(|error: KeyRefused| Status::invalid_argument(error.to_string()))
}

pub(crate) fn issue(server: &Server, id: &SpiffeId, key: &SubjectKey) -> Result<Issued, Status> {
    let failed = |error: &dyn std::fmt::Display| {
        tracing::error!(%error, "an agent's certificate cannot be signed");
        Status::unavailable("the server cannot sign now; try again")
    };
    let issuer = server.ca.issuer().map_err(|error| failed(&error))?;
    let now = now();
    let not_after = now + server.ledger.current().settings().agent_svid_ttl();
    let subject = Subject { id, dns_names: &[] };
    issuer.issue(subject, key, now, not_after).map_err(|error| failed(&error))
}

pub(crate) fn unavailable(_: Unavailable) -> Status {
    Status::unavailable("the server cannot do this now; try again")
}

pub(crate) fn stopping() -> Status {
    Status::unavailable("the server is stopping")
}

fn not_valid() -> Status {
    Status::permission_denied(
        "this join token does not count here; an administrator makes one with: writ token create --node NAME",
    )
}
