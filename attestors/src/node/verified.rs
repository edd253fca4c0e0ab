//! [`Verified`]: what was read from bytes that somebody vouched for.
//!
//! To verify one document and read the identity from another is the mistake that this type makes
//! impossible: it is made here and nowhere else, and whoever reads gets the very bytes that were
//! verified. Values can be brought together and carried on, but only by functions that bring nothing
//! along.

use rustls_pki_types::CertificateDer;
use spiffe::{
    Timestamp,
    jwt::{
        Compact, JwtError, KeySet,
        id_token::{self, IdToken},
    },
    x509::{Authorities, Certificate, authorities::Vouched, path::PathError},
};

use crate::https::Answer;

/// A value that was read from verified bytes.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value alone.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// What follows from it under a configuration. A function pointer captures nothing.
    pub(super) fn follow<C, U, E>(
        &self,
        config: &C,
        from: fn(&T, &C) -> Result<U, E>,
    ) -> Result<Verified<U>, E> {
        from(&self.0, config).map(Verified)
    }

    /// Both together.
    #[must_use]
    pub(super) fn and<U>(self, other: Verified<U>) -> Verified<(T, U)> {
        Verified((self.0, other.0))
    }

    /// Reads what somebody answered over a connection on which it proved its name.
    pub(super) fn of_answer<E>(answer: &Answer, read: fn(&[u8]) -> Result<T, E>) -> Result<Self, E> {
        read(&answer.body).map(Self)
    }

    /// Reads a chain's first certificate once `authorities` vouch for it.
    pub(super) fn of_certificate<E: From<PathError>>(
        chain: &[CertificateDer<'_>],
        authorities: &Authorities,
        now: Timestamp,
        read: fn(&CertificateDer<'_>, &Certificate<'_>, &Vouched<'_>) -> Result<T, E>,
    ) -> Result<Self, E> {
        let vouched = authorities.vouch(chain, now)?;
        let (leaf, _) = chain.split_first().ok_or(PathError::Empty)?;
        let parsed = Certificate::parse(leaf).map_err(|reason| PathError::Certificate(0, reason))?;
        read(leaf, &parsed, &vouched).map(Self)
    }
}

impl Verified<IdToken> {
    /// Reads a token once a key of its issuer's turns out to have signed it.
    pub(super) fn of_token(
        token: &Compact<'_>,
        issuer: &str,
        audience: &str,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<Self, JwtError> {
        id_token::validate(token, issuer, audience, keys, now).map(Self)
    }
}
