//! The trust bundle in the two forms in which it is needed often: ready for verification, and signed
//! by the pin key. Each is made once for each version of the bundle. The pin key is kept here.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use registry::Registry;
use spiffe::{Bundles, Pin, PinError, PinKey, SignedBundle};

use crate::ledger::Ledger;

/// The trust bundle of this server's trust domain.
pub(crate) struct Trust {
    ledger: Ledger,
    pin_key: PinKey,
    verifying: ArcSwapOption<(u64, Arc<Bundles>)>,
    signed: ArcSwapOption<(u64, Arc<SignedBundle>)>,
}

impl Trust {
    pub(crate) fn new(ledger: Ledger, pin_key: PinKey) -> Self {
        Self { ledger, pin_key, verifying: ArcSwapOption::empty(), signed: ArcSwapOption::empty() }
    }

    /// What agents pin.
    pub(crate) fn pin(&self) -> Pin {
        self.pin_key.pin()
    }

    /// The pin key's signature of a message of ours.
    pub(crate) fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, PinError> {
        self.pin_key.sign_message(message)
    }

    /// What clients are verified against, now.
    pub(crate) fn bundles(&self) -> Arc<Bundles> {
        let registry = self.ledger.current();
        let Some(bundle) = registry.bundle(registry.trust_domain()) else { return Arc::default() };
        if let Some(known) = self.verifying.load().as_deref()
            && known.0 == bundle.version
        {
            return known.1.clone();
        }
        let bundles: Arc<Bundles> = Arc::new([bundle.authorities().clone()].into_iter().collect());
        self.verifying.store(Some(Arc::new((bundle.version, bundles.clone()))));
        bundles
    }

    /// The bundle in `registry`, signed; `None` before there is one.
    pub(crate) fn signed(&self, registry: &Registry) -> Result<Option<Arc<SignedBundle>>, PinError> {
        let trust_domain = registry.trust_domain();
        let Some(bundle) = registry.bundle(trust_domain) else { return Ok(None) };
        if let Some(known) = self.signed.load().as_deref()
            && known.0 == bundle.version
        {
            return Ok(Some(known.1.clone()));
        }
        let signed = Arc::new(self.pin_key.sign(trust_domain, bundle.document())?);
        self.signed.store(Some(Arc::new((bundle.version, signed.clone()))));
        Ok(Some(signed))
    }
}
