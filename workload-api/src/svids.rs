//! What one caller may have: its identities with their keys, and the bundles to judge others by.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use spiffe::{PrivateKey, SpiffeId, TrustDomain};

use crate::{refusal::Refusal, wire};

/// An X509-SVID with its key, as it is handed to a workload.
#[derive(Debug)]
pub struct X509Svid {
    /// Who its holder is.
    pub id: SpiffeId,
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKey,
}

/// One identity of a caller.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its SVID.
    pub svid: Arc<X509Svid>,
    /// What tells it from the caller's others; may be empty.
    pub hint: String,
}

/// X.509 authorities by trust domain, each DER, one after the other.
pub type X509Bundles = BTreeMap<TrustDomain, Bytes>;

/// Everything that callers with the same identities get. They share one value, and the answers in it
/// are encoded once, when the first of them asks.
#[derive(Debug)]
pub struct Svids {
    pub(crate) identities: Vec<Identity>,
    pub(crate) bundles: X509Bundles,
    /// The caller has identities, and their keys stay with the agent.
    pub(crate) withheld: bool,
    x509_svid_response: OnceLock<Bytes>,
    x509_bundles_response: OnceLock<Bytes>,
}

impl Svids {
    /// What callers with these identities get; the first identity is their default. Of several with
    /// the same hint the first one counts: a hint is unique in a response.
    pub fn new(mut identities: Vec<Identity>, bundles: X509Bundles) -> Self {
        keep_first_of_each_hint(&mut identities, |identity| &identity.hint);
        Self {
            identities,
            bundles,
            withheld: false,
            x509_svid_response: OnceLock::new(),
            x509_bundles_response: OnceLock::new(),
        }
    }

    /// What callers get whose keys stay with the agent: bundles, and no SVID.
    pub fn withheld(bundles: X509Bundles) -> Self {
        Self { withheld: true, ..Self::new(Vec::new(), bundles) }
    }

    /// Its identities, the default one first.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The bundles to judge others by.
    pub fn bundles(&self) -> &X509Bundles {
        &self.bundles
    }

    /// Who the caller is, its default identity first.
    pub fn ids(&self) -> impl Iterator<Item = &SpiffeId> {
        self.identities.iter().map(|identity| &identity.svid.id)
    }

    /// The answer to FetchX509SVID.
    pub(crate) fn x509_svid_response(&self) -> Result<Bytes, Refusal> {
        match self.withheld {
            true => Err(Refusal::KeyNotExported),
            false => Ok(self.x509_svid_response.get_or_init(|| wire::x509_svid_response(self)).clone()),
        }
    }

    /// The answer to FetchX509Bundles.
    pub(crate) fn x509_bundles_response(&self) -> Result<Bytes, Refusal> {
        Ok(self.x509_bundles_response.get_or_init(|| wire::x509_bundles_response(self)).clone())
    }
}

/// A hint is unique in a response: of several with the same one, the first counts.
pub(crate) fn keep_first_of_each_hint<T>(identities: &mut Vec<T>, hint: impl Fn(&T) -> &str) {
    let mut hints = HashSet::new();
    identities.retain(|identity| hint(identity).is_empty() || hints.insert(hint(identity).to_owned()));
}
