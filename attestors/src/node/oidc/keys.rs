//! An issuer's keys: from a file, or from the issuer itself, asked as seldom as its keys allow.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{StatusCode, Uri};
use serde_json::Value;
use spiffe::jwt::{Compact, KeySet};
use tokio::sync::Mutex;

use super::server::Config;
use crate::{
    file,
    https::{self, Host, HttpsError},
    node::server::Refused,
};

/// The keys of one issuer.
pub(super) enum Keys {
    /// As they are in a file.
    Given(Arc<KeySet>),
    /// Asked for at the issuer.
    Asked(Box<Asked>),
}

pub(super) struct Asked {
    issuer: String,
    host: Host,
    /// Where the keys are, if an operator says so; else the issuer does.
    jwks: Option<Uri>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: Option<(Arc<KeySet>, Instant)>,
    asked: Option<Instant>,
}

/// Keys that are older are asked for again before they are used.
const FRESH: Duration = Duration::from_secs(3600);
/// While the issuer does not answer, what it said before counts for so long.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// It is not asked more often, whoever shows whatever.
const ASKED_ONCE_IN: Duration = Duration::from_secs(10);
const MAX_FILE: u64 = 1024 * 1024;

impl Keys {
    /// As the configuration says. Nobody is asked yet.
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        if let Some(path) = &config.jwks_file {
            return Ok(Self::Given(Arc::new(from_file(path)?)));
        }
        let address = config.jwks_uri.as_deref().unwrap_or(&config.issuer);
        let uri: Uri = address.parse().map_err(|_| HttpsError::Address(address.to_owned()).to_string())?;
        let authorities = https::authorities(config.ca_file.as_deref()).map_err(|error| error.to_string())?;
        let host = Host::of(&uri, &authorities, None).map_err(|error| error.to_string())?;
        let (issuer, jwks) = (config.issuer.clone(), config.jwks_uri.is_some().then_some(uri));
        Ok(Self::Asked(Box::new(Asked { issuer, host, jwks, known: Mutex::default() })))
    }

    /// Keys among which the token's should be.
    pub(super) async fn for_token(&self, token: &Compact<'_>) -> Result<Arc<KeySet>, Refused> {
        match self {
            Self::Given(keys) => Ok(keys.clone()),
            Self::Asked(asked) => asked.for_token(token.kid.as_deref()).await,
        }
    }
}

impl Asked {
    async fn for_token(&self, kid: Option<&str>) -> Result<Arc<KeySet>, Refused> {
        let mut known = self.known.lock().await;
        let serves = |(keys, since): &(Arc<KeySet>, Instant)| {
            since.elapsed() < FRESH && kid.is_none_or(|kid| keys.has(kid))
        };
        if let Some((keys, _)) = known.keys.as_ref().filter(|known| serves(known)) {
            return Ok(keys.clone());
        }
        // The issuer may have new keys; but strangers who make up names of keys must not make us ask.
        if known.asked.is_none_or(|asked| asked.elapsed() >= ASKED_ONCE_IN) {
            known.asked = Some(Instant::now());
            match self.ask().await {
                Ok(keys) => known.keys = Some((Arc::new(keys), Instant::now())),
                Err(error) => {
                    tracing::warn!(
                        issuer = self.issuer,
                        error,
                        "cannot get the keys of an issuer of ID tokens"
                    );
                }
            }
        }
        let kept = known.keys.as_ref().filter(|(_, since)| since.elapsed() < STALE);
        let kept = kept.map(|(keys, _)| keys.clone());
        kept.ok_or_else(|| Refused::Unavailable(format!("the keys of {} are not known now", self.issuer)))
    }

    async fn ask(&self) -> Result<KeySet, String> {
        let uri = match &self.jwks {
            Some(uri) => uri.clone(),
            None => self.discover().await?,
        };
        let document = self.get(&uri).await?;
        KeySet::parse(&document).map_err(|error| format!("{uri}: {error}"))
    }

    /// Where the issuer says that its keys are (OpenID Connect Discovery 1.0, section 4): at its own host,
    /// so that nobody leads this server elsewhere.
    async fn discover(&self) -> Result<Uri, String> {
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let at: Uri = at.parse().map_err(|_| format!("{at} is not an address"))?;
        let document = self.get(&at).await?;
        let document: Value = serde_json::from_slice(&document).map_err(|error| format!("{at}: {error}"))?;
        if document["issuer"] != self.issuer.as_str() {
            return Err(format!("{at} is the page of another issuer"));
        }
        let jwks: Option<Uri> = document["jwks_uri"].as_str().and_then(|uri| uri.parse().ok());
        let jwks = jwks.filter(|uri| self.host.has(uri));
        jwks.ok_or_else(|| {
            format!("{at} has no jwks_uri at the issuer's own host; set jwks_uri if it is elsewhere")
        })
    }

    async fn get(&self, uri: &Uri) -> Result<Vec<u8>, String> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let answer = self.host.get(path, None).await.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK => Ok(answer.body.to_vec()),
            other => Err(format!("{uri} answers {other}; redirects are not followed")),
        }
    }
}

fn from_file(path: &Path) -> Result<KeySet, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let document = file::read_now(path, MAX_FILE).map_err(|error| said(&error))?;
    KeySet::parse(&document).map_err(|error| said(&error))
}
