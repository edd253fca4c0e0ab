//! The certificate authority: the only place where signing keys are.
//!
//! Which authorities there are and where they stand in rotation, the log says; here are their keys,
//! the turns that are due ([`rotation`]), and what is signed with them.

mod issue;
mod keys;
mod request;
mod root;
pub(crate) mod rotation;
mod subject_key;
mod token;

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
pub(crate) use issue::{Issued, Issuer, Subject};
pub use keys::KeyStoreError;
use keys::{Disk, KeyStore, Memory};
use registry::{
    Registry,
    decide::authority::NewAuthority,
    objects::{Authority, AuthorityId, Kind, Slot, Use, authority::Der},
};
pub(crate) use request::Requested;
use spiffe::{Timestamp, TrustDomain};
pub(crate) use subject_key::{KeyRefused, SubjectKey};
pub(crate) use token::{Token, TokenIssuer};

use crate::config::CaKeys;

/// The authorities' keys, and the authorities that sign now.
pub(crate) struct Ca {
    keys: Box<dyn KeyStore>,
    certificates: ArcSwapOption<Issuer>,
    tokens: ArcSwapOption<TokenIssuer>,
}

/// Something that cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The key is not there.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// rcgen refuses.
    #[error("the certificate cannot be made: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// An authority without certificates.
    #[error("the authority has no certificate")]
    NoCertificate,
    /// The key is not the authority's.
    #[error("the key is not the one that the authority signs with")]
    OtherKey,
    /// The authority or the time asked for is over.
    #[error("what is signed would end before it begins")]
    Ended,
    /// The time is outside what a certificate can say.
    #[error("the time is outside the years that a certificate can name")]
    Date,
    /// No randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
    /// No authority signs, because there is none whose key is here.
    #[error("no authority is active; see the server's log")]
    NoAuthority,
}

impl Ca {
    /// Opens the keys.
    pub(crate) fn open(kept: CaKeys, directory: &Path) -> Result<Self, KeyStoreError> {
        let keys: Box<dyn KeyStore> = match kept {
            CaKeys::Disk => Box::new(Disk::open(directory)?),
            CaKeys::Memory => Box::new(Memory::default()),
        };
        Ok(Self { keys, certificates: ArcSwapOption::empty(), tokens: ArcSwapOption::empty() })
    }

    /// Makes a key and the public half of a new authority, which the log does not know yet.
    pub(crate) fn prepare(
        &self,
        used_for: Use,
        trust_domain: &TrustDomain,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<NewAuthority, IssueError> {
        let key = self.keys.make()?;
        match used_for {
            Use::X509 => root::self_signed(trust_domain, &key, ttl, now),
            Use::Jwt => Ok(NewAuthority {
                id: key.id().clone(),
                kind: Kind::Jwt { public_key: Der(key.public_key().to_vec().into()) },
                not_before: now,
                not_after: now + ttl,
            }),
        }
    }

    /// Which of the authorities that may sign have their key here. A key that is here but cannot be
    /// used, because its file is open to others, is an error: nobody takes its place in silence.
    pub(crate) fn keys_here(&self, registry: &Registry) -> Result<HashSet<AuthorityId>, KeyStoreError> {
        let mut here = HashSet::new();
        for authority in registry.authorities().filter(|authority| may_sign(authority)) {
            if self.keys.find(&authority.id)?.is_some() {
                here.insert(authority.id.clone());
            }
        }
        Ok(here)
    }

    /// Signs from now on with the authorities that are active in `registry`, and destroys the keys of those
    /// that will not sign again.
    pub(crate) fn follow(&self, registry: &Registry) -> Result<(), IssueError> {
        for active in registry.authorities().filter(|authority| authority.slot == Slot::Active) {
            let key = || self.keys.find(&active.id);
            match active.used_for() {
                Use::X509 if self.certificates.load().as_ref().is_none_or(|it| *it.id() != active.id) => {
                    let issuer = key()?.map(|key| Issuer::new(active, key)).transpose()?;
                    self.certificates.store(issuer.map(Arc::new));
                }
                Use::Jwt if self.tokens.load().as_ref().is_none_or(|it| *it.id() != active.id) => {
                    let issuer = key()?.map(|key| TokenIssuer::new(active, key)).transpose()?;
                    self.tokens.store(issuer.map(Arc::new));
                }
                Use::X509 | Use::Jwt => {}
            }
        }
        let needed = registry.authorities().filter(|authority| may_sign(authority));
        Ok(self.keys.keep_only(&needed.map(|authority| authority.id.clone()).collect::<Vec<_>>())?)
    }

    /// Destroys the key of an authority that the log did not take.
    pub(crate) fn forget(&self, id: &AuthorityId) -> Result<(), KeyStoreError> {
        self.keys.destroy(id)
    }

    /// The authority that signs certificates now.
    pub(crate) fn issuer(&self) -> Result<Arc<Issuer>, IssueError> {
        self.certificates.load_full().ok_or(IssueError::NoAuthority)
    }

    /// The authority that signs tokens now.
    pub(crate) fn token_issuer(&self) -> Result<Arc<TokenIssuer>, IssueError> {
        self.tokens.load_full().ok_or(IssueError::NoAuthority)
    }
}

/// Old authorities never sign again.
fn may_sign(authority: &Authority) -> bool {
    !matches!(authority.slot, Slot::Old { .. })
}
