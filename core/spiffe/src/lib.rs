//! SPIFFE's own nouns: identifiers, selectors, bundles, X.509- and JWT-SVIDs, and the TLS verifiers built on them.
//!
//! Everything here is pure: bytes and `now` come in, values go out. Bytes from outside are bounded,
//! parsed once, and never panic. What a node or a registry makes of an identity is not decided here.

pub mod audience;
pub mod bundle;
pub mod fresh;
#[cfg(test)]
mod fuzz;
pub mod id;
pub mod json;
pub mod jwk;
pub mod jwt;
pub mod key;
pub mod pin;
pub mod returning;
pub mod selector;
mod spki;
#[cfg(test)]
mod test_pki;
pub mod time;
pub mod tls;
pub mod x509;

pub use audience::{AudienceError, Audiences};
pub use bundle::{Bundle, BundleError, Bundles, JwtAuthority};
pub use id::{IdError, SpiffeId, TrustDomain};
pub use jwk::Jwk;
pub use key::{KeyError, PrivateKey};
pub use pin::{Pin, PinError, PinKey, SignedBundle};
pub use selector::{Selector, SelectorError};
pub use time::Timestamp;
