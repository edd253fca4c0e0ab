//! TLS to a server with whatever certificate a story likes, and without asking who the server is.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A certificate chain and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: Vec<u8>,
}

impl Identity {
    /// What `writ fetch x509 --write` left in a folder: the files that hold a chain and a key.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let (mut chain, mut key) = (Vec::new(), None);
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let text = std::fs::read(entry.path()).ok()?;
            if let Ok(found) = PrivateKeyDer::from_pem_slice(&text) {
                key = Some(found.secret_der().to_vec());
            } else if chain.is_empty() && entry.file_name().to_string_lossy().contains("svid") {
                chain = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().ok()?;
            }
        }
        (!chain.is_empty()).then_some(Self { chain, key: key? })
    }

    /// One that a certificate authority of our own, which nobody trusts, vouches for.
    #[must_use]
    pub fn foreign(spiffe_id: &str) -> Self {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        root.distinguished_name.push(DnType::CommonName, "nobody's root");
        let root_key = KeyPair::generate().expect("keys can be made");
        let root_certificate = root.self_signed(&root_key).expect("a root can be made");

        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(spiffe_id.try_into().expect("an ID is ASCII"))];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("keys can be made");
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).expect("a leaf can be made");
        Self { chain: vec![leaf.der().clone(), root_certificate.der().clone()], key: key.serialize_der() }
    }
}

/// Shakes hands with a server and returns a channel over that one connection, or why there is none.
///
/// A server that refuses the certificate says so only after the handshake (TLS 1.3), so the first
/// call may be what fails.
pub async fn connect(address: &str, identity: Option<&Identity>) -> Result<Channel, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(algorithms(&provider))));
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { chain, key }) => {
            let key = PrivateKeyDer::try_from(key.clone()).expect("it is PKCS#8");
            config.with_client_auth_cert(chain.clone(), key).expect("key and certificate belong together")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    let service = tower::service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from("server.invalid").expect("it is a name");
            connector.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://server.invalid");
    endpoint.connect_with_connector(service).await.map_err(|error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    })
}

fn algorithms(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// Takes any server; the stories are about what the server takes.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
