//! The trait of all workload attestors, and all of them together.

use std::sync::Arc;

use async_trait::async_trait;
use peer::{Changed, Peer};

use crate::{Evidence, Wanted, builtin};

/// Facts about a process.
#[async_trait]
pub trait WorkloadAttestor: Send + Sync {
    /// The selector prefix and the name used in the configuration file.
    fn name(&self) -> &'static str;

    /// What can be proved about `peer`, of what is `wanted`; no facts mean "not my kind of process".
    ///
    /// Bounded in time. Does not block: what may wait for a disk or a name service does so elsewhere.
    async fn attest(&self, peer: &Arc<Peer>, wanted: &Wanted) -> Evidence;
}

/// Every attestor that is switched on.
pub struct WorkloadAttestors {
    attestors: Vec<Box<dyn WorkloadAttestor>>,
}

impl WorkloadAttestors {
    /// Those that this program brings along.
    pub fn builtin() -> Self {
        Self { attestors: builtin::workload() }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn WorkloadAttestor> {
        self.attestors.iter().map(AsRef::as_ref)
    }

    /// What all of them can prove about `peer`. It is checked last, so that every fact is of the process
    /// that was accepted and none of what it turned into meanwhile.
    pub async fn attest(&self, peer: &Arc<Peer>, wanted: &Wanted) -> Result<Evidence, Changed> {
        let mut evidence = Evidence::default();
        for attestor in self.iter() {
            evidence.extend(attestor.attest(peer, wanted).await);
        }
        peer.check()?;
        Ok(evidence)
    }
}
