//! One certificate: bounded, parsed once, and asked by everyone after.

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::{
    asn1_rs::{Any, FromDer},
    certificate::X509Certificate,
    extensions::{BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension, X509Extension},
    x509::{SubjectPublicKeyInfo, X509Name, X509Version},
};

use super::{constraints::Constraints, signature::Key};
use crate::Timestamp;

/// The longest certificate accepted, in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;
/// The most extensions accepted; real certificates have about ten.
const MAX_EXTENSIONS: usize = 64;

/// A well-formed certificate. Whether it may be used for anything is the `profile`'s question.
#[derive(Debug)]
pub struct Certificate<'a> {
    x509: X509Certificate<'a>,
    /// The contents of `signatureAlgorithm`, as DER.
    algorithm: &'a [u8],
    key: Key<'a>,
    pub(super) basic_constraints: Option<Marked<BasicConstraints>>,
    pub(super) key_usage: Option<Marked<KeyUsage>>,
    pub(super) extended_key_usage: Option<ExtendedKeyUsage<'a>>,
    pub(super) alternative_names: Option<Marked<Vec<GeneralName<'a>>>>,
    pub(super) name_constraints: Option<Marked<Constraints>>,
    pub(super) subject_key_id: Option<&'a [u8]>,
    pub(super) authority_key_id: Option<&'a [u8]>,
    /// Whether it has policy constraints, which are not processed here, and are not marked critical.
    pub(super) has_policy_constraints: bool,
    /// The first critical extension that is not understood here.
    pub(super) unknown_critical: Option<String>,
}

