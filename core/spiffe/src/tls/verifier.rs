//! Who is at the other end, as rustls asks it in each handshake.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Bundles, SpiffeId, Timestamp, TrustDomain, x509::svid};

/// Gives the bundles that are trusted at this moment.
pub type CurrentBundles = Arc<dyn Fn() -> Arc<Bundles> + Send + Sync>;
/// Gives the present time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Who may be at the other end.
#[derive(Clone)]
pub enum Expected {
    /// Any workload of this trust domain.
    AnyIn(TrustDomain),
    /// Exactly this workload.
    Exactly(SpiffeId),
    /// Whoever the predicate accepts. What it refuses is refused in the handshake.
    Matching(Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>),
}

/// Verifies peers by their X509-SVIDs, for servers and for clients. Names and addresses do not count.
pub struct SvidVerifier {
    bundles: CurrentBundles,
    now: Now,
    expected: Expected,
    client_may_be_anonymous: bool,
    provider: Arc<CryptoProvider>,
}

impl SvidVerifier {
    /// Verifies whoever `expected` allows against the bundles of each moment.
    pub fn new(bundles: CurrentBundles, now: Now, expected: Expected) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self { bundles, now, expected, client_may_be_anonymous: false, provider }
    }

    /// Lets clients without a certificate in, as anonymous; one that shows a certificate must show a good one.
    #[must_use]
    pub fn client_may_be_anonymous(mut self) -> Self {
        self.client_may_be_anonymous = true;
        self
    }

    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.clone()
    }

    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let chain: Vec<_> =
            [leaf].into_iter().chain(rest).map(|der| CertificateDer::from(der.as_ref())).collect();
        let id = svid::verify(&chain, &(self.bundles)(), (self.now)()).map_err(refused)?;
        match &self.expected {
            Expected::AnyIn(trust_domain) if id.is_in(trust_domain) => Ok(()),
            Expected::Exactly(expected) if id == *expected => Ok(()),
            Expected::Matching(accepts) if accepts(&id) => Ok(()),
            _ => Err(refused(Unexpected(id))),
        }
    }
}

/// Accepts any server that has the key of the certificate it shows.
#[derive(Debug)]
pub(super) struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl AnyServer {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider }
    }
}

/// A peer that is who it says, but not who was meant.
#[derive(Debug, thiserror::Error)]
#[error("the peer is {0}, who is not expected here")]
struct Unexpected(SpiffeId);

/// Keeps the reason for our own log; the peer sees an alert.
fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}

/// Does the peer have the key of its certificate? Both of rustls' traits ask it in the same words.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _leaf: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls13_signature(message, leaf, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for SvidVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates).map(|()| ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

impl ClientCertVerifier for SvidVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.client_may_be_anonymous
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // a client knows which SVID to show, and need not learn whom we trust
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates).map(|()| ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

impl fmt::Debug for SvidVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anonymous = &self.client_may_be_anonymous;
        f.debug_struct("SvidVerifier").field("client_may_be_anonymous", anonymous).finish_non_exhaustive()
    }
}
