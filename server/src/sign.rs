//! Signing keys for entries of a node's view: in batches, over the authenticated connection, without
//! a certificate request for each.
//!
//! Who a certificate is for, the entry says; the agent says only for which entry and with which key.

pub(crate) mod jwt;
pub(crate) mod mint;

use std::sync::Arc;

use bytes::Bytes;
use registry::{
    Command, Decision, Moment, Registry,
    decide::issuance::{Issued as RecordedIssue, RecordIssued},
    objects::{AuthorityId, Entry, EntryId},
};
use server_api::wire::delta::MAX_BATCH;
use spiffe::{SpiffeId, Timestamp};
use tonic::{Code, Status};

use crate::{
    Server,
    ca::{IssueError, Issued, Issuer, Subject, SubjectKey},
    callers::{Caller, NodeCaller},
    ledger::Unavailable,
    now,
};

/// What an agent wants signed.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// As it came: an entry's id, if it is one.
    pub(crate) entry: String,
    pub(crate) key: OrderedKey,
}

/// The key that an order is about.
#[derive(Clone, Debug)]
pub(crate) enum OrderedKey {
    /// SubjectPublicKeyInfo, DER: the authenticated connection says whose it is.
    Bare(Bytes),
    /// PKCS#10, DER, signed by the key itself: SPIRE's way. Nothing else in it counts.
    Request(Bytes),
}

/// The result of one order.
pub(crate) type Signed = Result<Made, Unsigned>;

/// A certificate that was signed, recorded, and may be handed out.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) spiffe_id: SpiffeId,
    /// DER, leaf first, without the root.
    pub(crate) chain: Vec<Bytes>,
    pub(crate) not_after: Timestamp,
}

/// Why one order was not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unsigned {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// Signs a batch; results in the order of the orders.
pub(crate) async fn sign(
    server: &Arc<Server>,
    caller: &NodeCaller,
    orders: Vec<Order>,
) -> Result<Vec<Signed>, Status> {
    if orders.len() > MAX_BATCH {
        return Err(Status::invalid_argument(format!(
            "{} keys in a batch of at most {MAX_BATCH}",
            orders.len()
        )));
    }
    let issuer = server.ca.issuer().map_err(cannot_sign)?;
    // Signing takes a CPU; it must neither delay other requests nor take more CPUs than there are.
    let place = server.signing.acquire().await.map_err(|_| Status::unavailable("the server is stopping"))?;
    let (registry, node, authority) = (server.ledger.current(), caller.id.clone(), issuer.id().clone());
    let drafts = tokio::task::spawn_blocking(move || {
        let now = now();
        orders.iter().map(|order| draft(&registry, &issuer, &node, order, now)).collect::<Vec<_>>()
    })
    .await
    .map_err(|_| Status::internal("signing failed"))?;
    drop(place);
    let record = Record { node: caller.id.clone(), authority, drafts };
    let author = Caller::Node(caller.clone()).author();
    let signed = server.ledger.submit(record, author).await.map_err(not_recorded)?;
    let done = signed.iter().filter(|result| result.is_ok()).count();
    server.figures.signed.add(done as u64);
    server.figures.unsigned.add((signed.len() - done) as u64);
    Ok(signed)
}

/// A certificate that was signed and nobody has yet.
struct Draft {
    entry: EntryId,
    version: u64,
    spiffe_id: SpiffeId,
    issued: Issued,
}

fn draft(
    registry: &Registry,
    issuer: &Issuer,
    node: &SpiffeId,
    order: &Order,
    now: Timestamp,
) -> Result<Draft, Unsigned> {
    let id: EntryId = order.entry.parse().map_err(|_| not_in_view(&order.entry))?;
    let entry = registry.in_view(node, &id, now).ok_or_else(|| not_in_view(id.as_str()))?;
    check_plain(registry, entry)?;
    let key = match &order.key {
        OrderedKey::Bare(spki) => SubjectKey::from_spki(spki),
        OrderedKey::Request(csr) => SubjectKey::from_csr(csr),
    };
    let key = key.map_err(|error| Unsigned { code: Code::InvalidArgument, message: error.to_string() })?;
    let subject = Subject { id: &entry.spiffe_id, dns_names: &entry.dns_names };
    let issued = issuer.issue(subject, &key, now, end(registry, entry, now)).map_err(|error| {
        tracing::error!(entry = %id, %error, "a certificate cannot be signed");
        Unsigned {
            code: Code::Internal,
            message: "the certificate cannot be signed; see the server's log".to_owned(),
        }
    })?;
    Ok(Draft { entry: id, version: entry.version, spiffe_id: entry.spiffe_id.clone(), issued })
}

