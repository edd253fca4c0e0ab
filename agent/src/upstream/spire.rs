//! A SPIRE server: nothing is pushed, so it is asked every few seconds, and what differs becomes an input
//! of the spine like a Writ server's changes.
//!
//! It has no pin key. The agent believes the bundle that the operator gave it, and from then on each one
//! that comes over a connection verified by the one before.

mod given;
mod view;

use std::{convert::Infallible, time::Duration};

use registry::{LogId, Revision, objects::Bundle};
use server_api::{
    CallError,
    spire::{Client, Synced},
    wire::status::Reason,
};
use spiffe::TrustDomain;
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use self::given::{Given, GivenError, Kept};
use self::view::View;
use super::{News, Teller, Trouble, Upstream};
use crate::spine::Input;

/// What is kept of a SPIRE server from one connection to the next.
pub(crate) struct Spire {
    given: Given,
    every: Duration,
    /// The view as it was told. Whoever follows holds it.
    view: tokio::sync::Mutex<View>,
}

impl Spire {
    /// A server whose bundle is `given`, asked as often as that.
    pub(super) fn new(given: Given, every: Duration) -> Self {
        Self { given, every, view: tokio::sync::Mutex::new(View::of(new_log())) }
    }
}

/// Connects, asks again and again, and tells everything until the connection is over.
pub(super) async fn follow(
    upstream: &Upstream,
    spire: &Spire,
    known: Option<(LogId, Revision)>,
    teller: &Teller,
) -> Result<Infallible, Trouble> {
    let trust_domain = spire.given.trust_domain();
    let channel = upstream.connect(trust_domain, teller).await?;
    let mut client = Client::new(channel.clone());
    // One follower at a time; one that was told to stop lets it go.
    let mut view = spire.view.lock().await;
    let mut goes_on = known.is_some_and(|(log, at)| view.is_at(&log, at));
    if !goes_on {
        *view = View::of(new_log());
    }
    let mut is_new = true;
    let mut unreadable = Vec::new();
    let mut turns = interval(spire.every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let synced = client.sync(view.editions()).await.map_err(|error| turned_away(upstream, error))?;
        let bundles = bundles(&mut client, &view, &synced, trust_domain).await;
        let bundles = bundles.map_err(|error| turned_away(upstream, error))?;
        if is_new {
            is_new = false;
            if let Err(error) = client.post_status(env!("CARGO_PKG_VERSION")).await {
                tracing::debug!(%error, "the server did not take note of this agent's version");
            }
            upstream.channel.send_replace(Some(channel.clone()));
            teller.tell(News::Input(Input::Connected)).await;
        }
        // A bundle comes before the SVIDs under it.
        if let Some(own) = bundles.first()
            && upstream.trust.replace(own.authorities().clone())
        {
            spire.given.keep(&upstream.state, own);
            teller.tell(News::Input(Input::Bundles(upstream.bundles()))).await;
        }
        if synced.unreadable != unreadable {
            unreadable.clone_from(&synced.unreadable);
            if !unreadable.is_empty() {
                let (count, first) = (unreadable.len(), &unreadable[0]);
                tracing::warn!(count, first, "the server has entries that make no sense here");
            }
        }
        teller.tell(News::Heard).await;
        let delta = view.take(synced, bundles);
        let input = match goes_on {
            true => Input::Delta(delta),
            false => Input::Snapshot(view.snapshot()),
        };
        goes_on = true;
        teller.tell(News::Input(input)).await;
    }
}

/// The bundle of the agent's own trust domain, and behind it those of the others that its entries name.
async fn bundles(
    client: &mut Client,
    view: &View,
    synced: &Synced,
    trust_domain: &TrustDomain,
) -> Result<Vec<Bundle>, CallError> {
    let own = client.bundle().await?;
    if own.trust_domain() != trust_domain || own.authorities().x509_authorities.is_empty() {
        return Err(CallError::Nonsense(format!(
            "its bundle is of {} and has {} X.509 authorities, which would trust nobody in {}",
            own.trust_domain().as_str(),
            own.authorities().x509_authorities.len(),
            trust_domain.as_str()
        )));
    }
    let mut bundles = vec![own];
    for foreign in view.federated(synced).into_iter().filter(|foreign| foreign != trust_domain) {
        bundles.extend(client.federated_bundle(&foreign).await?);
    }
    Ok(bundles)
}

/// What it means when the server refuses an agent that it knew.
fn turned_away(upstream: &Upstream, error: CallError) -> Trouble {
    let CallError::Agent { reason, .. } = &error else { return error.into() };
    match reason {
        // SPIRE's own words name the method that was called and not what happened.
        Reason::AgentBanned => upstream.expelled("the server has banned this node".to_owned()),
        Reason::AgentNotAttested => upstream.expelled(format!(
            "the server has evicted this node, or never knew it; run there: {}, and start the agent with what \
             it prints",
            upstream.token_maker()
        )),
        // With a token, the next try joins anew.
        Reason::AgentNotActive | Reason::AgentExpired | Reason::AgentMustReattest => {
            upstream.distrust_certificate();
            Trouble::Unreachable(error.to_string())
        }
        Reason::Unknown => Trouble::Unreachable(error.to_string()),
    }
}

/// A name for what begins now, so that nothing is ever continued from something else.
fn new_log() -> LogId {
    LogId(format!("spire-{:016x}", rand::random::<u64>()))
}
