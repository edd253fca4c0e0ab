//! One certificate, bounded, parsed once, and held against the rules of RFC 5280 that do not depend
//! on its place in a path.

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension},
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Version},
};

use crate::Timestamp;

/// The longest certificate accepted, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 32 * 1024;
/// The largest RSA key accepted, in bits: verifying costs grow with the square.
pub const MAX_RSA_BITS: usize = 4096;

/// A certificate that is well formed and whose critical extensions are all understood.
#[derive(Debug)]
pub struct Certificate<'a> {
    x509: X509Certificate<'a>,
    basic_constraints: Option<BasicConstraints>,
    key_usage: Option<Marked<KeyUsage>>,
    extended_key_usage: Option<ExtendedKeyUsage<'a>>,
    alternative_names: Option<Marked<Vec<GeneralName<'a>>>>,
}

/// The value of an extension, and whether it is marked critical.
#[derive(Clone, Debug)]
pub(crate) struct Marked<T> {
    pub(crate) critical: bool,
    pub(crate) value: T,
}

/// Which rule a certificate breaks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than [`MAX_CERTIFICATE_BYTES`].
    #[error("it has {0} bytes; at most {MAX_CERTIFICATE_BYTES} are accepted")]
    Length(usize),
    /// Not DER, or not a certificate.
    #[error("it is not an X.509 certificate in DER")]
    Form,
    /// Only version 3 can say what a certificate may be used for.
    #[error("it is not of X.509 version 3")]
    Version,
    /// RFC 5280 section 4.1.2.2.
    #[error("its serial number is not between 1 and 2^159")]
    Serial,
    /// An extension is there twice (section 4.2).
    #[error("it has an extension twice")]
    RepeatedExtension,
    /// An extension that is understood here is malformed.
    #[error("its extension {0} is malformed")]
    Extension(String),
    /// A critical extension that is not understood here (section 4.2).
    #[error("its critical extension {0} is unknown")]
    UnknownCritical(String),
    /// An RSA key of more than [`MAX_RSA_BITS`].
    #[error("its RSA key has {0} bits; at most {MAX_RSA_BITS} are accepted")]
    RsaBits(usize),
    /// It vouches for others but is not a CA (section 4.2.1.9).
    #[error("it is not a certificate authority's")]
    NotAuthority,
    /// It vouches for others but its key may not sign certificates (section 4.2.1.3).
    #[error("its key usage does not allow signing certificates")]
    MayNotSign,
}

impl<'a> Certificate<'a> {
    /// Parses DER from anywhere.
    pub fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::Length(der.len()));
        }
        let (rest, x509) = X509Certificate::from_der(der).map_err(|_| CertificateError::Form)?;
        if !rest.is_empty() {
            return Err(CertificateError::Form);
        }
        if x509.version() != X509Version::V3 {
            return Err(CertificateError::Version);
        }
        check_serial(x509.raw_serial())?;
        check_key(x509.public_key())?;
        let mut certificate = Self {
            x509,
            basic_constraints: None,
            key_usage: None,
            extended_key_usage: None,
            alternative_names: None,
        };
        certificate.take_extensions()?;
        Ok(certificate)
    }

    /// The subject's public key.
    pub fn public_key(&self) -> &SubjectPublicKeyInfo<'a> {
        &self.x509.tbs_certificate.subject_pki
    }

    /// The serial number, lower-case hex without leading zeros.
    pub fn serial_hex(&self) -> String {
        let digits = hex::encode(self.x509.raw_serial());
        digits.trim_start_matches('0').to_owned()
    }

    /// The SHA-256 of the SubjectPublicKeyInfo, lower-case hex.
    pub fn public_key_sha256_hex(&self) -> String {
        hex::encode(digest(&SHA256, self.public_key().raw))
    }

    /// First moment of validity.
    pub fn not_before(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.x509.validity().not_before.timestamp())
    }

    /// Last moment of validity.
    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.x509.validity().not_after.timestamp())
    }

    /// Whether it is a certificate authority's.
    pub fn is_authority(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|constraints| constraints.ca)
    }

    /// Whether the subject has no name.
    pub(crate) fn subject_is_empty(&self) -> bool {
        self.x509.subject().iter_rdn().next().is_none()
    }

    pub(crate) fn key_usage(&self) -> Option<&Marked<KeyUsage>> {
        self.key_usage.as_ref()
    }

    pub(crate) fn extended_key_usage(&self) -> Option<&ExtendedKeyUsage<'a>> {
        self.extended_key_usage.as_ref()
    }

    pub(crate) fn alternative_names_are_critical(&self) -> bool {
        self.alternative_names.as_ref().is_some_and(|names| names.critical)
    }

    /// The URIs among the subject's alternative names.
    pub(crate) fn uris(&self) -> impl Iterator<Item = &'a str> {
        self.alternative_names.iter().flat_map(|names| &names.value).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
    }

    /// What every certificate that vouches for another must be, wherever it stands.
    pub(crate) fn check_issuer(&self) -> Result<(), CertificateError> {
        if !self.is_authority() {
            return Err(CertificateError::NotAuthority);
        }
        match &self.key_usage {
            Some(usage) if !usage.value.key_cert_sign() => Err(CertificateError::MayNotSign),
            _ => Ok(()),
        }
    }

    fn take_extensions(&mut self) -> Result<(), CertificateError> {
        let extensions = self.x509.extensions();
        for (n, extension) in extensions.iter().enumerate() {
            if extensions[..n].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(CertificateError::RepeatedExtension);
            }
            let critical = extension.critical;
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(value) => self.basic_constraints = Some(value.clone()),
                ParsedExtension::KeyUsage(value) => self.key_usage = Some(Marked { critical, value: *value }),
                ParsedExtension::ExtendedKeyUsage(value) => self.extended_key_usage = Some(value.clone()),
                ParsedExtension::SubjectAlternativeName(names) => {
                    let value = names.general_names.clone();
                    self.alternative_names = Some(Marked { critical, value });
                }
                // Enforced by the path's validation.
                ParsedExtension::NameConstraints(_) => {}
                ParsedExtension::ParseError { .. } => {
                    return Err(CertificateError::Extension(extension.oid.to_id_string()));
                }
                _ if critical => return Err(CertificateError::UnknownCritical(extension.oid.to_id_string())),
                _ => {}
            }
        }
        Ok(())
    }
}

fn check_serial(serial: &[u8]) -> Result<(), CertificateError> {
    let negative = serial.first().is_some_and(|byte| byte & 0x80 != 0);
    let zero = serial.iter().all(|byte| *byte == 0);
    if negative || zero || serial.len() > 20 { Err(CertificateError::Serial) } else { Ok(()) }
}

fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), CertificateError> {
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let digits = rsa.modulus.iter().skip_while(|byte| **byte == 0).count();
            if digits * 8 > MAX_RSA_BITS { Err(CertificateError::RsaBits(digits * 8)) } else { Ok(()) }
        }
        Ok(_) => Ok(()),
        Err(_) => Err(CertificateError::Form),
    }
}