/// An SVID outlives neither its ttl nor its entry; the authority's end, the issuer minds.
fn end(registry: &Registry, entry: &Entry, now: Timestamp) -> Timestamp {
    let by_ttl = now + registry.settings().x509_svid_ttl_of(entry);
    entry.expires_at.map_or(by_ttl, |end| end.min(by_ttl))
}

pub(crate) fn cannot_sign(error: IssueError) -> Status {
    tracing::error!(%error, "nothing can be signed");
    Status::unavailable("the server cannot sign now; try again")
}

pub(crate) fn not_recorded(_: Unavailable) -> Status {
    Status::unavailable("the server cannot record what it signs; try again")
}

/// The same answer whether there is such an entry or not: what is outside its view, an agent cannot probe.
fn not_in_view(entry: &str) -> Unsigned {
    let shown: String = entry.chars().take(64).collect();
    Unsigned { code: Code::PermissionDenied, message: format!("entry {shown:?} is not in this node's view") }
}

/// What is never signed cannot leak: an actor that is `task_only` has its SPIFFE ID in its tasks alone.
fn check_plain(registry: &Registry, entry: &Entry) -> Result<(), Unsigned> {
    if !registry.is_task_only(&entry.spiffe_id) {
        return Ok(());
    }
    let (id, actor) = (&entry.id, &entry.spiffe_id);
    let message = format!("entry {id} is of the actor {actor}, which has its SPIFFE ID only in its tasks");
    Err(Unsigned { code: Code::PermissionDenied, message })
}

/// Records what was signed, and lets go only what the node may still have at that moment: an entry
/// that was changed or deleted while its certificate was being signed gets none.
struct Record {
    node: SpiffeId,
    authority: AuthorityId,
    drafts: Vec<Result<Draft, Unsigned>>,
}

impl Command for Record {
    type Answer = Vec<Signed>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Vec<Signed>> {
        let Self { node, authority, drafts } = self;
        let mut items = Vec::with_capacity(drafts.len());
        let vouches = vouches(registry, &authority);
        let answer = drafts
            .into_iter()
            .map(|draft| {
                let Draft { entry, version, spiffe_id, issued } = draft?;
                vouches.clone()?;
                still_allowed(registry, &node, &entry, version, moment.now)?;
                let Issued { chain, serial, not_after } = issued;
                let named = spiffe_id.clone();
                items.push(RecordedIssue { entry: Some(entry), spiffe_id: named, serial, not_after });
                Ok(Made { spiffe_id, chain, not_after })
            })
            .collect();
        let proposal = match items.is_empty() {
            true => registry::Proposal::default(),
            false => RecordIssued { authority, items }.decide(registry, moment).proposal,
        };
        Decision { proposal, answer }
    }
}

/// Whether the node may still have what was signed for this version of the entry.
fn still_allowed(
    registry: &Registry,
    node: &SpiffeId,
    entry: &EntryId,
    version: u64,
    now: Timestamp,
) -> Result<(), Unsigned> {
    match registry.in_view(node, entry, now).filter(|entry| entry.version == version) {
        Some(entry) => check_plain(registry, entry),
        None => Err(again(format!("entry {entry} changed meanwhile; ask again"))),
    }
}

/// Whether what this authority signed may still be handed out: its turn may have come meanwhile, but it
/// must not have been tainted or revoked.
pub(crate) fn vouches(registry: &Registry, authority: &AuthorityId) -> Result<(), Unsigned> {
    match registry.authority(authority).is_some_and(|authority| !authority.is_tainted()) {
        true => Ok(()),
        false => Err(again("the authority changed meanwhile; ask again".to_owned())),
    }
}

fn again(message: String) -> Unsigned {
    Unsigned { code: Code::Aborted, message }
}
