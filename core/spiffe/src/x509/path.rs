//! Path validation (RFC 5280 section 6): does a chain lead from a leaf to a trusted authority?
//!
//! The search goes from the leaf upwards and checks each step completely, its signature last, before
//! it takes the next: a step that fails is never tried again, and no chain costs more than
//! `MAX_SIGNATURES` signatures.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ExtendedKeyUsage;

use super::{
    Anchor, Certificate, CertificateError,
    anchor::{Authority, Validity},
    certificate::parse_all,
    constraints::Budget,
    profile::Profile,
};
use crate::Timestamp;

/// The most certificates in a path, leaf included and anchor not: RFC 5280 sets no bound, so we do.
pub const MAX_CHAIN: usize = 8;
/// The most bytes that a peer's whole chain may have, so that reading it costs no more than verifying it.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;
/// The most certificates among which a path is sought.
pub const MAX_POOL: usize = 64;
/// The most signatures that are verified for one leaf: a longest path, and as many wrong tries.
const MAX_SIGNATURES: usize = 2 * MAX_CHAIN;
/// The most steps that are tried for one leaf.
const MAX_STEPS: usize = 4096;
/// The most comparisons of names with name constraints for one leaf.
const MAX_COMPARISONS: Budget = 10_000;

/// Why a chain leads nowhere.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// No certificate at all.
    #[error("there is no certificate")]
    Empty,
    /// More certificates than are looked at.
    #[error("{0} certificates are more than {1}")]
    TooMany(usize, usize),
    /// More bytes than are looked at.
    #[error("a chain of {0} bytes is longer than {MAX_CHAIN_BYTES}")]
    TooLong(usize),
    /// A certificate that breaks a rule on its own; the leaf is number 0.
    #[error("certificate {0} of the chain: {1}")]
    Certificate(usize, CertificateError),
    /// No authority is trusted, or none that can be used; then why the first cannot.
    #[error("no authority is trusted here{}", .0.as_ref().map(|reason| format!(": of the first, {reason}")).unwrap_or_default())]
    NoAuthority(Option<CertificateError>),
    /// No path to an authority.
    #[error("no path leads to a trusted authority: {0}")]
    NoPath(Obstacle),
}

/// What stands in the way of a path. Of several, the one nearest to an authority.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Obstacle {
    /// Nobody here has the issuer's name.
    #[error("nobody with the issuer's name is known")]
    UnknownIssuer,
    /// Whoever has the issuer's name did not sign.
    #[error("a signature is not the issuer's")]
    Signature,
    /// An issuer breaks a rule of its place.
    #[error("of an issuer: {0}")]
    Issuer(CertificateError),
    /// A certificate is not valid at this time.
    #[error("a certificate has expired or is not valid yet")]
    Validity,
    /// More certificates follow an authority than it allows.
    #[error("an authority allows fewer certificates below it")]
    PathLength,
    /// A name lies outside of what an authority may vouch for.
    #[error("a name is outside an authority's name constraints")]
    NameConstraints,
    /// A certificate is not for this purpose.
    #[error("a certificate's extended key usage does not allow the purpose")]
    Purpose,
    /// The path, or the search for it, is longer than allowed.
    #[error("the path is too long, or there are too many to try")]
    Effort,
}

/// What a path must serve.
#[derive(Clone, Debug)]
pub struct Demands {
    /// When it must be valid.
    pub now: Timestamp,
    /// What every certificate below the authority must allow, where it limits its purposes at all.
    pub purposes: Vec<Purpose>,
    /// How many certificates may stand between leaf and authority, self-issued ones not counted.
    pub max_intermediates: Option<usize>,
}

/// An extended key usage (RFC 5280 section 4.2.1.12).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Anything.
    Any,
    /// TLS servers.
    ServerAuth,
    /// TLS clients.
    ClientAuth,
    /// Signing code.
    CodeSigning,
    /// Mail.
    EmailProtection,
    /// Time stamps.
    TimeStamping,
    /// OCSP responses.
    OcspSigning,
}