/// The value of an extension, and whether it is marked critical.
#[derive(Clone, Debug)]
pub(super) struct Marked<T> {
    pub(super) critical: bool,
    pub(super) value: T,
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
    /// Signed with another algorithm than it says inside (RFC 5280 section 4.1.1.2).
    #[error("it names two different signature algorithms")]
    TwoAlgorithms,
    /// More than `MAX_EXTENSIONS`.
    #[error("it has {0} extensions; at most {MAX_EXTENSIONS} are accepted")]
    Extensions(usize),
    /// An extension is there twice (section 4.2).
    #[error("it has the extension {0} twice")]
    RepeatedExtension(String),
    /// An extension that is understood here is malformed.
    #[error("its extension {0} is malformed")]
    Extension(String),
    /// It breaks a rule of its place in a path.
    #[error("{0}")]
    Rule(&'static str),
    /// A critical extension that is not understood here (section 4.2).
    #[error("its critical extension {0} is unknown")]
    UnknownCritical(String),
}

impl<'a> Certificate<'a> {
    /// Parses DER from anywhere.
    pub fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::Length(der.len()));
        }
        let (rest, x509) = X509Certificate::from_der(der).map_err(|_| CertificateError::Form)?;
        if !rest.is_empty() || x509.signature_value.unused_bits != 0 {
            return Err(CertificateError::Form);
        }
        if x509.signature_algorithm != x509.tbs_certificate.signature {
            return Err(CertificateError::TwoAlgorithms);
        }
        let mut certificate = Self {
            algorithm: signature_algorithm(der).ok_or(CertificateError::Form)?,
            key: Key::parse(x509.tbs_certificate.subject_pki.raw).ok_or(CertificateError::Form)?,
            x509,
            basic_constraints: None,
            key_usage: None,
            extended_key_usage: None,
            alternative_names: None,
            name_constraints: None,
            subject_key_id: None,
            authority_key_id: None,
            has_policy_constraints: false,
            unknown_critical: None,
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

    /// What its key is called in what that signs, in hexadecimal digits.
    pub fn subject_key_id_hex(&self) -> Option<String> {
        self.subject_key_id.map(hex::encode)
    }

    /// The key identifier of whoever signed it, if it says so.
    pub fn authority_key_id(&self) -> Option<&'a [u8]> {
        self.authority_key_id
    }

    /// Whether it is a certificate authority's.
    pub fn is_authority(&self) -> bool {
        self.basic_constraints.as_ref().is_some_and(|constraints| constraints.value.ca)
    }

    /// The URIs among the subject's alternative names.
    pub fn uris(&self) -> impl Iterator<Item = &'a str> {
        self.names().iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
    }

    /// The common name of its subject, where that has one and no more.
    pub fn common_name(&self) -> Option<&str> {
        let mut names = self.subject().iter_common_name();
        let name = names.next().filter(|_| names.next().is_none())?;
        name.as_str().ok().filter(|name| !name.is_empty())
    }

    /// Whether its key is meant for signatures (RFC 5280 section 4.2.1.3).
    pub fn is_for_signatures(&self) -> bool {
        self.key_usage.as_ref().is_some_and(|usage| usage.value.digital_signature())
    }

    pub(super) fn names(&self) -> &[GeneralName<'a>] {
        self.alternative_names.as_ref().map_or(&[], |names| &names.value)
    }

    pub(super) fn version(&self) -> X509Version {
        self.x509.version()
    }

    pub(super) fn serial(&self) -> &'a [u8] {
        self.x509.raw_serial()
    }

    pub(super) fn subject(&self) -> &X509Name<'a> {
        &self.x509.tbs_certificate.subject
    }

    pub(super) fn issuer(&self) -> &X509Name<'a> {
        &self.x509.tbs_certificate.issuer
    }

    /// RFC 5280 section 6.1: issuer and subject are the same name, as when an authority changes its key.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject().as_raw() == self.issuer().as_raw()
    }

    pub(super) fn key(&self) -> Key<'a> {
        self.key
    }

    /// The signed part, the algorithm and the signature.
    pub(super) fn signed(&self) -> (&[u8], &'a [u8], &[u8]) {
        (self.x509.tbs_certificate.as_ref(), self.algorithm, &self.x509.signature_value.data)
    }

    fn take_extensions(&mut self) -> Result<(), CertificateError> {
        // Cloned because an extension's parsed value is borrowed from the certificate that changes here.
        let extensions: Vec<X509Extension<'a>> = self.x509.extensions().to_vec();
        if extensions.len() > MAX_EXTENSIONS {
            return Err(CertificateError::Extensions(extensions.len()));
        }
        for (n, extension) in extensions.iter().enumerate() {
            if extensions[..n].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(CertificateError::RepeatedExtension(extension.oid.to_id_string()));
            }
            self.take_extension(extension)?;
        }
        Ok(())
    }

    fn take_extension(&mut self, extension: &X509Extension<'a>) -> Result<(), CertificateError> {
        let malformed = || CertificateError::Extension(extension.oid.to_id_string());
        let critical = extension.critical;
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(value) => {
                self.basic_constraints = Some(Marked { critical, value: value.clone() });
            }
            ParsedExtension::KeyUsage(value) => self.key_usage = Some(Marked { critical, value: *value }),
            ParsedExtension::ExtendedKeyUsage(value) => {
                let kinds =
                    [value.server_auth, value.client_auth, value.code_signing, value.email_protection];
                let others = [value.any, value.time_stamping, value.ocsp_signing, !value.other.is_empty()];
                if !kinds.into_iter().chain(others).any(|is_there| is_there) {
                    return Err(malformed()); // section 4.2.1.12: at least one
                }
                self.extended_key_usage = Some(value.clone());
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                if !names.general_names.iter().all(is_well_formed) {
                    return Err(malformed());
                }
                self.alternative_names = Some(Marked { critical, value: names.general_names.clone() });
            }
            ParsedExtension::NameConstraints(_) => {
                let value = Constraints::parse(extension.value).ok_or_else(malformed)?;
                self.name_constraints = Some(Marked { critical, value });
            }
            ParsedExtension::SubjectKeyIdentifier(id) if !critical => self.subject_key_id = Some(id.0),
            ParsedExtension::AuthorityKeyIdentifier(id) if !critical => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| id.0);
            }
            // Whoever demands no policy, as everyone here, has processed this one by accepting it.
            ParsedExtension::CertificatePolicies(_) => {}
            ParsedExtension::ParseError { .. } => return Err(malformed()),
            ParsedExtension::PolicyConstraints(_) if !critical => self.has_policy_constraints = true,
            _ if critical => {
                self.unknown_critical.get_or_insert_with(|| extension.oid.to_id_string());
            }
            _ => {}
        }
        Ok(())
    }
}

/// The parser takes some names as they come; of those, the ones that DER writes as sequences must be sequences.
fn is_well_formed(name: &GeneralName<'_>) -> bool {
    match name {
        GeneralName::X400Address(name) | GeneralName::EDIPartyName(name) => name.header.is_constructed(),
        GeneralName::Invalid(..) => false,
        _ => true,
    }
}

/// Parses certificates in their order, the first being number `first`.
pub(super) fn parse_all<'a>(
    ders: &'a [CertificateDer<'_>],
    first: usize,
) -> Result<Vec<Certificate<'a>>, (usize, CertificateError)> {
    let parse = |(n, der): (usize, &'a CertificateDer<'_>)| {
        Certificate::parse(der).map_err(|reason| (first + n, reason))
    };
    ders.iter().enumerate().map(parse).collect()
}

/// The contents of the second of a certificate's three parts.
fn signature_algorithm(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate) = Any::from_der(der).ok()?;
    let (after_signed, _) = Any::from_der(certificate.data).ok()?;
    let (_, algorithm) = Any::from_der(after_signed).ok()?;
    Some(algorithm.data)
}
