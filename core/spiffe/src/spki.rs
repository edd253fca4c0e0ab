//! Public keys as SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), written; they are read in [`crate::jwk`].

use crate::jwk::{Curve, Jwk};

impl Jwk {
    /// The key as a SubjectPublicKeyInfo (DER).
    pub fn to_public_key(&self) -> Vec<u8> {
        let (algorithm, key): (&[u8], Vec<u8>) = match self {
            Self::Ec { curve, point } => (ec_algorithm(*curve), point.clone()),
            Self::Rsa { n, e } => (RSA, tagged(SEQUENCE, &[integer(n), integer(e)].concat())),
            Self::Ed25519 { x } => (ED25519, x.clone()),
        };
        let no_unused_bits = [&[0], key.as_slice()].concat();
        tagged(SEQUENCE, &[algorithm, &tagged(BIT_STRING, &no_unused_bits)].concat())
    }
}

const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const SEQUENCE: u8 = 0x30;

/// rsaEncryption with NULL (RFC 8017, appendix C).
const RSA: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0];
/// id-Ed25519 without parameters (RFC 8410, section 3).
const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];

/// id-ecPublicKey with the curve's name (RFC 5480, section 2.1.1).
fn ec_algorithm(curve: Curve) -> &'static [u8] {
    match curve {
        Curve::P256 => {
            &[0x30, 19, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]
        }
        Curve::P384 => &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 34],
        Curve::P521 => &[0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 35],
    }
}

/// A number without a sign, big-endian without leading zeros.
pub(crate) fn integer(number: &[u8]) -> Vec<u8> {
    let negative = number.first().is_none_or(|first| first & 0x80 != 0);
    let zero: &[u8] = if negative { &[0] } else { &[] };
    tagged(INTEGER, &[zero, number].concat())
}

pub(crate) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut der = vec![tag];
    match length.as_slice() {
        [] => der.push(0),
        [short] if *short < 0x80 => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).expect("a length has at most eight bytes"));
            der.extend(long);
        }
    }
    der.extend(content);
    der
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};

    use super::*;

    #[test]
    fn a_key_is_written_as_it_was_read() {
        let mut keys: Vec<KeyPair> = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
        ]
        .map(|algorithm| KeyPair::generate_for(algorithm).unwrap())
        .into();
        keys.extend(
            [RsaKeySize::_2048, RsaKeySize::_4096]
                .map(|size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).unwrap()),
        );
        for key in keys {
            let der = key.subject_public_key_info();
            assert_eq!(Jwk::from_public_key(&der).unwrap().to_public_key(), der, "{:?}", key.algorithm());
        }
    }
}