/// Validates a path by RFC 5280, with the profile of section 4 in full. `pool` is searched in any
/// order; names are not compared with anything, and a CA as leaf is refused.
pub fn validate(
    leaf: &CertificateDer<'_>,
    pool: &[CertificateDer<'_>],
    trusted: &[CertificateDer<'_>],
    demands: &Demands,
) -> Result<(), PathError> {
    let certificate = Certificate::parse(leaf).map_err(|reason| PathError::Certificate(0, reason))?;
    let anchors = anchors(Profile::Rfc5280, trusted)?;
    find(Profile::Rfc5280, leaf, &certificate, pool, &anchors, demands).map(drop)
}

/// Makes authorities ready, passing over those that cannot be used as long as one can.
pub(crate) fn anchors(profile: Profile, trusted: &[CertificateDer<'_>]) -> Result<Arc<[Anchor]>, PathError> {
    let (usable, unusable): (Vec<_>, Vec<_>) =
        trusted.iter().map(|der| Anchor::new(der, profile)).partition(Result::is_ok);
    if usable.is_empty() {
        return Err(PathError::NoAuthority(unusable.into_iter().find_map(Result::err)));
    }
    Ok(usable.into_iter().flatten().collect())
}

/// A path that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The places in the pool of the certificates between leaf and authority, nearest to the leaf first.
    pub(crate) intermediates: Vec<usize>,
    /// The place of the authority.
    pub(crate) anchor: usize,
}

/// Finds a path from `leaf` through `pool` to one of `anchors`.
pub(crate) fn find(
    profile: Profile,
    leaf_der: &CertificateDer<'_>,
    leaf: &Certificate<'_>,
    pool: &[CertificateDer<'_>],
    anchors: &[Anchor],
    demands: &Demands,
) -> Result<Found, PathError> {
    if pool.len() > MAX_POOL {
        return Err(PathError::TooMany(pool.len(), MAX_POOL));
    }
    profile.check_leaf(leaf).map_err(|reason| PathError::Certificate(0, reason))?;
    check_with_second_parser(leaf_der).map_err(|reason| PathError::Certificate(0, reason))?;
    let now = demands.now.unix_seconds();
    if !Validity::of(leaf).holds(now) {
        return Err(PathError::NoPath(Obstacle::Validity));
    }
    if !allows(leaf.extended_key_usage.as_ref(), &demands.purposes) {
        return Err(PathError::NoPath(Obstacle::Purpose));
    }
    let parsed = parse_all(pool, 1).map_err(|(index, reason)| PathError::Certificate(index, reason))?;
    let checks = parsed.iter().zip(pool).map(|(certificate, der)| {
        profile.check_intermediate(certificate).and_then(|()| check_with_second_parser(der))
    });
    let mut search = Search {
        leaf,
        checks: checks.collect(),
        pool: &parsed,
        anchors,
        demands,
        now,
        signed: vec![None; (parsed.len() + 1) * (parsed.len() + anchors.len())],
        signatures: MAX_SIGNATURES,
        steps: MAX_STEPS,
        comparisons: MAX_COMPARISONS,
        path: Vec::with_capacity(MAX_CHAIN),
        obstacle: (0, Obstacle::UnknownIssuer),
    };
    match search.reaches_anchor() {
        Some(anchor) => Ok(Found { intermediates: search.path, anchor }),
        None => Err(PathError::NoPath(search.obstacle.1)),
    }
}

struct Search<'s> {
    leaf: &'s Certificate<'s>,
    pool: &'s [Certificate<'s>],
    /// Of each in the pool, whether it may stand between leaf and anchor at all.
    checks: Vec<Result<(), CertificateError>>,
    anchors: &'s [Anchor],
    demands: &'s Demands,
    now: i64,
    /// For each child (leaf first, then pool) and issuer (pool, then anchors): whether it signed.
    signed: Vec<Option<bool>>,
    signatures: usize,
    steps: usize,
    comparisons: Budget,
    /// The intermediates above the leaf so far, by their place in the pool.
    path: Vec<usize>,
    /// The most advanced obstacle met, and how far from the leaf that was.
    obstacle: (usize, Obstacle),
}

impl Search<'_> {
    /// Tries every authority as issuer of the path's last certificate, then every intermediate.
    fn reaches_anchor(&mut self) -> Option<usize> {
        let anchors = self.anchors;
        let candidates = self.in_order(anchors.iter().map(Anchor::authority));
        if let Some((n, _)) = candidates.iter().find(|(n, anchor)| self.issued(self.pool.len() + n, anchor)) {
            return Some(*n);
        }
        if self.path.len() + 1 >= MAX_CHAIN {
            self.note(Obstacle::Effort);
            return None;
        }
        let pool = self.pool;
        for (n, issuer) in self.in_order(pool.iter().map(Authority::of)) {
            if self.repeats(&issuer) || !self.may_continue(n) || !self.issued(n, &issuer) {
                continue;
            }
            self.path.push(n);
            if let Some(anchor) = self.reaches_anchor() {
                return Some(anchor);
            }
            self.path.pop();
        }
        None
    }

    /// Those who have the name of the last certificate's issuer; first whose key it asks for.
    fn in_order<'a>(&self, authorities: impl Iterator<Item = Authority<'a>>) -> Vec<(usize, Authority<'a>)> {
        let last = self.last();
        let named = |(_, authority): &(usize, Authority<'_>)| authority.subject == last.issuer().as_raw();
        let mut named: Vec<_> = authorities.enumerate().filter(named).collect();
        named.sort_by_key(|(_, authority)| {
            last.authority_key_id.is_none() || authority.key_id != last.authority_key_id
        });
        named
    }

    /// Whether the pool's certificate `n` may be the path's next: every rule but those that [`Self::issued`] checks.
    fn may_continue(&mut self, n: usize) -> bool {
        let certificate = &self.pool[n];
        let obstacle = match &self.checks[n] {
            Err(reason) => Obstacle::Issuer(reason.clone()),
            Ok(()) if !allows(certificate.extended_key_usage.as_ref(), &self.demands.purposes) => {
                Obstacle::Purpose
            }
            Ok(()) if self.is_too_deep(certificate) => Obstacle::Effort,
            Ok(()) => return true,
        };
        self.note(obstacle);
        false
    }

    /// Whether `authority`, the issuer with this number, issued the path's last certificate and may
    /// vouch for all of the path.
    fn issued(&mut self, number: usize, authority: &Authority<'_>) -> bool {
        let Some(left) = self.steps.checked_sub(1) else {
            self.note(Obstacle::Effort);
            return false;
        };
        self.steps = left;
        let obstacle = if !authority.validity.holds(self.now) {
            Obstacle::Validity
        } else if authority.path_len.is_some_and(|most| self.intermediates() > most as usize) {
            Obstacle::PathLength
        } else if !self.names_are_allowed(authority) {
            Obstacle::NameConstraints
        } else if !self.is_signed(number, authority) {
            if self.signatures == 0 { Obstacle::Effort } else { Obstacle::Signature }
        } else {
            return true;
        };
        self.note(obstacle);
        false
    }

    fn is_signed(&mut self, number: usize, authority: &Authority<'_>) -> bool {
        let child = self.path.last().map_or(0, |n| n + 1);
        let place = child * (self.pool.len() + self.anchors.len()) + number;
        if let Some(known) = self.signed[place] {
            return known;
        }
        let Some(left) = self.signatures.checked_sub(1) else { return false };
        self.signatures = left;
        let signed = authority.key.signed(self.last());
        self.signed[place] = Some(signed);
        signed
    }

    /// Constraints hold for every certificate below, but not for self-issued intermediates (section 6.1.3).
    fn names_are_allowed(&mut self, authority: &Authority<'_>) -> bool {
        let Some(constraints) = authority.constraints else { return true };
        let below =
            self.path.iter().map(|n| &self.pool[*n]).filter(|certificate| !certificate.is_self_issued());
        below.chain([self.leaf]).all(|certificate| constraints.allow(certificate, &mut self.comparisons))
    }

    /// How many intermediates of the path count against a path length.
    fn intermediates(&self) -> usize {
        self.path.iter().filter(|n| !self.pool[**n].is_self_issued()).count()
    }

    fn is_too_deep(&self, next: &Certificate<'_>) -> bool {
        let depth = self.intermediates() + usize::from(!next.is_self_issued());
        self.demands.max_intermediates.is_some_and(|most| depth > most)
    }

    /// Whether the same authority is in the path already (RFC 4158 section 5.2).
    fn repeats(&self, issuer: &Authority<'_>) -> bool {
        self.path
            .iter()
            .map(|n| &self.pool[*n])
            .any(|earlier| earlier.subject().as_raw() == issuer.subject && earlier.key() == issuer.key)
    }

    fn last(&self) -> &Certificate<'_> {
        self.path.last().map_or(self.leaf, |n| &self.pool[*n])
    }

    fn note(&mut self, obstacle: Obstacle) {
        let depth = self.path.len() + 1;
        if depth > self.obstacle.0 {
            self.obstacle = (depth, obstacle);
        }
    }
}

