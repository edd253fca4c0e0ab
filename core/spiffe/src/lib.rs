//! SPIFFE's own nouns: identifiers, selectors, bundles, X.509-SVIDs and the TLS verifiers built on them.
//!
//! Everything here is pure: bytes and `now` come in, values go out. Bytes from outside are bounded,
//! parsed once, and never panic. What a node or a registry makes of an identity is not decided here.

pub mod id;
pub mod selector;
pub mod time;

pub use id::{IdError, SpiffeId, TrustDomain};
pub use selector::{Selector, SelectorError};
pub use time::Timestamp;
