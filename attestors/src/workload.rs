//! Workload attestors: facts about a process on this node, from each of them at once.

pub mod binary;
pub mod cgroup;
pub mod docker;
mod failures;
pub mod k8s;
pub mod launch;
pub mod process;
mod standing;
mod subject;
pub mod systemd;
pub mod unix;

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{FutureExt, future::join_all};
use peer::{Changed, Executions, Peer};

use self::{failures::Failures, launch::Launches};
pub use self::{
    standing::{Said, Standing, State},
    subject::Subject,
};
use crate::{BadConfig, Config, Evidence, News, Wanted, builtin};

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

    /// Why it has nothing to say of any process on this machine, where that is known without asking: what it
    /// depends on is not there, or was not configured.
    fn absent(&self) -> Option<String> {
        None
    }
}

/// Every attestor that is switched on.
pub struct WorkloadAttestors {
    attestors: Vec<(Box<dyn WorkloadAttestor>, Failures)>,
    /// Those that the operator switched off.
    off: Vec<&'static str>,
    on_failure: Box<dyn Fn(&'static str) + Send + Sync>,
    launches: Arc<Launches>,
    news: Arc<News>,
}

impl WorkloadAttestors {
    /// Those that this program brings along, as they are configured.
    pub fn new(config: &Config) -> Result<Self, BadConfig> {
        Self::with_executions(config, None)
    }

    /// The same, which believe the kernel's records of executed programs more than what processes show.
    pub fn with_executions(config: &Config, executions: Option<Arc<Executions>>) -> Result<Self, BadConfig> {
        let (launches, news) = (Arc::default(), Arc::default());
        let builtin = builtin::workload(config, executions, &launches, &news)?;
        let (attestors, off, on_failure) = (Vec::new(), Vec::new(), Box::new(|_| ()));
        let mut all = Self { attestors, off, on_failure, launches, news };
        for attestor in builtin {
            all = all.and(attestor);
        }
        let has = |name: &String| all.iter().any(|attestor| attestor.name() == name);
        if let Some(name) = config.off.iter().find(|name| !has(name)) {
            return Err(BadConfig::new(format!("attestors.off names no attestor: {name}")));
        }
        let is_off = |name: &str| config.off.iter().any(|off| off == name);
        all.off = all.iter().map(|attestor| attestor.name()).filter(|name| is_off(name)).collect();
        all.attestors.retain(|(attestor, _)| !is_off(attestor.name()));
        Ok(all)
    }

    /// Those that this program brings along, with nothing configured.
    pub fn builtin() -> Self {
        Self::new(&Config::default()).expect("what is not configured cannot be wrong")
    }

    /// Where the agent notes what it launched.
    pub fn launches(&self) -> &Arc<Launches> {
        &self.launches
    }

    /// Where attestors tell that something is no longer so that they said of a living process.
    pub fn news(&self) -> &Arc<News> {
        &self.news
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
    /// It is checked last, so that every fact is of the process that was accepted, where it was then, and none
    /// of what it turned into or where it was moved meanwhile.
    pub async fn attest(&self, peer: &Arc<Peer>, wanted: &Wanted) -> Result<Evidence, Changed> {
        let mut evidence = Evidence::default();
        for said in self.examine(peer, wanted).await? {
            evidence.extend(said.evidence);
        }
        Ok(evidence)
    }

    /// The same, as each of them said it.
    pub async fn examine(&self, peer: &Arc<Peer>, wanted: &Wanted) -> Result<Vec<Said>, Changed> {
        let said = self.once(&Subject::new(Arc::clone(peer)), wanted).await;
        peer.check_closely()?;
        Ok(said)
    }

    /// How each of them fares, those that are switched off last.
    pub fn standings(&self) -> Vec<Standing> {
        let here = self.attestors.iter().map(|(attestor, failures)| {
            let name = attestor.name();
            match (failures.current(), attestor.absent()) {
                (_, Some(reason)) => Standing::new(name, State::Absent, Some(reason)),
                (Some(reason), None) => Standing::new(name, State::Failing, Some(reason)),
                (None, None) => Standing::new(name, State::On, None),
            }
        });
        let off = self.off.iter().map(|name| {
            let reason = format!("switched off by attestors.off in the configuration; remove {name:?} there");
            Standing::new(name, State::Off, Some(reason))
        });
        here.chain(off).collect()
    }

    /// All of them at the same time: none waits for another, and none can take away another's facts.
    async fn once(&self, subject: &Subject, wanted: &Wanted) -> Vec<Said> {
        let answers = self.attestors.iter().map(|(attestor, failures)| async move {
            let (name, began) = (attestor.name(), Instant::now());
            let evidence = within_deadline(attestor.as_ref(), subject, wanted).await;
            if failures.note(name, &evidence) {
                (self.on_failure)(name);
            }
            Said { name, took: began.elapsed(), evidence }
        });
        join_all(answers).await
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

#[cfg(test)]
mod tests;