impl Purpose {
    /// By the name that RFC 5280 gives it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "anyExtendedKeyUsage" => Self::Any,
            "serverAuth" => Self::ServerAuth,
            "clientAuth" => Self::ClientAuth,
            "codeSigning" => Self::CodeSigning,
            "emailProtection" => Self::EmailProtection,
            "timeStamping" => Self::TimeStamping,
            "OCSPSigning" => Self::OcspSigning,
            _ => return None,
        })
    }
}

/// Whether a certificate with this extension may be used for all `purposes`.
fn allows(extension: Option<&ExtendedKeyUsage<'_>>, purposes: &[Purpose]) -> bool {
    let Some(usage) = extension else { return true };
    usage.any
        || purposes.iter().all(|purpose| match purpose {
            Purpose::Any => false,
            Purpose::ServerAuth => usage.server_auth,
            Purpose::ClientAuth => usage.client_auth,
            Purpose::CodeSigning => usage.code_signing,
            Purpose::EmailProtection => usage.email_protection,
            Purpose::TimeStamping => usage.time_stamping,
            Purpose::OcspSigning => usage.ocsp_signing,
        })
}

fn check_with_second_parser(der: &CertificateDer<'_>) -> Result<(), CertificateError> {
    webpki::EndEntityCert::try_from(der).map(drop).map_err(|_| CertificateError::Form)
}

#[cfg(test)]
mod tests;
