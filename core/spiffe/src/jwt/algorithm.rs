//! The nine signature algorithms of JWT-SVIDs (RFC 7518 sections 3.3 to 3.5).

use aws_lc_rs::signature::{self as lc, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

use super::JwtError;
use crate::jwk::{Curve, Jwk};

/// A signature algorithm: hash, padding and, for ECDSA, the one curve it goes with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
}

/// How the two numbers of an ECDSA signature are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EcdsaForm {
    /// One after the other, each in the full size of the field, as JWS does (RFC 7518 section 3.4).
    Fixed,
    /// As a DER sequence, as X.509 does.
    Der,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
    ];

    /// The algorithm of this name, as `alg` writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
        }
    }

    /// Whether `key` may make such signatures: RSA of 2048 bits or more, or the algorithm's own curve.
    pub fn fits(self, key: &Jwk) -> bool {
        match key {
            Jwk::Ec { curve, .. } => self.curve() == Some(*curve),
            Jwk::Rsa { n, .. } => self.rsa().is_some() && Jwk::bits(n) >= MIN_RSA_BITS,
            Jwk::Ed25519 { .. } => false,
        }
    }

    /// Checks that `key` made `signature` over `message`.
    pub fn verify(
        self,
        key: &Jwk,
        form: EcdsaForm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), JwtError> {
        if !self.fits(key) {
            return Err(JwtError::NoKey);
        }
        let verified = match (key, self.rsa()) {
            (Jwk::Rsa { n, e }, Some(parameters)) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Jwk::Ec { curve, point }, None) => {
                UnparsedPublicKey::new(ecdsa(*curve, form), point).verify(message, signature)
            }
            _ => return Err(JwtError::NoKey),
        };
        verified.map_err(|_| JwtError::Signature)
    }

    fn curve(self) -> Option<Curve> {
        match self {
            Self::ES256 => Some(Curve::P256),
            Self::ES384 => Some(Curve::P384),
            Self::ES512 => Some(Curve::P521),
            _ => None,
        }
    }

    /// For PSS, the salt is as long as the hash (section 3.5).
    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::RS256 => Some(&lc::RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Some(&lc::RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Some(&lc::RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Some(&lc::RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Some(&lc::RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Some(&lc::RSA_PSS_2048_8192_SHA512),
            Self::ES256 | Self::ES384 | Self::ES512 => None,
        }
    }
}

fn ecdsa(curve: Curve, form: EcdsaForm) -> &'static lc::EcdsaVerificationAlgorithm {
    match (curve, form) {
        (Curve::P256, EcdsaForm::Fixed) => &lc::ECDSA_P256_SHA256_FIXED,
        (Curve::P384, EcdsaForm::Fixed) => &lc::ECDSA_P384_SHA384_FIXED,
        (Curve::P521, EcdsaForm::Fixed) => &lc::ECDSA_P521_SHA512_FIXED,
        (Curve::P256, EcdsaForm::Der) => &lc::ECDSA_P256_SHA256_ASN1,
        (Curve::P384, EcdsaForm::Der) => &lc::ECDSA_P384_SHA384_ASN1,
        (Curve::P521, EcdsaForm::Der) => &lc::ECDSA_P521_SHA512_ASN1,
    }
}

/// RFC 7518 sections 3.3 and 3.5.
const MIN_RSA_BITS: usize = 2048;
