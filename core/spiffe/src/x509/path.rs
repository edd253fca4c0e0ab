//! Path validation (RFC 5280 section 6): does a chain lead from a certificate to a trusted authority?
//!
//! webpki finds and checks the path. It leaves to its callers what [`Certificate`] and [`Anchor`]
//! check before it: authorities that have expired, are no authorities, or hold critical extensions
//! that nobody here understands; keys and serial numbers out of bounds.
//!
//! URI name constraints are refused where a path has them: webpki does not match them, and
//! X509-SVID section 4.2 lets a validator refuse what it does not support.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use super::{Anchor, Certificate, CertificateError};
use crate::Timestamp;

/// The longest chain accepted, leaf included: a longer one costs its verifier more than its sender.
pub const MAX_CHAIN: usize = 8;

/// Why a chain leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// No certificate at all.
    #[error("there is no certificate")]
    Empty,
    /// More certificates than [`MAX_CHAIN`].
    #[error("a chain of {0} certificates is longer than {MAX_CHAIN}")]
    TooLong(usize),
    /// A certificate that breaks a rule on its own.
    #[error("certificate {index} of the chain: {reason}")]
    Certificate {
        /// Its place, the leaf being 0.
        index: usize,
        /// The rule.
        reason: CertificateError,
    },
    /// No path to an authority that is trusted now.
    #[error("no valid path to a trusted authority: {0}")]
    NoPath(String),
}

/// The leaf of a verified path.
pub(crate) fn verify<'a>(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    anchors: impl Iterator<Item = &'a Anchor>,
    usage: impl ExtendedKeyUsageValidator,
    now: Timestamp,
) -> Result<(), PathError> {
    for (n, der) in intermediates.iter().enumerate() {
        let checked = Certificate::parse(der).and_then(|certificate| certificate.check_issuer());
        checked.map_err(|reason| PathError::Certificate { index: n + 1, reason })?;
    }
    let anchors: Vec<_> = anchors
        .filter(|anchor| anchor.not_before <= now && now <= anchor.not_after)
        .map(|anchor| anchor.trust.clone())
        .collect();
    let seconds = u64::try_from(now.unix_seconds()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let no_path = |error: webpki::Error| PathError::NoPath(error.to_string());
    EndEntityCert::try_from(leaf)
        .map_err(no_path)?
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, now, usage, None, None)
        .map_err(no_path)?;
    Ok(())
}

/// Demands nothing of extended key usages: for callers that look at them themselves.
pub(crate) struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}
