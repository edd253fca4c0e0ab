//! Join tokens: made here, shown once, kept as a hash.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use registry::{
    Author, Refusal,
    decide::{
        entry::{UpsertEntries, Wanted},
        token::CreateToken,
    },
    objects::{Entry, JoinToken, NodeName, Sha256, TokenState, well_known},
};
use spiffe::{SpiffeId, Timestamp};
use zeroize::Zeroizing;

use super::apply::fresh_id;
use crate::{
    config::Config,
    ledger::{Ledger, Unavailable},
};

/// A token as its asker gets it, once.
pub(crate) struct Made {
    pub(crate) token: String,
    pub(crate) node: NodeName,
    pub(crate) expires_at: Timestamp,
}

/// A token that was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// SPIRE's default.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(600);

/// Makes a token of `node`, or of a random name.
pub(crate) async fn create(
    ledger: &Ledger,
    node: Option<NodeName>,
    ttl: Duration,
    author: Author,
) -> Result<Made, TokenError> {
    let node = node.map_or_else(random_name, Ok)?;
    let mut random = Zeroizing::new([0_u8; 32]);
    SystemRandom::new().fill(random.as_mut()).map_err(|_| no_randomness())?;
    let (token, secret_sha256) = JoinToken::mint(&node, &random);
    keep(ledger, token, node, secret_sha256, ttl, author).await
}

/// Keeps a token that somebody else made, in the form that Writ's own have.
pub(crate) async fn create_given(
    ledger: &Ledger,
    token: String,
    ttl: Duration,
    author: Author,
) -> Result<Made, TokenError> {
    let (node, secret_sha256) = JoinToken::split(&token).ok_or_else(|| {
        let why =
            "a token has the form NAME.SECRET with a secret of 43 characters; leave it out, and one is made";
        Refusal::Invalid(why.to_owned())
    })?;
    keep(ledger, token, node, secret_sha256, ttl, author).await
}

async fn keep(
    ledger: &Ledger,
    token: String,
    node: NodeName,
    secret_sha256: Sha256,
    ttl: Duration,
    author: Author,
) -> Result<Made, TokenError> {
    let kept = ledger.submit(CreateToken { node: node.clone(), secret_sha256, ttl }, author).await??;
    Ok(Made { token, node, expires_at: kept.expires_at })
}

/// SPIRE's way to give a node a second name before it joins: an entry under the node.
pub(crate) async fn name_node(
    ledger: &Ledger,
    node: &NodeName,
    alias: SpiffeId,
    author: Author,
) -> Result<(), TokenError> {
    let id = well_known::joined_node(ledger.current().trust_domain(), node);
    let selectors = well_known::itself(&id);
    let entry = Entry {
        id: fresh_id().map_err(|_| no_randomness())?,
        spiffe_id: alias,
        parent_id: id,
        selectors,
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: BTreeSet::new(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: String::new(),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        created_at: Timestamp::default(),
    };
    let upsert = UpsertEntries { entries: vec![Wanted { entry, names_id: false }] };
    let outcome = ledger.submit(upsert, author).await?.pop();
    outcome.map_or(Ok(()), |outcome| outcome.result.map(|_| ()).map_err(TokenError::Refused))
}

/// Where another machine finds this server, and a warning where it does not.
pub(crate) fn address(config: &Config, listening: SocketAddr) -> (String, Vec<String>) {
    if let Some(advertised) = &config.advertise {
        return (advertised.to_string(), Vec::new());
    }
    let ip = listening.ip();
    if ip.is_loopback() {
        let warning = format!(
            "the server listens on {listening}, so only this machine can join with it; for another machine \
             start the server with an address that the other one reaches (writ up --listen ADDRESS)"
        );
        return (listening.to_string(), vec![warning]);
    }
    if !ip.is_unspecified() {
        return (listening.to_string(), Vec::new());
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let warning = format!(
        "the server listens on all addresses; {name} is this machine's own name, and if the other machine \
         does not know it, write an address in its place"
    );
    (format!("{name}:{}", listening.port()), vec![warning])
}

/// A warning where the token's node is there already.
pub(crate) fn taken(registry: &registry::Registry, node: &NodeName) -> Option<String> {
    registry.node(&well_known::joined_node(registry.trust_domain(), node))?;
    Some(format!(
        "node {node} has joined already; the machine that joins with this token takes its place, and the agent \
         that is there now loses its identities"
    ))
}

/// A warning where an earlier token of the name could still have been used.
pub(crate) fn voided(registry: &registry::Registry, node: &NodeName, now: Timestamp) -> Option<String> {
    let earlier = registry.token(node)?;
    (!matches!(earlier.state, TokenState::Spent { .. }) && now < earlier.expires_at)
        .then(|| format!("{node} had a token that was not used up; it is void now, and only this one counts"))
}

/// 128 random bits.
fn random_name() -> Result<NodeName, TokenError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| no_randomness())?;
    hex::encode(bytes).parse().map_err(|_| no_randomness())
}

fn no_randomness() -> TokenError {
    TokenError::Unavailable(Unavailable("the operating system gives no randomness".to_owned()))
}
