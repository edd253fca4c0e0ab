//! Whom this agent trusts: a bundle that the server's pin key signed, taken from any hand.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ClientConfig;
use server_api::{ServerAddress, connect, node};
use spiffe::{
    Bundle, Bundles, Pin, PinError, SignedBundle, TrustDomain,
    tls::{
        CurrentBundles, Expected, SvidVerifier, client_config, insecure_client_config_without_server_identity,
    },
};

use super::{Anchor, Trouble};
use crate::{
    clock,
    state::{State, StateError},
};

/// The trust bundle, and by what it is vouched for.
pub(crate) struct Trust {
    /// As the operator demands it; else the first one is taken.
    trust_domain: Option<TrustDomain>,
    pin: Mutex<Option<Pin>>,
    insecure_bootstrap: bool,
    anchor: Option<Anchor>,
    state: Arc<State>,
    known: Mutex<Option<Known>>,
    bundles: Arc<ArcSwap<Bundles>>,
}

/// What the operator says that the server may be known by.
#[derive(Default)]
pub(super) struct Vouchers {
    /// Its pin.
    pub(super) pin: Option<Pin>,
    /// Whether the first server that answers is believed.
    pub(super) insecure_bootstrap: bool,
    /// What decides where the pin does not.
    pub(super) anchor: Option<Anchor>,
}

/// The bundle that is trusted now.
struct Known {
    trust_domain: TrustDomain,
    sequence: Option<u64>,
    /// As the pin key signed it; a SPIRE server has none.
    signed: Option<SignedBundle>,
}

/// How a signed bundle came.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Hand {
    /// Over a connection to the server itself, so it is the newest there is.
    Server,
    /// From whoever answered: it may be an old one, replayed.
    Anybody,
}

impl Trust {
    /// What was kept, if it is still vouched for by what the operator says.
    pub(super) fn open(
        trust_domain: Option<TrustDomain>,
        vouchers: Vouchers,
        state: Arc<State>,
    ) -> Result<Self, StateError> {
        let Vouchers { pin, insecure_bootstrap, anchor } = vouchers;
        let kept = state.trust()?;
        let trust = Self {
            trust_domain,
            // A pin that was learned once is kept, so that a later server must be the same one.
            pin: Mutex::new(pin.or(kept.as_ref().map(|(pin, _)| *pin))),
            insecure_bootstrap,
            anchor,
            state,
            known: Mutex::new(None),
            bundles: Arc::default(),
        };
        if let Some((_, signed)) = kept
            && let Err(error) = trust.judge(&signed).map(|bundle| trust.install(signed, bundle))
        {
            tracing::warn!(%error, "the trust bundle that was kept does not count any more");
        }
        Ok(trust)
    }

    /// Exactly this bundle, which needs nobody to vouch for it.
    pub(super) fn given(bundle: Bundle, state: Arc<State>) -> Self {
        let trust = Self {
            trust_domain: Some(bundle.trust_domain.clone()),
            pin: Mutex::new(None),
            insecure_bootstrap: false,
            anchor: None,
            state,
            known: Mutex::new(None),
            bundles: Arc::default(),
        };
        trust.replace(bundle);
        trust
    }

    /// Trusts this bundle from now on, which came from a server that was verified with the one before. Says
    /// whether that changes anything.
    pub(super) fn replace(&self, bundle: Bundle) -> bool {
        if self.bundles.load().get(bundle.trust_domain.as_str()).is_some_and(|known| **known == bundle) {
            return false;
        }
        let (trust_domain, sequence) = (bundle.trust_domain.clone(), bundle.sequence);
        *self.known.lock() = Some(Known { trust_domain, sequence, signed: None });
        self.bundles.store(Arc::new(Bundles::from_iter([bundle])));
        true
    }

    /// The bundles that are trusted now.
    pub(crate) fn bundles(&self) -> Arc<Bundles> {
        self.bundles.load_full()
    }

    /// The pin by which bundles are verified.
    pub(crate) fn pin(&self) -> Option<Pin> {
        *self.pin.lock()
    }

    /// The key behind the pin (SubjectPublicKeyInfo, DER), and whose it is; nothing where the bundle was given.
    pub(super) fn pinned_key(&self) -> Option<(TrustDomain, Vec<u8>)> {
        let known = self.known.lock();
        let known = known.as_ref()?;
        Some((known.trust_domain.clone(), known.signed.as_ref()?.pin_public_key.clone()))
    }

    /// Whose server it is.
    pub(super) fn trust_domain(&self) -> Option<TrustDomain> {
        self.known.lock().as_ref().map(|known| known.trust_domain.clone())
    }

    /// Verifies exactly the server of the trusted bundle, as the bundle is at each handshake.
    pub(super) fn verifier(&self, trust_domain: &TrustDomain) -> Result<Arc<SvidVerifier>, Trouble> {
        let bundles = self.bundles.clone();
        verifier_of_server(trust_domain, Arc::new(move || bundles.load_full()))
    }

