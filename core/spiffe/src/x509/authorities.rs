//! Authorities that vouch for machines: those of a public key infrastructure outside, or of a trust
//! domain. Unlike a verified X509-SVID, what they vouched for says which of them did.

use rustls_pki_types::CertificateDer;

use super::{
    Anchor, Certificate,
    path::{self, Demands, PathError},
    profile::Profile,
    twin,
};
use crate::{Bundle, Timestamp};

/// Authorities, ready to verify with.
#[derive(Debug)]
pub struct Authorities {
    profile: Profile,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<Anchor>,
}

/// Who vouched for a certificate.
#[derive(Debug)]
pub struct Vouched<'a> {
    /// Their certificates, the one that signed first and the trusted authority last.
    pub issuers: Vec<&'a CertificateDer<'a>>,
    /// The other way to write the same certificate, where its signature has one: whoever holds it can
    /// make that one from it, so what names a certificate by all of its bytes must mind both.
    pub twin: Option<Vec<u8>>,
}

impl Authorities {
    /// Those of an infrastructure outside. One that cannot vouch for anybody is an error.
    pub fn external(certificates: Vec<CertificateDer<'static>>) -> Result<Self, PathError> {
        let anchors = certificates.iter().enumerate().map(|(n, der)| {
            Anchor::new(der, Profile::External).map_err(|reason| PathError::Certificate(n, reason))
        });
        match anchors.collect::<Result<Vec<_>, _>>()? {
            none if none.is_empty() => Err(PathError::NoAuthority(None)),
            anchors => Ok(Self { profile: Profile::External, certificates, anchors }),
        }
    }

    /// Those of a trust domain that can be used.
    pub fn of_trust_domain(bundle: &Bundle) -> Self {
        let usable = bundle.x509_authorities.iter();
        let usable = usable.filter_map(|der| Some((der.clone(), Anchor::new(der, Profile::Svid).ok()?)));
        let (certificates, anchors) = usable.unzip();
        Self { profile: Profile::Svid, certificates, anchors }
    }

    /// Who vouches for the first certificate of `chain`; the others are searched for the way to an authority.
    pub fn vouch<'a>(
        &'a self,
        chain: &'a [CertificateDer<'a>],
        now: Timestamp,
    ) -> Result<Vouched<'a>, PathError> {
        let (leaf_der, pool) = chain.split_first().ok_or(PathError::Empty)?;
        if chain.len() > path::MAX_CHAIN {
            return Err(PathError::TooMany(chain.len(), path::MAX_CHAIN));
        }
        let bytes = chain.iter().map(|der| der.len()).sum();
        if bytes > path::MAX_CHAIN_BYTES {
            return Err(PathError::TooLong(bytes));
        }
        let leaf = Certificate::parse(leaf_der).map_err(|reason| PathError::Certificate(0, reason))?;
        let demands = Demands { now, purposes: Vec::new(), max_intermediates: None };
        let found = path::find(self.profile, leaf_der, &leaf, pool, &self.anchors, &demands)?;
        let mut issuers: Vec<&CertificateDer<'_>> = found.intermediates.iter().map(|n| &pool[*n]).collect();
        issuers.push(&self.certificates[found.anchor]);
        let issuer = Certificate::parse(issuers[0]).map_err(|reason| PathError::Certificate(1, reason))?;
        Ok(Vouched { twin: twin::of(leaf_der, &leaf, issuer.key()), issuers })
    }
}

#[cfg(test)]
mod tests;
