//! Reading the inputs of operations: absent, misspelt or undecodable members are reasons to reject.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use spiffe::Timestamp;

/// The members that an operation asks for; others are ignored.
pub(super) fn parse<'a, T: Deserialize<'a>>(input: &'a str) -> Result<T, String> {
    serde_json::from_str(input).map_err(|error| format!("the input does not fit the operation: {error}"))
}

/// Standard base64 with padding.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))
}

/// Standard base64 of a text. No identifier holds anything but UTF-8.
pub(super) fn text(text: &str) -> Result<String, String> {
    String::from_utf8(bytes(text)?).map_err(|_| "not UTF-8".to_owned())
}

/// Standard base64 of certificates.
pub(super) fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, String> {
    texts.iter().map(|text| Ok(CertificateDer::from(bytes(text)?))).collect()
}

/// An RFC 3339 time.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| format!("{text:?} is not an RFC 3339 time"))
}