    /// Asks the server for its signed bundle over a connection that proves nothing; the pin does.
    pub(super) async fn fetch(&self, server: &ServerAddress) -> Result<bool, Trouble> {
        let signed = ask(server, insecure_client_config_without_server_identity()).await?;
        self.learn_pin(&signed);
        match (self.accept(signed, Hand::Anybody), &self.anchor) {
            (Err(Trouble::Hopeless(says)), Some(anchor)) => {
                self.fetch_vouched(server, anchor).await.map_err(|trouble| {
                    Trouble::Hopeless(format!("{says}; nor does {} help: {trouble}", anchor.key()))
                })
            }
            (accepted, _) => accepted,
        }
    }

    /// Asks the server that the operator's bundle vouches for; from then on, its pin is the pin.
    async fn fetch_vouched(&self, server: &ServerAddress, anchor: &Anchor) -> Result<bool, Trouble> {
        let trust_domain = self.trust_domain.clone().or_else(|| self.trust_domain());
        let trust_domain = trust_domain
            .ok_or_else(|| Trouble::Hopeless(format!("{} needs trust_domain beside it", anchor.key())))?;
        let bundles = Arc::new(Bundles::from_iter([anchor.bundle(&trust_domain).await?]));
        let verifier = verifier_of_server(&trust_domain, Arc::new(move || bundles.clone()))?;
        let signed = ask(server, client_config(verifier, None)).await?;
        let pin = Pin::of(&signed.pin_public_key);
        signed.verify(&pin).map_err(|error| Trouble::Unreachable(error.to_string()))?;
        tracing::warn!(%pin, by = anchor.key(), "took the pin of the server that the operator's bundle vouches for");
        *self.pin.lock() = Some(pin);
        self.accept(signed, Hand::Server)
    }

    /// Takes a signed bundle if it is vouched for, and says whether it changed anything.
    pub(super) fn accept(&self, signed: SignedBundle, hand: Hand) -> Result<bool, Trouble> {
        if self.known.lock().as_ref().is_some_and(|known| known.signed.as_ref() == Some(&signed)) {
            return Ok(false);
        }
        let bundle = self.judge(&signed)?;
        let newest = self.known.lock().as_ref().and_then(|known| known.sequence);
        if hand == Hand::Anybody && newest.zip(bundle.sequence).is_some_and(|(newest, this)| this < newest) {
            return Err(Trouble::Unreachable(
                "the server showed an older trust bundle than the one known here; if its state was put back, run on the \
                 server: writ backup accept"
                    .to_owned(),
            ));
        }
        if let Some(pin) = self.pin()
            && let Err(error) = self.state.save_trust(pin, &signed)
        {
            // It is trusted all the same; a later start asks for it again.
            tracing::error!(%error, "cannot keep the trust bundle");
        }
        self.install(signed, bundle);
        Ok(true)
    }

    fn judge(&self, signed: &SignedBundle) -> Result<Bundle, Trouble> {
        let Some(pin) = self.pin() else {
            return Err(Trouble::Hopeless(
                "the agent has no pin to know its server by; give it --pin as this prints it on the server: \
                 writ token create --node NAME"
                    .to_owned(),
            ));
        };
        let known = self.trust_domain();
        if let Some(expected) = self.trust_domain.as_ref().or(known.as_ref())
            && signed.trust_domain != *expected
        {
            return Err(Trouble::Hopeless(format!(
                "the server is of trust domain {}, and this agent is of {expected}; check the server's address",
                signed.trust_domain
            )));
        }
        signed.verify(&pin).map_err(|error| match error {
            PinError::OtherKey { .. } => Trouble::Hopeless(format!(
                "{error}; if that is the right server, run there: writ token create --node NAME, and start the \
                 agent with what it prints"
            )),
            error => Trouble::Unreachable(error.to_string()),
        })
    }

    /// Where the operator wants it so, the first server's pin is the pin.
    fn learn_pin(&self, signed: &SignedBundle) {
        let mut pin = self.pin.lock();
        if pin.is_none() && self.insecure_bootstrap {
            let learned = Pin::of(&signed.pin_public_key);
            tracing::warn!(pin = %learned, "believed the first server that answered, because of insecure_bootstrap");
            *pin = Some(learned);
        }
    }

    fn install(&self, signed: SignedBundle, bundle: Bundle) {
        let (trust_domain, sequence) = (signed.trust_domain.clone(), bundle.sequence);
        *self.known.lock() = Some(Known { trust_domain, sequence, signed: Some(signed) });
        self.bundles.store(Arc::new(Bundles::from_iter([bundle])));
    }
}

