//! What the server's configuration says that decisions depend on.

use std::time::Duration;

use spiffe::TrustDomain;

use crate::objects::Entry;

/// What a registry must know to decide; fixed while it lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The trust domain that this log is about.
    pub trust_domain: TrustDomain,
    /// How long an authority lives.
    pub ca_ttl: Duration,
    /// How long an X509-SVID lives where its entry says nothing.
    pub x509_svid_ttl: Duration,
    /// How long a JWT-SVID lives where its entry says nothing.
    pub jwt_svid_ttl: Duration,
    /// How long an agent's own X509-SVID lives.
    pub agent_ttl: Duration,
    /// How long after its newest certificate's end a node may come back by its key alone.
    pub return_window: Duration,
    /// So many tasks may be under way at once.
    pub tasks: TaskCaps,
}

/// The most tasks that may be under way at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TaskCaps {
    /// Of one actor.
    pub of_actor: u32,
    /// On one node.
    pub on_node: u32,
    /// Of one tenant.
    pub of_tenant: u32,
}

impl Default for TaskCaps {
    fn default() -> Self {
        Self { of_actor: 100, on_node: 1_000, of_tenant: 10_000 }
    }
}

impl Settings {
    /// SPIRE's defaults, and thirty days to return.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            ca_ttl: Duration::from_secs(24 * 3600),
            x509_svid_ttl: Duration::from_secs(3600),
            jwt_svid_ttl: Duration::from_secs(300),
            agent_ttl: Duration::from_secs(3600),
            return_window: Duration::from_secs(30 * 24 * 3600),
            tasks: TaskCaps::default(),
        }
    }

    /// The longest life of an SVID: what is left of an authority when the next one takes over.
    pub fn longest_svid_ttl(&self) -> Duration {
        self.ca_ttl / 6
    }

    /// How long X509-SVIDs of `entry` live.
    pub fn x509_svid_ttl_of(&self, entry: &Entry) -> Duration {
        let asked = match entry.x509_svid_ttl {
            0 => self.x509_svid_ttl,
            seconds => Duration::from_secs(seconds.into()),
        };
        asked.min(self.longest_svid_ttl())
    }

    /// How long JWT-SVIDs of `entry` live.
    pub fn jwt_svid_ttl_of(&self, entry: &Entry) -> Duration {
        let asked = match entry.jwt_svid_ttl {
            0 => self.jwt_svid_ttl,
            seconds => Duration::from_secs(seconds.into()),
        };
        asked.min(self.longest_svid_ttl())
    }

    /// How long an agent's own X509-SVID lives.
    pub fn agent_svid_ttl(&self) -> Duration {
        self.agent_ttl.min(self.longest_svid_ttl())
    }
}

/// How long after its end an unspent token can still be shown; then it is forgotten.
pub(crate) const TOKEN_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// How long after its end a task stays known as ended: longer than any credential under it lives.
pub(crate) const TASK_MEMORY: Duration = Duration::from_secs(600);
