//! `FetchJWTSVID` (Workload API standard, section 6.2.1).

use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use registry::objects::Entry;
use spiffe::{Audiences, SpiffeId};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::{
    Entitled, NoToken, Source,
    call::{Call, Granted},
    limits::PREPARING,
    refusal::Refusal,
    wire,
};

/// A token for each of the caller's identities, or for the one that it names.
pub(crate) async fn fetch_jwt_svid<S: Source>(call: Call<S>, message: &[u8]) -> Result<Bytes, Status> {
    let (audiences, wanted) = wire::jwt_svid_request(message)?;
    let until = Instant::now() + call.patience(PREPARING);
    let granted = call.granted(S::follow_entitled).await?; // who is asking, and whether it has anything
    let entries = entries(&granted, wanted.as_ref())?;
    let at_hand: Option<Vec<_>> =
        entries.iter().map(|entry| granted.source().jwt_svid(entry, &audiences)).collect();
    let tokens = match at_hand {
        Some(tokens) => tokens,
        None => from_server(&granted, &entries, &audiences, until).await?,
    };
    Ok(wire::jwt_svid_response(&entries, &tokens))
}

fn entries<S: Source>(
    granted: &Granted<S, Entitled>,
    wanted: Option<&SpiffeId>,
) -> Result<Vec<Arc<Entry>>, Refusal> {
    let is_wanted = |entry: &&Arc<Entry>| wanted.is_none_or(|wanted| entry.spiffe_id == *wanted);
    let entries: Vec<_> = granted.held().entries.iter().filter(is_wanted).cloned().collect();
    // Somebody else's identity and one that nobody has are answered alike.
    if entries.is_empty() { Err(granted.no_identity()) } else { Ok(entries) }
}

async fn from_server<S: Source>(
    granted: &Granted<S, Entitled>,
    entries: &[Arc<Entry>],
    audiences: &Audiences,
    until: Instant,
) -> Result<Vec<Arc<str>>, Refusal> {
    // Together, so that they travel together.
    let asking = try_join_all(entries.iter().map(|entry| granted.source().new_jwt_svid(entry, audiences)));
    let tokens = timeout_at(until, asking).await.map_err(|_| NoToken)??;
    // Meanwhile the process may have become another one, and its entries may have gone.
    granted.check()?;
    let still = granted.now().ok_or_else(|| granted.no_identity())?;
    let may = |entry: &Arc<Entry>| still.entries.iter().any(|now| now.id == entry.id);
    if entries.iter().all(may) { Ok(tokens) } else { Err(granted.no_identity()) }
}
