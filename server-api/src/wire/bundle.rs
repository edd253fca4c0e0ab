//! The pin-signed bundle.

use proto::writ::node::v1 as node;
use spiffe::SignedBundle;

use super::{WireError, id};

/// A bundle document beyond this is refused before it is looked into: hundreds of authorities fit.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// A P-256 public key or signature has about a hundred bytes.
const MAX_KEY_OR_SIGNATURE: usize = 1024;

/// Takes a signed bundle from the wire. It means nothing before [`SignedBundle::verify`].
pub fn from_wire(bundle: node::SignedBundle) -> Result<SignedBundle, WireError> {
    let bounded = bundle.document.len() <= MAX_DOCUMENT
        && bundle.pin_public_key.len() <= MAX_KEY_OR_SIGNATURE
        && bundle.signature.len() <= MAX_KEY_OR_SIGNATURE;
    if !bounded {
        return Err(WireError::field("bundle", "it is larger than any real one"));
    }
    Ok(SignedBundle {
        trust_domain: id::trust_domain("trust_domain", &bundle.trust_domain)?,
        document: bundle.document.into(),
        pin_public_key: bundle.pin_public_key.into(),
        signature: bundle.signature.into(),
    })
}

/// Puts a signed bundle on the wire.
pub fn to_wire(bundle: &SignedBundle) -> node::SignedBundle {
    node::SignedBundle {
        document: bundle.document.clone().into(),
        pin_public_key: bundle.pin_public_key.clone().into(),
        signature: bundle.signature.clone().into(),
        trust_domain: bundle.trust_domain.as_str().to_owned(),
    }
}
