//! The server, as this agent sees it.
//!
//! A connection has three steps, each on what the one before proved: the trust bundle, vouched for by
//! the pin; the agent's certificate, vouched for by a server of that bundle; and the view, followed over
//! mutual TLS. Everything that comes of it goes to the spine as inputs.

mod anchor;
mod join;
mod news;
mod seen;
mod signer;
mod spire;
mod token;
mod trust;
mod writ;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use attestors::node::agent as node_attestor;
use parking_lot::Mutex;
use registry::{LogId, Revision, objects::TenantName};
use server_api::{CallError, ServerAddress, node, recorder, tasks, wire::status::Reason};
use spiffe::{Bundles, Pin, PrivateKey, TrustDomain};
use tokio::{sync::watch, time::timeout};
use tonic::{Code, transport::Channel};
use zeroize::Zeroizing;

pub(crate) use self::{
    anchor::Anchor,
    news::{News, Teller},
    seen::Seen,
    signer::{Order, Shown, Signer},
    spire::{GivenError, Kept as KeptSpireBundle},
    token::TokenSource,
};
use self::{
    spire::{Given, Spire},
    trust::{Trust, Vouchers},
};
use crate::{
    config::SpireServer,
    state::{OwnCertificate, State, StateError},
    taint::Certified,
};

/// The server and how this agent is known to it.
pub(crate) struct Upstream {
    address: ServerAddress,
    trust: Trust,
    state: Arc<State>,
    key: Mutex<PrivateKey>,
    token: TokenSource,
    attestor: Option<node_attestor::Config>,
    certificate: Mutex<Option<Arc<OwnCertificate>>>,
    /// The server does not take the certificate any more, though it is valid.
    is_refused: AtomicBool,
    /// The connection that stands; whoever waits for the next one hears of it.
    channel: watch::Sender<Option<Channel>>,
    seen: Seen,
    /// Why the server expelled this node, until it has joined again.
    expelled: Mutex<Option<String>>,
    /// What there is beside, if it is a SPIRE server.
    spire: Option<Spire>,
}

/// What an operator says about the server.
pub(crate) struct Terms {
    /// Where it is.
    pub(crate) server: ServerAddress,
    /// Of which trust domain it must be.
    pub(crate) trust_domain: Option<TrustDomain>,
    /// Its pin.
    pub(crate) pin: Option<Pin>,
    /// Whether the first server that answers is believed.
    pub(crate) insecure_bootstrap: bool,
    /// What decides where the pin does not.
    pub(crate) anchor: Option<Anchor>,
    /// The join token.
    pub(crate) token: TokenSource,
    /// What this node proves itself by, if not by a token.
    pub(crate) attestor: Option<node_attestor::Config>,
    /// What it is known by, if it is a SPIRE server.
    pub(crate) spire: Option<SpireServer>,
}

/// Why there is no connection to the server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It does not answer, or not as it should; later it may.
    #[error("{0}")]
    Unreachable(String),
    /// It knows this node no longer.
    #[error("{0}")]
    Expelled(String),
    /// Nothing will change until somebody does something.
    #[error("{0}")]
    Hopeless(String),
}

/// Connects, follows the view from `known` on, and tells everything until the connection is over.
pub(crate) async fn follow(upstream: Arc<Upstream>, known: Option<(LogId, Revision)>, teller: Teller) {
    let over = match &upstream.spire {
        Some(spire) => spire::follow(&upstream, spire, known, &teller).await,
        None => writ::follow(&upstream, known, &teller).await,
    };
    let trouble = match over {
        Err(trouble) => trouble,
        Ok(never) => match never {},
    };
    upstream.channel.send_replace(None);
    upstream.seen.keep();
    teller.tell(News::Over(trouble)).await;
}

