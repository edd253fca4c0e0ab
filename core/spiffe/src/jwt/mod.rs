//! JSON Web Signatures and the JWT-SVIDs written in them (RFC 7515, RFC 7518, RFC 7519, JWT-SVID standard).
//!
//! | file | question |
//! |---|---|
//! | `algorithm` | which signatures are there, and did this key make that one? |
//! | `compact` | is it a token at all, and what does its header say? |
//! | `key_set` | which keys of a JWK or JWK set may verify? |
//! | `sign` | how does an authority write a JWT-SVID? |
//! | `svid` | whom does a token name, as a JWT-SVID? |
//! | `typed` | which tokens of ours are no JWT-SVIDs, and how are they told apart? |
//! | `id_token` | what does a token of an OpenID Connect issuer say of a machine? |
//!
//! Encryption, secrets as keys, and keys that a token brings along have no place here: a token that
//! needs one of them is refused before anything is computed.

mod algorithm;
mod compact;
pub mod id_token;
mod key_set;
mod sign;
pub mod svid;
#[cfg(test)]
pub(crate) mod testing;
mod typed;

pub use algorithm::{Algorithm, EcdsaForm};
pub use compact::{Compact, MAX_TOKEN_BYTES};
pub use key_set::{KeySet, KeySetError, MAX_KEY_SET_BYTES};
pub use sign::{Claims, sign};
pub use typed::{Type, sign_typed, validate_typed};

/// Why a token is not a signature by the right key, or not a JWT-SVID that is valid now.
///
/// Nothing of the token is repeated: it may be a good one in the wrong place.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwtError {
    /// Longer than a token of its kind can be; for most, [`MAX_TOKEN_BYTES`].
    #[error("a token of {0} bytes is longer than any that is taken here")]
    Length(usize),
    /// Not three parts (RFC 7515 section 7.1); encrypted tokens have five.
    #[error("a signed token has three parts with two dots between them")]
    Parts,
    /// Section 2: without padding, line breaks or stray bits.
    #[error("the token's {0} is not in base64url")]
    Base64(&'static str),
    /// Not JSON, or with a member named twice (section 4).
    #[error("the token's {0} is not an unambiguous JSON object")]
    Json(&'static str),
    /// JWT-SVID section 2.1.
    #[error("the token's alg is not one of RS, PS or ES with 256, 384 or 512")]
    Algorithm,
    /// The header has something that is not allowed there.
    #[error("the token's header {0}")]
    Header(&'static str),
    /// No key of this name, or none that makes such signatures.
    #[error("no key is known that could have signed the token")]
    NoKey,
    /// It names no key, and more than 16 keys could have signed it.
    #[error("the token names no key, and too many could have signed it")]
    TooManyKeys,
    /// The signature is not the key's.
    #[error("the token's signature does not fit")]
    Signature,
    /// A claim is missing or malformed.
    #[error("the token's claim {0} {1}")]
    Claim(&'static str, &'static str),
    /// `sub` is not a SPIFFE ID.
    #[error("the token's subject is not a SPIFFE ID: {0}")]
    Subject(#[from] crate::IdError),
    /// No bundle of the subject's trust domain.
    #[error("no trust bundle of {0} is known here")]
    UnknownTrustDomain(crate::TrustDomain),
    /// None of the audiences asked for is in `aud`.
    #[error("the token is meant for another audience")]
    Audience,
    /// Past `exp`.
    #[error("the token expired at {0}")]
    Expired(crate::Timestamp),
    /// Before `nbf` or `iat`.
    #[error("the token begins at {0}")]
    TooEarly(crate::Timestamp),
}
