//! X.509: certificates as this product accepts them, paths of them, and X509-SVIDs.
//!
//! | file | question |
//! |---|---|
//! | `certificate` | is it a well-formed certificate, and what does it say? |
//! | `profile` | may it stand where it stands in a path? |
//! | `constraints` | which names may an authority vouch for? |
//! | `signature` | did this key sign that certificate? |
//! | `anchor` | which authorities of a bundle can be used at all? |
//! | `path` | does a path lead from a leaf to an authority? |
//! | `svid` | whom does a chain name, as an X509-SVID? |
//! | `authorities` | who vouches for a machine's certificate, of whatever infrastructure it is? |
//! | `twin` | how else can the same certificate be written? |
//!
//! The path search is this project's own, not webpki's, for three reasons: webpki refuses every URI
//! and directory name constraint, so an SVID under a constrained authority would never verify; it
//! counts self-issued certificates against path lengths; and it checks signatures only once a path
//! is complete, which a sender can stretch to 100 ms. webpki still verifies each signature, and has
//! to agree that each certificate is one: where two parsers differ, forgeries hide.

mod anchor;
pub mod authorities;
mod certificate;
mod constraints;
pub mod path;
pub(crate) mod profile;
mod signature;
pub mod svid;
mod twin;

pub(crate) use anchor::Anchor;
pub use authorities::Authorities;
pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE_BYTES};
pub use profile::MAX_RSA_BITS;
pub(crate) use signature::Key;
