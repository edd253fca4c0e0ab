//! The trust domain's bundle, as the slots would have it.

use rustls_pki_types::CertificateDer;
use spiffe::{Bundle as Document, Jwk, JwtAuthority};

use super::Turning;
use crate::{
    decide::Refusal,
    objects::{Authority, Bundle, Kind, Tainted, Use},
};

/// How often others should look for changes of the bundle (SPIRE's five minutes).
const REFRESH_HINT_SECONDS: u64 = 300;

impl Turning {
    /// Publishes the authorities of all slots; where they are the same as before, the bundle stays as it is.
    pub(super) fn publish(&mut self) -> Result<(), Refusal> {
        let mut authorities: Vec<&Authority> = self.tried.authorities().map(|known| &*known.value).collect();
        authorities.sort_by_key(|authority| (authority.not_before, &authority.id));
        let (x509_authorities, jwt_authorities) = (roots(&authorities), keys(&authorities)?);
        let tainted = tainted(&authorities);
        let trust_domain = self.tried.trust_domain();
        let before = self.tried.bundle(trust_domain).map(|bundle| (bundle.authorities(), bundle.tainted()));
        if before.is_some_and(|(old, old_tainted)| {
            (&old.x509_authorities, &old.jwt_authorities, old_tainted)
                == (&x509_authorities, &jwt_authorities, &tainted)
        }) {
            return Ok(());
        }
        let sequence = before.and_then(|(old, _)| old.sequence).unwrap_or(0) + 1;
        let published = Document {
            trust_domain: trust_domain.clone(),
            x509_authorities,
            jwt_authorities,
            sequence: Some(sequence),
            refresh_hint: Some(REFRESH_HINT_SECONDS),
        };
        let bundle = Bundle::new(published)
            .map_err(|error| Refusal::Invalid(format!("the bundle cannot hold this authority: {error}")))?;
        self.put(bundle.with_tainted(tainted));
        Ok(())
    }
}

fn roots(authorities: &[&Authority]) -> Vec<CertificateDer<'static>> {
    let mut roots = Vec::new();
    for authority in authorities {
        if let Kind::X509 { chain } = &authority.kind
            && let Some(root) = chain.last()
        {
            let root = CertificateDer::from(root.0.to_vec());
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
    }
    roots
}

fn keys(authorities: &[&Authority]) -> Result<Vec<JwtAuthority>, Refusal> {
    let key = |authority: &&Authority| match &authority.kind {
        Kind::X509 { .. } => None,
        Kind::Jwt { public_key } => Some(match Jwk::from_public_key(&public_key.0) {
            Some(key) => Ok(JwtAuthority { kid: authority.id.to_string(), key }),
            None => Err(Refusal::Invalid(format!(
                "the bundle cannot hold authority {}: its key is of no kind that JWT-SVIDs use",
                authority.id
            ))),
        }),
    };
    authorities.iter().filter_map(key).collect()
}

fn tainted(authorities: &[&Authority]) -> Tainted {
    let mut tainted = Tainted::default();
    for authority in authorities.iter().filter(|authority| authority.is_tainted()) {
        match authority.used_for() {
            Use::X509 => drop(tainted.x509.insert(authority.id.clone())),
            Use::Jwt => drop(tainted.jwt.insert(authority.id.to_string())),
        }
    }
    tainted
}
