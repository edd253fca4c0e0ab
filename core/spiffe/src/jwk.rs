//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 section 6): the kinds that SPIFFE bundles hold.

mod roca;

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519 as ED25519_SIGNATURE,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use x509_parser::{
    prelude::FromDer,
    public_key::{PublicKey, RSAPublicKey},
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

/// A public key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Jwk {
    /// An elliptic curve key (`kty` `EC`).
    Ec {
        /// The curve.
        curve: Curve,
        /// Its point, uncompressed: `0x04`, x, y.
        point: Vec<u8>,
    },
    /// An RSA key (`kty` `RSA`); both numbers big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
    },
    /// An Ed25519 key (`kty` `OKP`), which may stand in certificates but never behind a JWT-SVID.
    Ed25519 {
        /// The 32 bytes of the key.
        x: Vec<u8>,
    },
}

/// A NIST curve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Curve {
    /// P-256, for ES256.
    P256,
    /// P-384, for ES384.
    P384,
    /// P-521, for ES512.
    P521,
}

/// Why a JSON object does not give a usable key.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum JwkError {
    /// Of a type, curve or algorithm that is not used here: whoever reads a key set passes over it.
    Unknown,
    /// Of a known type, but its members contradict the standard.
    Malformed(&'static str),
}

impl Jwk {
    /// Reads the key members of a JWK; `use`, `kid` and the like are the caller's.
    pub(crate) fn parse(jwk: &Map<String, Value>) -> Result<Self, JwkError> {
        match text(jwk, "kty") {
            Some("EC") => {
                let curve = text(jwk, "crv").ok_or(JwkError::Malformed("crv is missing"))?;
                let curve = Curve::named(curve).ok_or(JwkError::Unknown)?;
                // RFC 7518 section 6.2.1.2: coordinates have the full size of the field.
                let [x, y] =
                    ["x", "y"].map(|name| bytes(jwk, name).filter(|c| c.len() == curve.field_bytes()));
                let (Some(x), Some(y)) = (x, y) else {
                    return Err(JwkError::Malformed("x or y is not a coordinate on its curve"));
                };
                Self::on_curve(curve, [&[4], x.as_slice(), &y].concat())
            }
            Some("RSA") => {
                let (Some(n), Some(e)) = (bytes(jwk, "n"), bytes(jwk, "e")) else {
                    return Err(JwkError::Malformed("n or e is not a number in base64url"));
                };
                // RFC 7518 section 2: a number has no more bytes than it needs.
                if [&n, &e].into_iter().any(|number| number.first() == Some(&0)) {
                    return Err(JwkError::Malformed("n or e begins with a zero byte"));
                }
                if roca::is_marked(&n) {
                    return Err(JwkError::Malformed(
                        "the RSA key was made by a broken generator (CVE-2017-15361)",
                    ));
                }
                Self::rsa(&n, &e)
            }
            _ => Err(JwkError::Unknown),
        }
    }

    /// The key in a SubjectPublicKeyInfo (DER); `None` where it is of a type that is not used here.
    pub fn from_public_key(spki: &[u8]) -> Option<Self> {
        let ([], info) = SubjectPublicKeyInfo::from_der(spki).ok()? else { return None };
        let key = Self::from_spki(&info).filter(|key| key.is_encoded_as(spki))?;
        // Neither parser looks at the tag of the NULL beside the name of RSA.
        let named = crate::x509::Key::parse(spki)?.algorithm;
        let rsa = matches!(key, Self::Rsa { .. });
        (!rsa || *named == *rustls_pki_types::alg_id::RSA_ENCRYPTION).then_some(key)
    }

    /// The key of a parsed SubjectPublicKeyInfo.
    pub(crate) fn from_spki(info: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let key = match info.parsed().ok()? {
            PublicKey::RSA(key) => Self::rsa(key.modulus, key.exponent).ok()?,
            PublicKey::EC(point) => {
                Self::on_curve(Curve::of(&info.algorithm)?, point.data().to_vec()).ok()?
            }
            PublicKey::Unknown(x) if info.algorithm.algorithm.to_id_string() == ED25519 => {
                Self::Ed25519 { x: x.to_vec() }
            }
            _ => return None,
        };
        Some(key)
    }

