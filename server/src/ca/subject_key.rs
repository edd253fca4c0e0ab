//! Public keys that may go into a certificate.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};
use rcgen::{KeyUsagePurpose, PublicKeyData, SignatureAlgorithm};
use registry::objects::Sha256;
use x509_parser::{
    certification_request::X509CertificationRequest,
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
        Oid,
    },
    prelude::FromDer as _,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// The largest SubjectPublicKeyInfo looked at; RSA with 4,096 bits has 550 bytes.
const MAX_SPKI: usize = 1024;
/// The largest certificate request looked at.
const MAX_CSR: usize = 16 * 1024;
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key of an accepted kind and size that is what it says: a point on its curve, for example.
#[derive(Clone, Debug)]
pub(crate) struct SubjectKey {
    kind: Kind,
    bits: Vec<u8>,
    sha256: Sha256,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

/// A key or a request that cannot be certified.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum KeyRefused {
    #[error("the public key is not a SubjectPublicKeyInfo in DER")]
    Form,
    #[error(
        "the public key is of no accepted kind: ECDSA P-256 or P-384, RSA of 2048 to 4096 bits, or Ed25519"
    )]
    Kind,
    #[error("the certificate request is not a PKCS#10 request in DER")]
    Request,
    #[error("the certificate request is not signed by the key that it names")]
    Signature,
}

impl SubjectKey {
    /// Reads a SubjectPublicKeyInfo in DER.
    pub(crate) fn from_spki(der: &[u8]) -> Result<Self, KeyRefused> {
        if der.len() > MAX_SPKI {
            return Err(KeyRefused::Form);
        }
        match SubjectPublicKeyInfo::from_der(der) {
            Ok(([], spki)) => Self::new(&spki),
            _ => Err(KeyRefused::Form),
        }
    }

    /// Reads a PKCS#10 request in DER that is signed by its own key. Nothing else of it counts: who the
    /// subject is, the server says.
    pub(crate) fn from_csr(der: &[u8]) -> Result<Self, KeyRefused> {
        if der.len() > MAX_CSR {
            return Err(KeyRefused::Request);
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(KeyRefused::Request);
        };
        // INVARIANT: kind and size of the key are known to be bearable before it is computed with.
        let key = Self::new(&request.certification_request_info.subject_pki)?;
        request.verify_signature().map_err(|_| KeyRefused::Signature)?;
        Ok(key)
    }

    fn new(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyRefused> {
        let kind = kind(spki).ok_or(KeyRefused::Kind)?;
        let bits = spki.subject_public_key.data.to_vec();
        ParsedPublicKey::new(kind.verification(), bits.as_slice()).map_err(|_| KeyRefused::Kind)?;
        let mut key = Self { kind, bits, sha256: Sha256([0; 32]) };
        // Of the encoding that the certificate will have, which is what peers see.
        key.sha256 = Sha256::of(&key.subject_public_key_info());
        Ok(key)
    }

    /// The key as a SubjectPublicKeyInfo in DER.
    pub(crate) fn to_spki(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub(crate) fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// What the key may be used for in TLS (X509-SVID standard, section 4.3): which bits beyond
    /// digitalSignature make sense depends on the kind of key.
    pub(super) fn usages(&self) -> Vec<KeyUsagePurpose> {
        match self.kind {
            Kind::P256 | Kind::P384 => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement],
            Kind::Rsa => vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment],
            Kind::Ed25519 => vec![KeyUsagePurpose::DigitalSignature],
        }
    }
}

fn kind(spki: &SubjectPublicKeyInfo<'_>) -> Option<Kind> {
    let algorithm = &spki.algorithm.algorithm;
    let curve = || spki.algorithm.parameters.as_ref()?.as_oid().ok();
    let is = |oid: &Oid<'static>| algorithm == oid;
    if is(&OID_KEY_TYPE_EC_PUBLIC_KEY) {
        // Only the uncompressed form (4, x, y): what certificates carry.
        match (curve()?, spki.subject_public_key.data.as_ref()) {
            (curve, [4, point @ ..]) if curve == OID_EC_P256 && point.len() == 64 => Some(Kind::P256),
            (curve, [4, point @ ..]) if curve == OID_NIST_EC_P384 && point.len() == 96 => Some(Kind::P384),
            _ => None,
        }
    } else if is(&OID_PKCS1_RSAENCRYPTION) {
        match spki.parsed() {
            Ok(PublicKey::RSA(rsa)) if RSA_BITS.contains(&rsa.key_size()) => Some(Kind::Rsa),
            _ => None,
        }
    } else if is(&OID_SIG_ED25519) {
        Some(Kind::Ed25519)
    } else {
        None
    }
}

