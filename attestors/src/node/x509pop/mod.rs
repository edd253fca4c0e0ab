//! `x509pop`: a node shows a certificate and proves that it has its key.
//!
//! The certificate is of a public key infrastructure outside (`external_pki`), or an X509-SVID of this
//! or another trust domain (`spiffe`).

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "server")]
pub mod server;
#[cfg(test)]
mod tests;
mod wire;

/// The name in SPIRE's protocol, in IDs and in selectors.
pub const NAME: &str = "x509pop";
