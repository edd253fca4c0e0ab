//! Nodes: machines whose agents have attested.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use spiffe::{Selector, SpiffeId, Timestamp};

use super::{Sha256, checked_text, token::SECRET_LENGTH};
use crate::scope::Environment;

checked_text! {
    /// The name that a join token gives its node; one segment of a SPIFFE ID's path.
    NodeName,
    |text| (1..=128).contains(&text.len())
        && text != "." && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && text.rsplit_once('.').is_none_or(|(_, last)| last.len() != SECRET_LENGTH),
    "is not a node name: 1 to 128 letters, digits, dots, dashes and underscores, and not the form of a whole join token"
}

/// A machine whose agent has attested.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// `spiffe://TD/spire/agent/<attestor>/…`
    pub id: SpiffeId,
    /// How it attested, for example `join_token`.
    pub attestor: String,
    /// What was proved about it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub selectors: BTreeSet<Selector>,
    /// SHA-256 of the agent key's SubjectPublicKeyInfo: the anchor that outlives certificates.
    pub key_sha256: Sha256,
    /// Serial number (hex) of the agent's certificate in use.
    pub serial: String,
    /// When that one was used first, if another was in use before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_since: Option<Timestamp>,
    /// Serial number of a renewed certificate that has not been used yet; its first use makes it `serial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_serial: Option<String>,
    /// Key of the renewed certificate, while `next_serial` is there and the key differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_sha256: Option<Sha256>,
    /// Keys that it had before, and gave up by attesting with another: newest last. Whoever still has one
    /// of them is another agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_keys: Vec<Sha256>,
    /// Where it stands, as an administrator said; `default` where nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// When the newest certificate ends.
    pub expires_at: Timestamp,
    /// When the node attested first.
    pub attested_at: Timestamp,
    /// Whether it may act.
    pub state: NodeState,
}

impl Node {
    /// Where it stands, as tasks and policies see it.
    pub fn stands_in(&self) -> Environment {
        self.environment.clone().unwrap_or_else(Environment::unnamed)
    }

    /// Whether it may attest again with the proof that it has; a join token is worth nothing after it
    /// was used.
    pub fn can_reattest(&self) -> bool {
        self.attestor != "join_token"
    }

    /// The keys that are replaced once `key_sha256` is this one.
    pub(crate) fn replaced_by(&self, key_sha256: &Sha256) -> Vec<Sha256> {
        if !self.can_reattest() || self.key_sha256.matches(key_sha256) {
            return self.replaced_keys.clone();
        }
        let before = self.replaced_keys.iter().chain([&self.key_sha256]);
        let forgotten = (self.replaced_keys.len() + 1).saturating_sub(MOST_REPLACED);
        before.skip(forgotten).filter(|key| !key.matches(key_sha256)).copied().collect()
    }

    /// Whether this is the node's key, or the one that it is about to change to.
    pub fn has_key(&self, key_sha256: &Sha256) -> bool {
        self.key_sha256.matches(key_sha256) || self.next_key_sha256.is_some_and(|key| key.matches(key_sha256))
    }
}

/// So many replaced keys are kept; SPIRE's agents take a new one with each certificate.
const MOST_REPLACED: usize = 8;

/// Whether a node may act.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It attested, and its first authenticated call has not come yet.
    Joining,
    /// In good standing.
    Active,
    /// It is known from a backup: no certificate of it counts until it has returned by its key.
    Restored,
    /// Its key is in two places, so whoever shows it is refused; a token lets the node join with another.
    Fenced,
    /// Refused until an administrator says otherwise.
    Banned,
}

impl NodeState {
    /// Whether the node may have a view, and whoever acts for it may act.
    pub fn is_admitted(self) -> bool {
        matches!(self, Self::Joining | Self::Active)
    }
}
