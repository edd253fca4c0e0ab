//! A public key infrastructure that is nobody's of ours: an authority, and certificates for machines.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize, SanType,
};

use crate::folder::Folder;

/// An authority with a folder of its own.
#[derive(Debug)]
pub struct Pki {
    folder: Folder,
    params: CertificateParams,
    key: KeyPair,
}

/// A machine's certificate and key, in files.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The certificate, in DER.
    pub der: Vec<u8>,
}

/// The kind of a machine's key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// ECDSA P-256.
    Ecdsa,
    /// RSA with 2,048 bits.
    Rsa,
}

impl Pki {
    /// A new authority.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Machines of Acme");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pki = Self { folder: Folder::new(), params, key: KeyPair::generate().expect("keys can be made") };
        let root = pki.params.self_signed(&pki.key).expect("it can be signed");
        pki.folder.write("ca.pem", root.pem());
        pki
    }

    /// The authority's certificate, in PEM.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for an HTTPS server on loopback, and its key, in files.
    #[must_use]
    pub fn loopback(&self) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("keys can be made");
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
        leaf.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = leaf.signed_by(&key, &issuer).expect("it can be signed");
        let certificate = self.folder.write("loopback.pem", leaf.pem());
        (certificate, self.folder.write("loopback.key", key.serialize_pem()))
    }

    /// A certificate for the machine of this name.
    #[must_use]
    pub fn machine(&self, name: &str, kind: Kind) -> Machine {
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.expect("keys can be made");
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name.push(DnType::CommonName, name);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let rack = "x509pop://writ.local/rack/r1".try_into().expect("it is ASCII");
        leaf.subject_alt_names = vec![SanType::URI(rack)];
        leaf.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = leaf.signed_by(&key, &issuer).expect("it can be signed");
        Machine {
            certificate: self.folder.write(&format!("{name}.pem"), leaf.pem()),
            key: self.folder.write(&format!("{name}.key"), key.serialize_pem()),
            der: leaf.der().to_vec(),
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// How a Writ agent is told to attest with it.
    #[must_use]
    pub fn agent(&self) -> String {
        let Self { certificate, key, .. } = self;
        format!("[node_attestor.x509pop]\nprivate_key_path = {key:?}\ncertificate_path = {certificate:?}\n")
    }

    /// How SPIRE's agent is told to attest with it.
    #[must_use]
    pub fn spire_agent(&self) -> String {
        let Self { certificate, key, .. } = self;
        format!(
            "NodeAttestor \"x509pop\" {{ plugin_data {{ private_key_path = {key:?} certificate_path = {certificate:?} }} }}"
        )
    }
}
