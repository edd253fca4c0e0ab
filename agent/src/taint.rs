//! Under which authorities certificates are, so that those under a tainted one are replaced at once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use registry::objects::{AuthorityId, EntryId};
use rustls_pki_types::CertificateDer;
use spiffe::x509::Certificate;

use crate::rotation::Validity;

/// The authorities that signed a chain, by their key identifiers. A clone shares them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Signers(Arc<[AuthorityId]>);

/// How things stand with the agent's own certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    /// How long it is valid.
    pub(crate) validity: Validity,
    /// Who signed it.
    pub(crate) signers: Signers,
}

/// What is tainted, and what is held under which authority.
#[derive(Debug, Default)]
pub(crate) struct Taint {
    tainted: BTreeSet<AuthorityId>,
    held: HashMap<EntryId, Signers>,
}

impl Signers {
    /// Those of a chain. What names nobody, nobody can taint.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Self {
        let signer = |der: &CertificateDer<'_>| {
            hex::encode(Certificate::parse(der).ok()?.authority_key_id()?).parse().ok()
        };
        Self(chain.iter().filter_map(signer).collect())
    }
}

impl Taint {
    /// Whether one of these is tainted.
    pub(crate) fn is_on(&self, signers: &Signers) -> bool {
        signers.0.iter().any(|signer| self.tainted.contains(signer))
    }

    /// These are tainted now. Gives back what is held under one of them that was not tainted before.
    pub(crate) fn spread(&mut self, tainted: &BTreeSet<AuthorityId>) -> Vec<EntryId> {
        if self.tainted == *tainted {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.tainted, tainted.clone());
        let is_new = |signers: &Signers| {
            signers.0.iter().any(|signer| tainted.contains(signer) && !before.contains(signer))
        };
        self.held.iter().filter(|(_, signers)| is_new(signers)).map(|(id, _)| id.clone()).collect()
    }

    /// This is held now. Whether it is to be replaced at once.
    pub(crate) fn hold(&mut self, id: &EntryId, signers: &Signers) -> bool {
        self.held.insert(id.clone(), signers.clone());
        self.is_on(signers)
    }

    /// Nothing is held for this entry any more.
    pub(crate) fn forget(&mut self, id: &EntryId) {
        self.held.remove(id);
    }
}

#[cfg(test)]
impl Signers {
    /// One that has this name.
    pub(crate) fn named(name: &str) -> Self {
        Self([name.parse().unwrap()].into())
    }
}
