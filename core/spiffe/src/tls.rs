//! Mutual TLS with X509-SVIDs: rustls verifiers and configurations.
//!
//! TLS 1.3 only, a full handshake for every connection: no tickets, no resumption, no early data.
//! Each handshake asks for the bundles as they are at that moment, so a distrusted authority or a
//! banned peer is refused from the next connection on.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    server::{
        NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    Bundles, PrivateKey, SpiffeId, Timestamp, TrustDomain,
    x509::{Certificate, svid},
};

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

/// A peer whose X509-SVID was verified in the handshake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerSvid {
    /// Who it is.
    pub id: SpiffeId,
    /// Its certificate's serial number, lower-case hex.
    pub serial: String,
    /// The SHA-256 of its SubjectPublicKeyInfo, lower-case hex.
    pub public_key_sha256: String,
    /// Its certificate's last moment of validity.
    pub not_after: Timestamp,
}

impl SvidVerifier {
    /// Verifies whoever `expected` allows against the bundles of each moment.
    pub fn new(bundles: CurrentBundles, now: Now, expected: Expected) -> Self {
        Self {
            bundles,
            now,
            expected,
            client_may_be_anonymous: false,
            provider: Arc::new(aws_lc_rs::default_provider()),
        }
    }

    /// Lets clients without a certificate in, as anonymous; one that shows a certificate must show a good one.
    #[must_use]
    pub fn client_may_be_anonymous(mut self) -> Self {
        self.client_may_be_anonymous = true;
        self
    }

    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let chain: Vec<_> =
            std::iter::once(leaf).chain(rest).map(|der| CertificateDer::from(der.as_ref())).collect();
        let id = svid::verify(&chain, &(self.bundles)(), (self.now)()).map_err(refused)?;
        match &self.expected {
            Expected::AnyIn(trust_domain) if id.is_in(trust_domain) => Ok(()),
            Expected::Exactly(expected) if id == *expected => Ok(()),
            Expected::Matching(accepts) if accepts(&id) => Ok(()),
            _ => Err(refused(Unexpected(id))),
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A peer that is who it says, but not who was meant.
#[derive(Debug, thiserror::Error)]
#[error("the peer is {0}, who is not expected here")]
struct Unexpected(SpiffeId);

fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
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
        self.verify_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
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
        self.verify_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl fmt::Debug for SvidVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SvidVerifier")
            .field("client_may_be_anonymous", &self.client_may_be_anonymous)
            .finish_non_exhaustive()
    }
}

/// A client that shows `identity` (or stays anonymous without one) and verifies its server.
pub fn client_config(
    verifier: Arc<SvidVerifier>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<ClientConfig, Error> {
    unresumable_client(verifier.provider.clone(), verifier, identity)
}

/// A client that does not check who the server is, for a bootstrap without pin that the operator
/// asked for by name, and for fetching what carries its own signature.
pub fn insecure_client_config_without_server_identity() -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    unresumable_client(provider.clone(), Arc::new(AnyServer(provider)), None)
}

fn unresumable_client(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // rustls' word for any verifier but its own
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// A server that shows `identity` and verifies its clients.
pub fn server_config(
    verifier: Arc<SvidVerifier>,
    identity: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(config)
}

/// A chain (leaf first) with its key, as rustls' resolvers hand it out.
pub fn certified_key(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(chain, key.to_der().clone_key(), &aws_lc_rs::default_provider())
}

/// A chain with its key as an identity that never changes.
pub fn fixed_identity(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKey,
) -> Result<Arc<SingleCertAndKey>, Error> {
    Ok(Arc::new(SingleCertAndKey::from(certified_key(chain, key)?)))
}

/// Whose certificates these are, after a handshake that [`SvidVerifier`] accepted: the argument is
/// what rustls' `peer_certificates()` gives, `None` for an anonymous client.
pub fn peer_svid(verified: Option<&[CertificateDer<'_>]>) -> Result<Option<PeerSvid>, svid::SvidError> {
    let Some(leaf) = verified.and_then(<[_]>::first) else { return Ok(None) };
    let leaf = Certificate::parse(leaf)?;
    Ok(Some(PeerSvid {
        id: svid::leaf_id(&leaf)?,
        serial: leaf.serial_hex(),
        public_key_sha256: leaf.public_key_sha256_hex(),
        not_after: leaf.not_after(),
    }))
}

/// Accepts any server that has the key of the certificate it shows.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

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
        verify_tls13_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const ALPN_H2: &[u8] = b"h2";
