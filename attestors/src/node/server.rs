//! The server's halves: which are switched on, and what each makes of a payload.

use std::{collections::BTreeSet, path::PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spiffe::{Bundle, Selector, SpiffeId, Timestamp, TrustDomain};

use super::{MAX_PAYLOAD, TemplateError, Verified, k8s_psat, oidc, x509pop};

/// How nodes may attest besides join tokens: a table for each way.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// With a certificate of a public key infrastructure outside, or of a trust domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509pop: Option<x509pop::server::Config>,
    /// With a projected service account token of a Kubernetes cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k8s_psat: Option<k8s_psat::server::Config>,
    /// With an ID token, for each issuer whose tokens count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oidc: Vec<oidc::server::Config>,
}

impl Config {
    /// Whether what is said goes together, for a server of this trust domain; no file is looked at.
    pub fn check(&self, trust_domain: &TrustDomain) -> Result<(), ConfigError> {
        if let Some(config) = &self.x509pop {
            config.check(trust_domain)?;
        }
        if let Some(config) = &self.k8s_psat {
            config.check()?;
        }
        self.oidc.iter().try_for_each(|config| config.check(trust_domain))
    }
}

/// What a proof says of a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// Which node it is.
    pub id: SpiffeId,
    /// Which node the same proof would name in its other spelling, where it has one.
    pub twin: Option<SpiffeId>,
    /// What else it proves.
    pub selectors: BTreeSet<Selector>,
    /// Where it counts once: the SHA-256 of what was signed, and when it ends by itself.
    pub once: Option<([u8; 32], Timestamp)>,
}

/// What follows a payload.
pub enum Step {
    /// It is enough.
    Proved(Verified<Proof>),
    /// The node must answer a challenge.
    Asked {
        /// The challenge.
        challenge: Vec<u8>,
        /// What its answer proves.
        answered: Answered,
    },
}

/// Judges the answer to a challenge.
pub type Answered = Box<dyn FnOnce(&[u8]) -> Result<Verified<Proof>, Refused> + Send>;

/// What an attestor may ask about the present.
pub struct Surroundings<'a> {
    /// The time.
    pub now: Timestamp,
    /// The trust bundle of a trust domain, if one is known.
    pub bundle: &'a (dyn Fn(&TrustDomain) -> Option<Bundle> + Send + Sync),
}

/// Why nothing is proved: for the server's own log. A stranger hears none of it.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody is switched on that knows such proofs.
    #[error("no such attestor is configured")]
    NoAttestor,
    /// The payload or an answer is longer than anything that is looked at.
    #[error("{0} bytes are more than {MAX_PAYLOAD}")]
    TooLong(usize),
    /// It proves nothing.
    #[error("{0}")]
    NotProved(String),
    /// Somebody who had to be asked did not answer. The node may try again.
    #[error("{0}")]
    Unavailable(String),
}

/// A configuration under which no node could attest.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A template.
    #[error("node_attestors.{attestor}: {source}")]
    Template {
        /// Whose.
        attestor: &'static str,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// A file that cannot be read, or holds something else.
    #[error("node_attestors.{attestor}: {path}: {says}")]
    File {
        /// Whose.
        attestor: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        says: String,
    },
    /// Settings that do not go together.
    #[error("node_attestors.{attestor}: {says}")]
    Contradiction {
        /// Whose.
        attestor: &'static str,
        /// What to change.
        says: String,
    },
}

/// One attestor, as the server knows it.
#[async_trait]
pub(super) trait Half: Send + Sync {
    /// Its name in SPIRE's protocol, in IDs and in selectors.
    fn name(&self) -> &'static str;

    /// What a payload of at most [`MAX_PAYLOAD`] bytes proves. Bounded in time.
    async fn begin(&self, payload: &[u8], now: &Surroundings<'_>) -> Result<Step, Refused>;
}

/// Every attestor that is switched on.
#[derive(Default)]
pub struct NodeAttestors(Vec<Box<dyn Half>>);

impl NodeAttestors {
    /// Those of the configuration, for a server of this trust domain.
    pub fn new(config: &Config, trust_domain: &TrustDomain) -> Result<Self, ConfigError> {
        let mut halves: Vec<Box<dyn Half>> = Vec::new();
        if let Some(config) = &config.x509pop {
            halves.push(Box::new(x509pop::server::X509pop::new(config, trust_domain)?));
        }
        if let Some(config) = &config.k8s_psat {
            halves.push(Box::new(k8s_psat::server::K8sPsat::new(config, trust_domain)?));
        }
        if !config.oidc.is_empty() {
            halves.push(Box::new(oidc::server::Oidc::new(&config.oidc, trust_domain)?));
        }
        Ok(Self(halves))
    }

    /// The attestor of this name, if it is switched on.
    pub fn named(&self, name: &str) -> Option<&'static str> {
        self.half(name).map(Half::name)
    }

    /// What a payload proves, or asks for.
    pub async fn begin(&self, name: &str, payload: &[u8], now: &Surroundings<'_>) -> Result<Step, Refused> {
        let half = self.half(name).ok_or(Refused::NoAttestor)?;
        bounded(payload)?;
        Ok(match half.begin(payload, now).await? {
            Step::Asked { challenge, answered } => {
                Step::Asked { challenge, answered: Box::new(|answer| answered(bounded(answer)?)) }
            }
            proved @ Step::Proved(_) => proved,
        })
    }

    fn half(&self, name: &str) -> Option<&dyn Half> {
        self.0.iter().find(|half| half.name() == name).map(AsRef::as_ref)
    }
}

fn bounded(bytes: &[u8]) -> Result<&[u8], Refused> {
    if bytes.len() > MAX_PAYLOAD { Err(Refused::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// The ID of the node that a template's path names.
pub(super) fn node_id(trust_domain: &TrustDomain, path: &str) -> Result<SpiffeId, Refused> {
    let id = trust_domain.join(&format!("/spire/agent{path}"));
    id.map_err(|error| Refused::NotProved(format!("agent_path_template gives no SPIFFE ID: {error}")))
}

/// Adds a selector; a value that makes none (one with a line feed in it) proves nothing.
pub(super) fn select(selectors: &mut BTreeSet<Selector>, kind: &str, value: &str) {
    selectors.extend(Selector::new(kind, value));
}

impl From<TemplateError> for Refused {
    fn from(error: TemplateError) -> Self {
        Self::NotProved(error.to_string())
    }
}

impl From<spiffe::x509::path::PathError> for Refused {
    fn from(error: spiffe::x509::path::PathError) -> Self {
        Self::NotProved(format!("the certificate is not vouched for: {error}"))
    }
}

impl From<spiffe::jwt::JwtError> for Refused {
    fn from(error: spiffe::jwt::JwtError) -> Self {
        Self::NotProved(error.to_string())
    }
}

impl std::fmt::Debug for NodeAttestors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|half| half.name())).finish()
    }
}
