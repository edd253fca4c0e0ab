//! X.509: certificates as this product accepts them, paths of them, and X509-SVIDs.

mod anchor;
mod certificate;
pub mod path;
pub mod svid;

pub(crate) use anchor::Anchor;
pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE_BYTES, MAX_RSA_BITS};
