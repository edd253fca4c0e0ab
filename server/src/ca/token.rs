//! JWT-SVIDs, and tokens of other types by the same authority: signing them.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use registry::objects::{Authority, AuthorityId, Kind};
use serde_json::{Map, Value};
use spiffe::{Audiences, SpiffeId, Timestamp, jwt};

use super::{IssueError, issue::whole_second, keys::AuthorityKey};

/// An authority that signs tokens.
pub(crate) struct TokenIssuer {
    id: AuthorityId,
    not_after: Timestamp,
    key: AuthorityKey,
    random: SystemRandom,
}

/// A token that was signed.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// JWS in compact serialisation.
    pub(crate) token: String,
    /// Its `jti`, if it has one.
    pub(crate) jti: Option<String>,
    /// `iat`, on a whole second.
    pub(crate) issued_at: Timestamp,
    /// `exp`, on a whole second.
    pub(crate) expires_at: Timestamp,
}

impl TokenIssuer {
    /// Makes an authority ready to sign.
    pub(super) fn new(authority: &Authority, key: AuthorityKey) -> Result<Self, IssueError> {
        match &authority.kind {
            Kind::Jwt { public_key } if public_key.0 == key.public_key() => Ok(Self {
                id: authority.id.clone(),
                not_after: authority.not_after,
                key,
                random: SystemRandom::new(),
            }),
            Kind::Jwt { .. } | Kind::X509 { .. } => Err(IssueError::OtherKey),
        }
    }

    /// Which authority this is; the `kid` of its tokens.
    pub(crate) fn id(&self) -> &AuthorityId {
        &self.id
    }

    /// Signs a JWT-SVID that is valid from now until `not_after`, or the authority's end.
    pub(crate) fn issue(
        &self,
        subject: &SpiffeId,
        audiences: &Audiences,
        with_jti: bool,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<Token, IssueError> {
        let expires_at = whole_second(not_after.min(self.not_after));
        if expires_at <= now {
            return Err(IssueError::Ended);
        }
        let claims = jwt::Claims {
            sub: subject.clone(),
            aud: audiences.iter().map(str::to_owned).collect(),
            iat: whole_second(now),
            exp: expires_at,
            jti: with_jti.then(|| self.name()).transpose()?,
        };
        let token = jwt::sign(&claims, self.id.as_str(), |message| self.key.sign_es256(message))?;
        Ok(Token { token, jti: claims.jti, issued_at: claims.iat, expires_at })
    }

    /// Signs a token of another type with these claims and a name of its own, valid from now until `not_after`, or the
    /// authority's end.
    pub(crate) fn issue_typed(
        &self,
        typ: jwt::Type,
        mut claims: Map<String, Value>,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<Token, IssueError> {
        let (issued_at, expires_at) = (whole_second(now), whole_second(not_after.min(self.not_after)));
        if expires_at <= now {
            return Err(IssueError::Ended);
        }
        let jti = self.name()?;
        claims.insert("iat".to_owned(), issued_at.unix_seconds().into());
        claims.insert("exp".to_owned(), expires_at.unix_seconds().into());
        claims.insert("jti".to_owned(), jti.clone().into());
        let sign = |message: &[u8]| self.key.sign_es256(message);
        let token = jwt::sign_typed(typ, &claims, self.id.as_str(), sign)?;
        Ok(Token { token, jti: Some(jti), issued_at, expires_at })
    }

    /// 128 random bits.
    fn name(&self) -> Result<String, IssueError> {
        let mut bytes = [0_u8; 16];
        self.random.fill(&mut bytes).map_err(|_| IssueError::Randomness)?;
        Ok(hex::encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry::{
        decide::authority::NewAuthority,
        objects::{Slot, Use},
    };
    use spiffe::{Bundle, Bundles, Jwk, JwtAuthority};

    use super::*;
    use crate::{ca::Ca, config::CaKeys};

    const LIFE: Duration = Duration::from_secs(3600);

    fn issuer(now: Timestamp) -> (Authority, TokenIssuer, Bundles) {
        let ca = Ca::open(CaKeys::Memory, std::path::Path::new("unused")).unwrap();
        let trust_domain: spiffe::TrustDomain = "acme.example".parse().unwrap();
        let new = ca.prepare(Use::Jwt, &trust_domain, LIFE, now).unwrap();
        let NewAuthority { id, kind, not_before, not_after } = new;
        let authority = Authority { id, slot: Slot::Active, kind, not_before, not_after };
        let Kind::Jwt { public_key } = &authority.kind else { panic!("{authority:?}") };
        let key = Jwk::from_public_key(&public_key.0).unwrap();
        let mut bundle = Bundle::empty(trust_domain);
        bundle.jwt_authorities = vec![JwtAuthority { kid: authority.id.to_string(), key }];
        let key = ca.keys.find(&authority.id).unwrap().unwrap();
        (authority.clone(), TokenIssuer::new(&authority, key).unwrap(), [bundle].into_iter().collect())
    }

    #[test]
    fn a_token_is_what_a_stranger_accepts_and_says_only_what_it_should() {
        let now = Timestamp::from_unix_millis(1_795_000_000_500);
        let (_, issuer, bundles) = issuer(now);
        let id: SpiffeId = "spiffe://acme.example/agent/triage".parse().unwrap();
        let audiences = Audiences::new(["db", "api"]).unwrap();
        let made = issuer.issue(&id, &audiences, false, now, now + Duration::from_secs(300)).unwrap();
        let valid = jwt::svid::validate(&made.token, &["db"], &bundles, now).unwrap();
        assert_eq!((valid.spiffe_id, valid.expires_at), (id.clone(), made.expires_at));
        let names: Vec<_> = valid.claims.keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "exp", "iat", "sub"]);
        assert_eq!(valid.claims["iat"], now.unix_seconds());
        let named = issuer.issue(&id, &audiences, true, now, now + LIFE).unwrap();
        let valid = jwt::svid::validate(&named.token, &["api"], &bundles, now).unwrap();
        assert_eq!(valid.claims["jti"].as_str(), named.jti.as_deref());
    }

    /// `cargo xtask bench` reads the figure; nothing here judges it.
    #[test]
    fn how_fast_the_signer_alone_is_can_be_told() {
        let now = Timestamp::from_unix_millis(1_795_000_000_500);
        let (_, issuer, _) = issuer(now);
        let id = "spiffe://acme.example/agent/triage".parse().unwrap();
        let audiences = Audiences::new(["api"]).unwrap();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let sign = || {
            for _ in 0..SIGNED {
                issuer.issue(&id, &audiences, false, now, now + LIFE).unwrap();
            }
        };
        let mut told = Vec::new();
        for threads in [1, threads] {
            let began = std::time::Instant::now();
            std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(sign))));
            told.push((threads * SIGNED) as f64 / began.elapsed().as_secs_f64());
        }
        println!("tokens/s alone: {:.0} by one thread, {:.0} by {threads}", told[0], told[1]);
    }

    const SIGNED: usize = 2000;

    #[test]
    fn a_token_never_outlives_its_authority() {
        let now = Timestamp::from_unix_millis(1_795_000_000_500);
        let (authority, issuer, _) = issuer(now);
        let id = "spiffe://acme.example/w".parse().unwrap();
        let audiences = Audiences::new(["a"]).unwrap();
        let later = authority.not_after + Duration::from_secs(1);
        let made = issuer.issue(&id, &audiences, false, now, later).unwrap();
        assert!(made.expires_at <= authority.not_after);
        let late = issuer.issue(&id, &audiences, false, later, later + LIFE);
        assert!(matches!(late, Err(IssueError::Ended)));
    }
}
