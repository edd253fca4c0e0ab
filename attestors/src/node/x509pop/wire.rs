//! What the two halves say, as SPIRE writes it, and what is signed: both nonces, one after the other,
//! under SHA-256.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The length of either nonce.
pub(super) const NONCE: usize = 32;

/// The first word of the node.
#[derive(Deserialize, Serialize)]
pub(super) struct Payload {
    /// DER, leaf first.
    pub(super) certificates: Vec<Bytes>,
}

/// The server's challenge: one of the two, whichever goes with the certificate's key.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Challenge {
    #[serde(default)]
    pub(super) rsa_signature: Option<Nonce>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<Nonce>,
}

/// The server's nonce.
#[derive(Deserialize, Serialize)]
pub(super) struct Nonce {
    pub(super) nonce: Bytes,
}

/// The node's answer.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Response {
    #[serde(default)]
    pub(super) rsa_signature: Option<RsaSignature>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<EcdsaSignature>,
}

/// RSA-PSS, with a salt as long as the hash or as long as fits.
#[derive(Deserialize, Serialize)]
pub(super) struct RsaSignature {
    pub(super) nonce: Bytes,
    pub(super) signature: Bytes,
}

/// The two numbers, big-endian.
#[derive(Deserialize, Serialize)]
pub(super) struct EcdsaSignature {
    pub(super) nonce: Bytes,
    pub(super) r: Bytes,
    pub(super) s: Bytes,
}

/// Bytes, in base64 with padding.
pub(super) struct Bytes(pub(super) Vec<u8>);

/// What is signed.
pub(super) fn message(challenge: &[u8], response: &[u8]) -> Vec<u8> {
    [challenge, response].concat()
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Null is what Go writes for no bytes.
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}
