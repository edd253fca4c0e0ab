//! Signatures: did this key sign that certificate?

use x509_parser::asn1_rs::{Any, BitString, FromDer};

use super::Certificate;

/// A public key as signatures are verified with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Key<'a> {
    /// The contents of its AlgorithmIdentifier, as DER.
    pub(crate) algorithm: &'a [u8],
    /// The key itself.
    pub(crate) bits: &'a [u8],
}

impl<'a> Key<'a> {
    /// Takes a SubjectPublicKeyInfo apart.
    pub(crate) fn parse(spki: &'a [u8]) -> Option<Self> {
        let ([], info) = Any::from_der(spki).ok()? else { return None };
        let (after_algorithm, algorithm) = Any::from_der(info.data).ok()?;
        let ([], key) = BitString::from_der(after_algorithm).ok()? else { return None };
        // The first byte of a BIT STRING's contents counts unused bits; no key here has any.
        let (_, raw) = Any::from_der(after_algorithm).ok()?;
        let bits = raw.data.get(1..).filter(|_| key.unused_bits == 0)?;
        Some(Self { algorithm: algorithm.data, bits })
    }

    /// Whether this key signed `certificate`, with one of the algorithms that rustls verifies.
    pub(super) fn signed(&self, certificate: &Certificate<'_>) -> bool {
        let (message, algorithm, signature) = certificate.signed();
        webpki::ALL_VERIFICATION_ALGS
            .iter()
            .filter(|known| {
                *known.signature_alg_id() == *algorithm && *known.public_key_alg_id() == *self.algorithm
            })
            .any(|known| known.verify_signature(self.bits, message, signature).is_ok())
    }

    /// Whether signatures of this kind of key are verified here at all.
    pub(super) fn is_supported(&self) -> bool {
        webpki::ALL_VERIFICATION_ALGS.iter().any(|known| *known.public_key_alg_id() == *self.algorithm)
    }
}
