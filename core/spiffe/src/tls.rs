//! Mutual TLS with X509-SVIDs: rustls verifiers and configurations.
//!
//! TLS 1.3 only, a full handshake for every connection: no tickets, no resumption, no early data.
//! Each handshake asks for the bundles as they are at that moment, so a distrusted authority or a
//! banned peer is refused from the next connection on.

mod verifier;

use std::sync::Arc;

use rustls::{
    ClientConfig, Error, ServerConfig,
    client::{ResolvesClientCert, Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::CertificateDer;

use crate::{
    PrivateKey, SpiffeId, Timestamp,
    x509::{Certificate, svid},
};
use verifier::AnyServer;
pub use verifier::{CurrentBundles, Expected, Now, SvidVerifier};

/// A client that shows `identity` (or stays anonymous without one) and verifies its server.
pub fn client_config(
    verifier: Arc<SvidVerifier>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<ClientConfig, Error> {
    unresumable_client(verifier.provider(), verifier, identity)
}

/// A client that does not check who the server is: for a bootstrap without pin that the operator
/// asked for by name, and for fetching what carries its own signature.
pub fn insecure_client_config_without_server_identity() -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    unresumable_client(provider.clone(), Arc::new(AnyServer::new(provider)), None)
}

/// A server that shows `identity` and verifies its clients.
pub fn server_config(
    verifier: Arc<SvidVerifier>,
    identity: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(verifier.provider())
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
    // Borrowed, because rustls' own constructor leaves an unwiped copy of the key behind.
    let key = aws_lc_rs::sign::any_supported_type(&key.to_der())?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    Ok(certified)
}

/// A chain with its key as an identity that never changes.
pub fn fixed_identity(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKey,
) -> Result<Arc<SingleCertAndKey>, Error> {
    Ok(Arc::new(SingleCertAndKey::from(certified_key(chain, key)?)))
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
    /// The key identifier of who signed its certificate, lower-case hex; empty where it names none.
    pub signer: String,
    /// Its certificate's last moment of validity.
    pub not_after: Timestamp,
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
        signer: hex::encode(leaf.authority_key_id().unwrap_or_default()),
        not_after: leaf.not_after(),
    }))
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

const ALPN_H2: &[u8] = b"h2";

#[cfg(test)]
mod tests;