impl Upstream {
    /// What was kept of the server, under these terms.
    pub(crate) fn open(terms: Terms, state: Arc<State>) -> Result<Self, StateError> {
        let key = state.key()?;
        let seen = state.seen()?;
        let certificate = state.certificate(&key)?.map(Arc::new);
        if let (Some(wanted), Some(kept)) = (&terms.trust_domain, &certificate)
            && !kept.id.is_in(wanted)
        {
            return Err(state.belongs_to(&kept.id.trust_domain(), wanted));
        }
        let (trust, spire) = match terms.spire {
            Some(server) => {
                let (given, bundle) = Given::open(&server, &state)?;
                (Trust::given(bundle, state.clone()), Some(Spire::new(given, server.sync_interval)))
            }
            None => {
                let Terms { trust_domain, pin, insecure_bootstrap, anchor, .. } = terms;
                let vouchers = Vouchers { pin, insecure_bootstrap, anchor };
                (Trust::open(trust_domain, vouchers, state.clone())?, None)
            }
        };
        Ok(Self {
            address: terms.server,
            trust,
            state,
            key: Mutex::new(key),
            token: terms.token,
            attestor: terms.attestor,
            certificate: Mutex::new(certificate),
            is_refused: AtomicBool::new(false),
            channel: watch::Sender::new(None),
            seen,
            expelled: Mutex::new(None),
            spire,
        })
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The bundles that are trusted now; empty before the first answer.
    pub(crate) fn bundles(&self) -> Arc<Bundles> {
        self.trust.bundles()
    }

    /// The pin that the server's bundle is verified with.
    pub(crate) fn pin(&self) -> Option<Pin> {
        self.trust.pin()
    }

    /// Whether the server's revisions are of a log that outlives this agent; a SPIRE server has none.
    pub(crate) fn has_a_log(&self) -> bool {
        self.spire.is_none()
    }

    /// The newest revision that the server has shown.
    pub(crate) fn head(&self) -> Option<u64> {
        self.seen.head().map(|head| head.revision.0)
    }

    /// The agent's certificate, whether valid still or not.
    pub(crate) fn certificate(&self) -> Option<Arc<OwnCertificate>> {
        self.certificate.lock().clone()
    }

    /// What it takes to have SVIDs signed; nothing without a connection.
    pub(crate) fn signer(&self) -> Option<(Arc<Bundles>, Signer)> {
        let channel = self.channel.borrow().clone()?;
        Some((self.bundles(), self.signer_over(channel)))
    }

    fn signer_over(&self, channel: Channel) -> Signer {
        match self.spire {
            Some(_) => Signer::Spire(Box::new(server_api::spire::Client::new(channel))),
            None => Signer::Writ(node::Client::new(channel)),
        }
    }

    /// Asks the server over the connection that stands. A server counts an agent's next certificate from
    /// its first use on, which is a moment before the agent turns to that connection; whoever is turned
    /// away in that moment asks once more over the next one.
    pub(crate) async fn ask<T, A>(&self, question: impl Fn(Signer) -> A) -> Result<T, CallError>
    where
        A: Future<Output = Result<T, CallError>>,
    {
        self.ask_over(|channel| question(self.signer_over(channel))).await
    }

    async fn ask_over<T, A>(&self, question: impl Fn(Channel) -> A) -> Result<T, CallError>
    where
        A: Future<Output = Result<T, CallError>>,
    {
        let none = || CallError::Unavailable("there is no connection".to_owned());
        let mut standing = self.channel.subscribe();
        let channel = standing.borrow_and_update().clone().ok_or_else(none)?;
        let turned_away = match question(channel).await {
            Err(error @ CallError::Agent { reason: Reason::AgentNotActive, .. }) => error,
            answered => return answered,
        };
        let next = timeout(NEXT_CONNECTION_WITHIN, standing.changed()).await;
        let channel = next.is_ok().then(|| standing.borrow().clone()).flatten();
        question(channel.ok_or(turned_away)?).await
    }

    /// Asks the server about tasks, in the same way. A SPIRE server knows none.
    pub(crate) async fn ask_about_tasks<T, A>(
        &self,
        question: impl Fn(tasks::Client) -> A,
    ) -> Result<T, CallError>
    where
        A: Future<Output = Result<T, CallError>>,
    {
        if self.spire.is_some() {
            return Err(CallError::Unavailable("a SPIRE server knows no tasks".to_owned()));
        }
        self.ask_over(|channel| question(tasks::Client::new(channel))).await
    }

    /// Asks the server for the key of a tenant, in the same way.
    pub(crate) async fn tenant_key(&self, tenant: &TenantName) -> Result<Zeroizing<[u8; 32]>, CallError> {
        if self.spire.is_some() {
            return Err(CallError::Unavailable("a SPIRE server knows no tenants".to_owned()));
        }
        self.ask_over(
            |channel| async move { recorder::Client::new(channel).tenant_key(tenant.as_str()).await },
        )
        .await
    }

    /// The key behind the pin, and whose it is, as far as it is known.
    pub(crate) fn pinned_key(&self) -> Option<(TrustDomain, Vec<u8>)> {
        self.trust.pinned_key()
    }

    /// The command that lets a node join.
    fn token_maker(&self) -> &'static str {
        match self.spire {
            Some(_) => "spire-server token generate",
            None => "writ token create --node NAME",
        }
    }

    /// The connection that stands, and each later one.
    pub(crate) fn connections(&self) -> watch::Receiver<Option<Channel>> {
        self.channel.subscribe()
    }

    /// The node's key, as it is now.
    pub(crate) fn key(&self) -> PrivateKey {
        self.key.lock().clone()
    }

    fn adopt(&self, certificate: OwnCertificate) -> Result<Certified, Trouble> {
        let saved = self.state.save_certificate(&certificate);
        saved.map_err(|error| Trouble::Unreachable(error.to_string()))?;
        let certified = certificate.certified();
        *self.certificate.lock() = Some(Arc::new(certificate));
        self.is_refused.store(false, Ordering::Release);
        *self.expelled.lock() = None;
        Ok(certified)
    }

    /// The server does not take the certificate any more. It still says which node this is.
    fn distrust_certificate(&self) {
        self.is_refused.store(true, Ordering::Release);
    }

    /// The server does not know the node any more, or does not want it.
    fn expelled(&self, says: String) -> Trouble {
        *self.certificate.lock() = None;
        if let Err(error) = self.state.forget_certificate() {
            tracing::error!(%error, "cannot forget the agent's certificate");
        }
        *self.expelled.lock() = Some(says.clone());
        Trouble::Expelled(says)
    }

    /// Somebody else has the key, so it is worth nothing; another one joins.
    fn change_key(&self) {
        match self.state.change_key() {
            Ok(key) => *self.key.lock() = key,
            Err(error) => tracing::error!(%error, "cannot change the agent's key"),
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            // SPIRE's words for trouble of its own, which ends.
            CallError::Refused { code: Code::Internal | Code::ResourceExhausted, .. } => {
                Self::Unreachable(error.to_string())
            }
            CallError::Refused { .. } => Self::Hopeless(format!("the server refuses this agent: {error}")),
            CallError::Unavailable(_) | CallError::Nonsense(_) | CallError::Agent { .. } => {
                Self::Unreachable(error.to_string())
            }
        }
    }
}

/// A connection that the server has begun to answer stands within this time, or fails.
const NEXT_CONNECTION_WITHIN: Duration = Duration::from_secs(2);
