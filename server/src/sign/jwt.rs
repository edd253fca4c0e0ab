//! Signing JWT-SVIDs for entries of a node's view, as certificates are: in batches, each recorded before
//! anybody has it.

use std::sync::Arc;

use registry::{
    Command, Decision, Moment, Proposal, Registry,
    decide::issuance::{IssuedToken, RecordTokens},
    objects::{AuthorityId, Entry, EntryId},
};
use server_api::wire::delta::MAX_BATCH;
use spiffe::{Audiences, SpiffeId, Timestamp};
use tonic::{Code, Status};

use super::{Unsigned, cannot_sign, check_plain, not_in_view, not_recorded, still_allowed, vouches};
use crate::{
    Server,
    ca::{Token, TokenIssuer},
    callers::{Caller, NodeCaller},
    now,
};

/// What an agent wants a token for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// As it came: an entry's id, if it is one.
    pub(crate) entry: String,
    /// As they came.
    pub(crate) audience: Vec<String>,
}

/// A token, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) token: Token,
}

/// The result of one order.
pub(crate) type Signed = Result<Made, Unsigned>;

/// Signing so many takes less time than another thread needs to wake.
const FEW: usize = 4;

/// Signs a batch; results in the order of the orders.
pub(crate) async fn sign(
    server: &Arc<Server>,
    caller: &NodeCaller,
    orders: Vec<Order>,
) -> Result<Vec<Signed>, Status> {
    if orders.len() > MAX_BATCH {
        let many = orders.len();
        return Err(Status::invalid_argument(format!("{many} tokens in a batch of at most {MAX_BATCH}")));
    }
    let issuer = server.ca.token_issuer().map_err(cannot_sign)?;
    let (registry, node, authority) = (server.ledger.current(), caller.id.clone(), issuer.id().clone());
    let many = orders.len();
    let draft_all = move || {
        let now = now();
        orders.iter().map(|order| draft(&registry, &issuer, &node, order, now)).collect::<Vec<_>>()
    };
    let drafts = match many {
        0..=FEW => draft_all(),
        _ => {
            let stopping = |_| Status::unavailable("the server is stopping");
            let _place = server.signing.acquire().await.map_err(stopping)?;
            let drafts = tokio::task::spawn_blocking(draft_all).await;
            drafts.map_err(|_| Status::internal("signing failed"))?
        }
    };
    let record = Record { node: caller.id.clone(), authority, drafts };
    let signed = server.ledger.submit(record, Caller::Node(caller.clone()).author()).await;
    let signed = signed.map_err(not_recorded)?;
    let done = signed.iter().filter(|result| result.is_ok()).count();
    server.figures.tokens.add(done as u64);
    server.figures.no_tokens.add((signed.len() - done) as u64);
    Ok(signed)
}

/// A token that was signed and nobody has yet.
struct Draft {
    entry: EntryId,
    version: u64,
    spiffe_id: SpiffeId,
    audiences: Audiences,
    token: Token,
}

fn draft(
    registry: &Registry,
    issuer: &TokenIssuer,
    node: &SpiffeId,
    order: &Order,
    now: Timestamp,
) -> Result<Draft, Unsigned> {
    let id: EntryId = order.entry.parse().map_err(|_| not_in_view(&order.entry))?;
    let entry = registry.in_view(node, &id, now).ok_or_else(|| not_in_view(id.as_str()))?;
    // For an SVID store, which keeps certificates: there is nobody who should hold a token of it.
    if entry.store_svid {
        return Err(not_in_view(id.as_str()));
    }
    check_plain(registry, entry)?;
    let audiences = Audiences::new(&order.audience)
        .map_err(|error| Unsigned { code: Code::InvalidArgument, message: error.to_string() })?;
    let end = end(registry, entry, now);
    let token = issuer.issue(&entry.spiffe_id, &audiences, entry.jwt_svid_include_jti, now, end);
    let token = token.map_err(|error| {
        tracing::error!(entry = %id, %error, "a token cannot be signed");
        Unsigned {
            code: Code::Internal,
            message: "the token cannot be signed; see the server's log".to_owned(),
        }
    })?;
    let (version, spiffe_id) = (entry.version, entry.spiffe_id.clone());
    Ok(Draft { entry: id, version, spiffe_id, audiences, token })
}

/// A token outlives neither its ttl nor its entry; the authority's end, the issuer minds.
fn end(registry: &Registry, entry: &Entry, now: Timestamp) -> Timestamp {
    let by_ttl = now + registry.settings().jwt_svid_ttl_of(entry);
    entry.expires_at.map_or(by_ttl, |end| end.min(by_ttl))
}

/// Records what was signed, and lets go only what the node may still have at that moment.
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
                let Draft { entry, version, spiffe_id, audiences, token } = draft?;
                vouches.clone()?;
                still_allowed(registry, &node, &entry, version, moment.now)?;
                items.push(IssuedToken {
                    entry: Some(entry),
                    spiffe_id: spiffe_id.clone(),
                    audience: audiences.iter().map(str::to_owned).collect(),
                    jti: token.jti.clone(),
                    not_after: token.expires_at,
                });
                Ok(Made { spiffe_id, token })
            })
            .collect();
        let proposal = match items.is_empty() {
            true => Proposal::default(),
            false => RecordTokens { authority, items }.decide(registry, moment).proposal,
        };
        Decision { proposal, answer }
    }
}
