//! The server's own X509-SVID: what it shows to agents.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use registry::{
    Registry,
    objects::{Kind, well_known},
};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use spiffe::{KeyError, PrivateKey, SpiffeId, Timestamp, TrustDomain, tls};
use x509_parser::{
    certificate::X509Certificate,
    prelude::{FromDer as _, GeneralName},
};

use crate::ca::{Ca, IssueError, KeyRefused, Subject, SubjectKey};

/// `spiffe://TD/spire/server` with a key that never leaves this process.
pub(crate) struct OwnSvid {
    id: SpiffeId,
    held: ArcSwapOption<Held>,
}

#[derive(Debug)]
struct Held {
    shown: Arc<CertifiedKey>,
    /// The authority that signed it; when another one takes over, so does another SVID.
    authority: registry::objects::AuthorityId,
    renew_at: Timestamp,
}

/// What a certificate of the server's own says.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: Option<SpiffeId>,
    pub(crate) not_after: Timestamp,
    /// The distinguished name.
    pub(crate) subject: String,
}

impl Shown {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let id = names.and_then(|names| {
            names.value.general_names.iter().find_map(|name| match name {
                GeneralName::URI(uri) => uri.parse().ok(),
                _ => None,
            })
        });
        let not_after = Timestamp::from_unix_seconds(certificate.validity().not_after.timestamp());
        Some(Self { id, not_after, subject: certificate.subject().to_string() })
    }
}

/// The server cannot make its own SVID.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// It cannot be signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The fresh key is not one that may be certified, which never happens.
    #[error("the fresh key cannot be certified: {0}")]
    Refused(String),
    /// rustls does not take it.
    #[error("the server's own certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

impl OwnSvid {
    pub(crate) fn new(trust_domain: &TrustDomain) -> Self {
        Self { id: well_known::server(trust_domain), held: ArcSwapOption::empty() }
    }

    /// Makes the next SVID if half of the present one's life is over or another authority signs now.
    pub(crate) fn renew_if_due(&self, ca: &Ca, registry: &Registry, now: Timestamp) -> Result<(), OwnError> {
        let issuer = ca.issuer()?;
        if self.held.load().as_ref().is_some_and(|held| held.authority == *issuer.id() && now < held.renew_at)
        {
            return Ok(());
        }
        let key = PrivateKey::generate()?;
        let public = SubjectKey::from_spki(&key.public_key()?)
            .map_err(|e: KeyRefused| OwnError::Refused(e.to_string()))?;
        let subject = Subject { id: &self.id, dns_names: &[] };
        let issued = issuer.issue(subject, &public, now, now + registry.settings().agent_svid_ttl())?;
        let chain = issued.chain.iter().map(|der| der.to_vec().into()).collect();
        let shown = Arc::new(tls::certified_key(chain, &key)?);
        let renew_at = issued.not_after.before(issued.not_after.since(now) / 2);
        self.held.store(Some(Arc::new(Held { shown, authority: issuer.id().clone(), renew_at })));
        Ok(())
    }

    /// What it shows, and the root above it.
    pub(crate) fn shown(&self, registry: &Registry) -> Vec<Shown> {
        let Some(held) = self.held.load_full() else { return Vec::new() };
        let authority = registry.authority(&held.authority);
        let root = authority.and_then(|authority| match &authority.kind {
            Kind::X509 { chain } => chain.last().map(|root| root.0.to_vec()),
            Kind::Jwt { .. } => None,
        });
        held.shown.cert.iter().map(|der| der.to_vec()).chain(root).filter_map(|der| Shown::of(&der)).collect()
    }

    /// When the next SVID is due.
    pub(crate) fn renew_at(&self) -> Option<Timestamp> {
        self.held.load().as_ref().map(|held| held.renew_at)
    }
}

impl ResolvesServerCert for OwnSvid {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.held.load().as_ref().map(|held| held.shown.clone())
    }
}

impl std::fmt::Debug for OwnSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnSvid({})", self.id)
    }
}
