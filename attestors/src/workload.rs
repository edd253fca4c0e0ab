//! Workload attestors: facts about a process on this node, from each of them at once.

pub mod docker;
mod failures;
pub mod k8s;
mod subject;
pub mod systemd;
pub mod unix;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, future::join_all};
use peer::{Changed, Peer};

use self::failures::Failures;
pub use self::subject::Subject;
use crate::{BadConfig, Config, Evidence, Wanted, builtin};

/// Facts about a process.
#[async_trait]
pub trait WorkloadAttestor: Send + Sync {
    /// The selector prefix and the name used in the configuration file.
    fn name(&self) -> &'static str;

    /// What can be proved of the process, of what is `wanted`; no facts mean "not my kind of process".
    ///
    /// It never blocks a thread: what may wait for a disk or a name service does so elsewhere. Where it
    /// depends on something that does not answer it says so with [`Evidence::fail`].
    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence;

    /// How long it may take; then the others' facts are used without its own.
    fn deadline(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// Every attestor that is switched on.
pub struct WorkloadAttestors {
    attestors: Vec<(Box<dyn WorkloadAttestor>, Failures)>,
    on_failure: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl WorkloadAttestors {
    /// Those that this program brings along, as they are configured.
    pub fn new(config: &Config) -> Result<Self, BadConfig> {
        let mut all = Self { attestors: Vec::new(), on_failure: Box::new(|_| ()) };
        for attestor in builtin::workload(config)? {
            all = all.and(attestor);
        }
        let has = |name: &String| all.iter().any(|attestor| attestor.name() == name);
        match config.off.iter().find(|name| !has(name)) {
            Some(name) => return Err(BadConfig::new(format!("attestors.off names no attestor: {name}"))),
            None => all.attestors.retain(|(attestor, _)| !config.off.iter().any(|n| n == attestor.name())),
        }
        Ok(all)
    }

    /// Those that this program brings along, with nothing configured.
    pub fn builtin() -> Self {
        Self::new(&Config::default()).expect("what is not configured cannot be wrong")
    }

    /// One more, which knows what only the agent knows.
    pub fn and(mut self, attestor: Box<dyn WorkloadAttestor>) -> Self {
        self.attestors.push((attestor, Failures::default()));
        self
    }

    /// Calls this with the name of an attestor each time that it fails.
    pub fn on_failure(mut self, count: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        self.on_failure = Box::new(count);
        self
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn WorkloadAttestor> {
        self.attestors.iter().map(|(attestor, _)| attestor.as_ref())
    }

    /// What all of them together can prove about `peer`.
    ///
    /// It is checked last, so that every fact is of the process that was accepted and none of what it
    /// turned into meanwhile; and if it was moved to another cgroup meanwhile, everything is asked again.
    pub async fn attest(&self, peer: &Arc<Peer>, wanted: &Wanted) -> Result<Evidence, Changed> {
        for _ in 0..ATTEMPTS {
            let subject = Subject::new(Arc::clone(peer));
            let evidence = self.once(&subject, wanted).await;
            let is_where_it_was = subject.is_where_it_was();
            peer.check()?;
            if is_where_it_was {
                return Ok(evidence);
            }
        }
        Err(Changed::Cgroup { pid: peer.pid() })
    }

    /// All of them at the same time: none waits for another, and none can take away another's facts.
    async fn once(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let answers = self.attestors.iter().map(|(attestor, failures)| async move {
            let answer = within_deadline(attestor.as_ref(), subject, wanted).await;
            if failures.note(attestor.name(), &answer) {
                (self.on_failure)(attestor.name());
            }
            answer
        });
        let mut evidence = Evidence::default();
        for answer in join_all(answers).await {
            evidence.extend(answer);
        }
        evidence
    }
}

/// An attestor that takes too long or panics has failed, and no more than that.
async fn within_deadline(attestor: &dyn WorkloadAttestor, subject: &Subject, wanted: &Wanted) -> Evidence {
    let name = attestor.name();
    let answer = AssertUnwindSafe(attestor.attest(subject, wanted)).catch_unwind();
    let mut failed = Evidence::default();
    match tokio::time::timeout(attestor.deadline(), answer).await {
        Ok(Ok(evidence)) => return evidence,
        Ok(Err(_)) => {
            failed.fail(format!("the {name} attestor broke off; this is a defect, please report it"))
        }
        Err(_) => {
            let seconds = attestor.deadline().as_secs();
            failed.fail(format!("the {name} attestor did not answer within {seconds} s"));
        }
    }
    failed
}

/// A process that is moved about all the time is not attested.
const ATTEMPTS: usize = 3;

#[cfg(test)]
mod tests;