/// Verifies exactly the server of this trust domain.
fn verifier_of_server(
    trust_domain: &TrustDomain,
    bundles: CurrentBundles,
) -> Result<Arc<SvidVerifier>, Trouble> {
    let server = trust_domain.join("/spire/server").map_err(|error| Trouble::Hopeless(error.to_string()))?;
    Ok(Arc::new(SvidVerifier::new(bundles, Arc::new(clock::now), Expected::Exactly(server))))
}

/// A server's signed bundle, over a connection of its own.
async fn ask(
    server: &ServerAddress,
    tls: Result<ClientConfig, rustls::Error>,
) -> Result<SignedBundle, Trouble> {
    let tls = tls.map_err(|error| Trouble::Unreachable(error.to_string()))?;
    let channel = connect::connect(server, Arc::new(tls)).await;
    let channel = channel.map_err(|error| Trouble::Unreachable(error.to_string()))?;
    Ok(node::Client::new(channel).bundle().await?)
}

#[cfg(test)]
mod tests {
    use spiffe::{PinKey, PrivateKey};

    use super::*;

    fn server() -> PinKey {
        PinKey::new(&PrivateKey::generate().unwrap()).unwrap()
    }

    fn bundle(server: &PinKey, sequence: u64) -> SignedBundle {
        signed_for(server, "acme.example", sequence)
    }

    fn signed_for(server: &PinKey, trust_domain: &str, sequence: u64) -> SignedBundle {
        let document = format!("{{\"keys\":[],\"spiffe_sequence\":{sequence}}}");
        server.sign(&trust_domain.parse().unwrap(), document.into_bytes()).unwrap()
    }

    fn open(dir: &tempfile::TempDir, pin: Option<Pin>, insecure: bool) -> Trust {
        let state = Arc::new(State::open(&dir.path().join("agent")).unwrap());
        Trust::open(None, Vouchers { pin, insecure_bootstrap: insecure, anchor: None }, state).unwrap()
    }

    #[test]
    fn only_what_the_pinned_key_signed_is_believed() {
        let (dir, server, other) = (tempfile::tempdir().unwrap(), server(), self::server());
        let trust = open(&dir, Some(server.pin()), false);
        assert!(matches!(trust.accept(bundle(&other, 1), Hand::Anybody), Err(Trouble::Hopeless(_))));
        let mut forged = bundle(&server, 1);
        forged.document.push(b' ');
        assert!(trust.accept(forged, Hand::Server).is_err());
        assert_eq!(trust.accept(bundle(&server, 1), Hand::Anybody), Ok(true));
        assert_eq!(trust.trust_domain().unwrap().as_str(), "acme.example");
    }

    #[test]
    fn an_old_bundle_counts_only_from_the_server_itself() {
        let (dir, server) = (tempfile::tempdir().unwrap(), server());
        let trust = open(&dir, Some(server.pin()), false);
        trust.accept(bundle(&server, 7), Hand::Anybody).unwrap();
        assert!(trust.accept(bundle(&server, 6), Hand::Anybody).is_err());
        assert_eq!(trust.accept(bundle(&server, 6), Hand::Server), Ok(true));
    }

    #[test]
    fn the_trust_domain_stays_what_it_was() {
        let (dir, server) = (tempfile::tempdir().unwrap(), server());
        let trust = open(&dir, Some(server.pin()), false);
        trust.accept(bundle(&server, 1), Hand::Server).unwrap();
        let other = signed_for(&server, "evil.example", 2);
        assert!(matches!(trust.accept(other, Hand::Server), Err(Trouble::Hopeless(_))));
    }

    #[test]
    fn what_was_accepted_is_trusted_after_a_restart_and_not_under_another_pin() {
        let (dir, server) = (tempfile::tempdir().unwrap(), server());
        open(&dir, Some(server.pin()), false).accept(bundle(&server, 1), Hand::Server).unwrap();
        assert_eq!(open(&dir, None, false).trust_domain().unwrap().as_str(), "acme.example");
        assert_eq!(open(&dir, Some(self::server().pin()), false).trust_domain(), None);
    }

    #[test]
    fn without_a_pin_nobody_is_believed_unless_the_operator_says_so_by_name() {
        let (dir, server) = (tempfile::tempdir().unwrap(), server());
        let trust = open(&dir, None, false);
        trust.learn_pin(&bundle(&server, 1));
        assert!(matches!(trust.accept(bundle(&server, 1), Hand::Anybody), Err(Trouble::Hopeless(_))));
        drop(trust);
        let trust = open(&dir, None, true);
        trust.learn_pin(&bundle(&server, 1));
        assert_eq!(trust.accept(bundle(&server, 1), Hand::Anybody), Ok(true));
        // From now on it must be the same one.
        trust.learn_pin(&bundle(&self::server(), 2));
        assert!(trust.accept(bundle(&self::server(), 2), Hand::Anybody).is_err());
    }
}