    /// The key in an RSAPublicKey (RFC 8017 appendix A.1.1, DER).
    pub(crate) fn from_rsa_key(der: &[u8]) -> Option<Self> {
        let ([], key) = RSAPublicKey::from_der(der).ok()? else { return None };
        Self::rsa(key.modulus, key.exponent).ok().filter(|key| key.is_encoded_as(der))
    }

    /// Whether a second parser takes `der` for a key of this kind too. The first one is lenient with
    /// tags and signs, which would give one key several encodings.
    fn is_encoded_as(&self, der: &[u8]) -> bool {
        match self {
            Self::Ec { curve, .. } => ParsedPublicKey::new(curve.ecdsa(), der).is_ok(),
            Self::Rsa { .. } => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).is_ok(),
            Self::Ed25519 { .. } => ParsedPublicKey::new(&ED25519_SIGNATURE, der).is_ok(),
        }
    }

    /// The key members of a JWK.
    pub(crate) fn members(&self) -> BTreeMap<&'static str, Value> {
        match self {
            Self::Ec { curve, point } => {
                let (x, y) = point[1..].split_at(curve.field_bytes());
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                [("kty", "EC".into()), ("crv", curve.name().into()), ("x", x.into()), ("y", y.into())].into()
            }
            Self::Rsa { n, e } => {
                let (n, e) = (URL_SAFE_NO_PAD.encode(n), URL_SAFE_NO_PAD.encode(e));
                [("kty", "RSA".into()), ("n", n.into()), ("e", e.into())].into()
            }
            Self::Ed25519 { x } => {
                [("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", URL_SAFE_NO_PAD.encode(x).into())]
                    .into()
            }
        }
    }

    /// The size of a big-endian number.
    pub(crate) fn bits(number: &[u8]) -> usize {
        number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
    }

    fn on_curve(curve: Curve, point: Vec<u8>) -> Result<Self, JwkError> {
        let right_size = point.len() == 1 + 2 * curve.field_bytes() && point[0] == 4;
        if !right_size || ParsedPublicKey::new(curve.ecdsa(), &point).is_err() {
            return Err(JwkError::Malformed("x and y are not a point on the curve"));
        }
        Ok(Self::Ec { curve, point })
    }

    fn rsa(n: &[u8], e: &[u8]) -> Result<Self, JwkError> {
        let [n, e] = [n, e].map(|number| {
            let leading = number.iter().take_while(|byte| **byte == 0).count();
            number[leading..].to_vec()
        });
        if [&n, &e].into_iter().any(|number| number.last().is_none_or(|last| last % 2 == 0)) || e == [1] {
            return Err(JwkError::Malformed("n or e is even, or e is 1"));
        }
        if n.len() > MAX_RSA_BYTES || e.len() > MAX_RSA_EXPONENT_BYTES {
            return Err(JwkError::Malformed("the RSA key has more than 4096 bits"));
        }
        Ok(Self::Rsa { n, e })
    }
}

impl Curve {
    /// The size of a coordinate, in bytes.
    pub fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Its name in `crv`.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    fn ecdsa(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.name() == name)
    }

    fn of(algorithm: &AlgorithmIdentifier<'_>) -> Option<Self> {
        match algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string().as_str() {
            "1.2.840.10045.3.1.7" => Some(Self::P256),
            "1.3.132.0.34" => Some(Self::P384),
            "1.3.132.0.35" => Some(Self::P521),
            _ => None,
        }
    }
}

/// A member that is a text.
pub(crate) fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(jwk, name)?).ok()
}

const ED25519: &str = "1.3.101.112";
const MAX_RSA_BYTES: usize = 512;
const MAX_RSA_EXPONENT_BYTES: usize = 8;
