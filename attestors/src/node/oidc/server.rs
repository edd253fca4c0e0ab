//! The server's half: whose tokens count, and which nodes they make.

use std::{collections::BTreeSet, path::PathBuf};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use spiffe::{
    TrustDomain,
    jwt::{
        Compact,
        id_token::{IdToken, unverified_issuer},
    },
};
use tokio::sync::Semaphore;

use super::{
    NAME, Payload,
    conditions::{Conditions, texts, unmet},
    keys::Keys,
};
use crate::node::{
    Template, Verified,
    server::{ConfigError, Half, Proof, Refused, Step, Surroundings, node_id, select},
    template::{Fields, Rules},
};

/// An issuer whose tokens count.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The issuer, exactly as its tokens name it: `https://…`.
    pub issuer: String,
    /// Whom the tokens must be meant for; nobody else's count.
    pub audience: String,
    /// What their claims must say. Without it, everybody whom the issuer knows could attest a node.
    pub required_claims: Conditions,
    /// Claims that become selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_selectors: Vec<String>,
    /// The nodes' paths below `/spire/agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_path_template: Option<String>,
    /// Where the issuer's keys are, if not where its discovery document says, at its own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<String>,
    /// The issuer's keys in a file: then it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The authorities, in PEM, that vouch for the issuer's host; the system's where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// The attestor.
pub(crate) struct Oidc {
    issuers: Vec<Issuer>,
    /// So many tokens are judged at once, since an issuer may have to be asked.
    places: Semaphore,
}

struct Issuer {
    name: String,
    audience: String,
    keys: Keys,
    naming: Naming,
}

/// How nodes are named.
struct Naming {
    trust_domain: TrustDomain,
    issuer: String,
    template: Template,
    conditions: Conditions,
    claim_selectors: Vec<String>,
}

const RULES: Rules = Rules {
    attestor: NAME,
    fields: &["PluginName", "TrustDomain", "TokenFingerprint", "SubjectFingerprint", "Subject", "Claims.*"],
    paths: &[],
};
/// A node for each token: two jobs of one pipeline are two machines.
const DEFAULT: &str = "/{{ .PluginName }}/{{ .TokenFingerprint }}";
const AT_ONCE: usize = 32;

impl Config {
    /// Whether what is said goes together; no file is looked at.
    pub(crate) fn check(&self, own: &TrustDomain) -> Result<(), ConfigError> {
        self.naming(own).map(drop)
    }

    fn naming(&self, own: &TrustDomain) -> Result<Naming, ConfigError> {
        let wrong = |says: String| ConfigError::Contradiction { attestor: NAME, says };
        if !self.issuer.starts_with("https://") {
            return Err(wrong(format!("issuer {:?} does not begin with https://", self.issuer)));
        }
        if self.audience.is_empty() {
            return Err(wrong("audience is empty".to_owned()));
        }
        if self.required_claims.is_empty() {
            let says = "required_claims is empty, so everybody whom the issuer knows could attest a node";
            return Err(wrong(says.to_owned()));
        }
        let mut problems = self.required_claims.iter();
        if let Some((name, says)) = problems.find_map(|(name, wanted)| Some((name, wanted.problem()?))) {
            return Err(wrong(format!("required_claims: {name} {says}")));
        }
        if self.jwks_file.is_some() && (self.jwks_uri.is_some() || self.ca_file.is_some()) {
            return Err(wrong("with jwks_file nobody is asked; remove jwks_uri and ca_file".to_owned()));
        }
        let template = Template::parse(self.agent_path_template.as_deref().unwrap_or(DEFAULT), RULES);
        Ok(Naming {
            trust_domain: own.clone(),
            issuer: self.issuer.clone(),
            template: template.map_err(|source| ConfigError::Template { attestor: NAME, source })?,
            conditions: self.required_claims.clone(),
            claim_selectors: self.claim_selectors.clone(),
        })
    }
}

impl Oidc {
    pub(crate) fn new(configs: &[Config], own: &TrustDomain) -> Result<Self, ConfigError> {
        let mut issuers: Vec<Issuer> = Vec::new();
        for config in configs {
            let wrong = |says: String| ConfigError::Contradiction { attestor: NAME, says };
            let naming = config.naming(own)?;
            if issuers.iter().any(|other| other.name == config.issuer) {
                return Err(wrong(format!("issuer {} is there twice", config.issuer)));
            }
            let keys = Keys::of(config).map_err(|says| wrong(format!("of {}: {says}", config.issuer)))?;
            let (name, audience) = (config.issuer.clone(), config.audience.clone());
            issuers.push(Issuer { name, audience, keys, naming });
        }
        Ok(Self { issuers, places: Semaphore::new(AT_ONCE) })
    }
}

#[async_trait]
impl Half for Oidc {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn begin(&self, payload: &[u8], now: &Surroundings<'_>) -> Result<Step, Refused> {
        let Payload { token } =
            serde_json::from_slice(payload).map_err(|error| not_proved(&format!("the payload: {error}")))?;
        let token = Compact::parse_of_issuer(&token).map_err(|error| not_proved(&error))?;
        // The stranger only chooses among the issuers that an operator named.
        let named = unverified_issuer(&token);
        let issuer = self.issuers.iter().find(|issuer| named.as_deref() == Some(issuer.name.as_str()));
        let issuer = issuer.ok_or_else(|| not_proved(&"the token is of no issuer that is configured"))?;
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| Refused::Unavailable("too many tokens are being judged".to_owned()))?;
        let keys = issuer.keys.for_token(&token).await?;
        let verified = Verified::of_token(&token, &issuer.name, &issuer.audience, &keys, now.now)?;
        Ok(Step::Proved(verified.follow(&issuer.naming, proof)?))
    }
}

fn proof(token: &IdToken, naming: &Naming) -> Result<Proof, Refused> {
    if let Some(claim) = unmet(&naming.conditions, &token.claims) {
        return Err(not_proved(&format!("the token's claim {claim} is not as required_claims says")));
    }
    let mut fields: Fields = [
        ("TrustDomain", naming.trust_domain.as_str().to_owned()),
        ("TokenFingerprint", hex::encode(token.signed_sha256)),
        ("SubjectFingerprint", fingerprint(&[&naming.issuer, &token.subject])),
        ("Subject", token.subject.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for name in token.claims.keys() {
        if let [value] = texts(&token.claims, name).as_slice() {
            fields.insert(format!("Claims.{name}"), value.clone());
        }
    }
    let mut selectors = BTreeSet::new();
    let mut add = |name: &str, value: &str| select(&mut selectors, NAME, &format!("{name}:{value}"));
    add("issuer", &naming.issuer);
    add("sub", &token.subject);
    for name in &naming.claim_selectors {
        for value in texts(&token.claims, name) {
            add("claim", &format!("{name}:{value}"));
        }
    }
    let id = node_id(&naming.trust_domain, &naming.template.path(&fields, RULES)?)?;
    Ok(Proof { id, twin: None, selectors, once: Some((token.signed_sha256, token.until)) })
}

/// Of texts, none of which runs into the next.
fn fingerprint(texts: &[&str]) -> String {
    let lengths = texts.iter().flat_map(|text| [text.len().to_string(), (*text).to_owned()]);
    hex::encode(digest(&SHA256, lengths.collect::<Vec<_>>().join("\n").as_bytes()))
}

fn not_proved(says: &dyn std::fmt::Display) -> Refused {
    Refused::NotProved(says.to_string())
}