impl Kind {
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
            Self::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            Self::Ed25519 => &ED25519,
        }
    }
}

impl PublicKeyData for SubjectKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.kind {
            Kind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Kind::Rsa => &rcgen::PKCS_RSA_SHA256,
            Kind::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, RsaKeySize};

    use super::*;

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }

    #[test]
    fn keys_of_the_accepted_kinds_are_taken_from_requests_and_bare() {
        let mut keys: Vec<KeyPair> =
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
                .map(|algorithm| KeyPair::generate_for(algorithm).unwrap())
                .into();
        keys.push(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());
        for key in keys {
            let spki = key.subject_public_key_info();
            let bare = SubjectKey::from_spki(&spki).unwrap();
            assert_eq!(bare.sha256(), Sha256::of(&spki), "{:?}", bare.kind);
            assert_eq!(SubjectKey::from_csr(&request(&key)).unwrap().sha256(), bare.sha256());
        }
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut forged = request(&mine);
        let at = forged.windows(65).position(|window| window == mine.public_key_raw()).unwrap();
        forged[at..at + 65].copy_from_slice(other.public_key_raw());
        assert_eq!(SubjectKey::from_csr(&forged).unwrap_err(), KeyRefused::Signature);
    }

    #[test]
    fn what_is_no_point_on_the_curve_is_no_key() {
        let mut spki = KeyPair::generate().unwrap().subject_public_key_info();
        *spki.last_mut().unwrap() ^= 1;
        assert_eq!(SubjectKey::from_spki(&spki).unwrap_err(), KeyRefused::Kind);
    }

    #[test]
    fn rsa_keys_have_2048_to_4096_bits_bare_and_in_requests() {
        for (bits, accepted) in [(2048, true), (4096, true), (2040, false), (4104, false), (7680, false)] {
            let spki = rsa_spki(bits);
            assert!(spki.len() <= MAX_SPKI, "its size is not what it is refused for");
            assert_eq!(SubjectKey::from_spki(&spki).is_ok(), accepted, "{bits} bits");
            // Nobody has the private key. What is too big must not come to be verified at all.
            let refused = SubjectKey::from_csr(&rsa_request(&spki)).unwrap_err();
            let expected = if accepted { KeyRefused::Signature } else { KeyRefused::Kind };
            assert_eq!(refused, expected, "{bits} bits");
        }
    }

    /// An RSA key whose modulus is some odd number of so many bits.
    fn rsa_spki(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xa7; bits / 8];
        modulus.insert(0, 0);
        let key = der(0x30, &[der(0x02, &[modulus]), der(0x02, &[vec![1, 0, 1]])]);
        let rsa = der(0x30, &[RSA_ENCRYPTION.to_vec(), vec![5, 0]]);
        der(0x30, &[rsa, der(0x03, &[vec![0], key])])
    }

    /// A request for that key, signed by nobody.
    fn rsa_request(spki: &[u8]) -> Vec<u8> {
        let info = der(0x30, &[vec![2, 1, 0], der(0x30, &[]), spki.to_vec(), vec![0xa0, 0]]);
        let algorithm = der(0x30, &[SHA256_WITH_RSA.to_vec(), vec![5, 0]]);
        let bits = SubjectPublicKeyInfo::from_der(spki).unwrap().1.parsed().unwrap().key_size();
        der(0x30, &[info, algorithm, der(0x03, &[vec![0], vec![1; bits / 8]])])
    }

    const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    const SHA256_WITH_RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b";

    fn der(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let header: &[u8] = match length {
            [0, short @ 0..0x80] => &[tag, short],
            [0, long] => &[tag, 0x81, long],
            [high, low] => &[tag, 0x82, high, low],
        };
        [header, &content].concat()
    }

    #[test]
    fn foreign_bytes_are_refused_without_a_panic() {
        let good = KeyPair::generate().unwrap();
        let (spki, csr) = (good.subject_public_key_info(), request(&good));
        for cut in 0..spki.len() {
            assert!(SubjectKey::from_spki(&spki[..cut]).is_err());
        }
        for cut in 0..csr.len() {
            assert!(SubjectKey::from_csr(&csr[..cut]).is_err());
        }
        assert!(SubjectKey::from_spki(&[spki.as_slice(), &[0]].concat()).is_err(), "trailing bytes");
        assert_eq!(SubjectKey::from_spki(&vec![0x30; MAX_SPKI + 1]).unwrap_err(), KeyRefused::Form);
        assert_eq!(SubjectKey::from_csr(&vec![0x30; MAX_CSR + 1]).unwrap_err(), KeyRefused::Request);
        let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        assert_eq!(SubjectKey::from_spki(&p521.subject_public_key_info()).unwrap_err(), KeyRefused::Kind);
    }
}
