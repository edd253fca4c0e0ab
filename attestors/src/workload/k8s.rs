//! `k8s`: what Kubernetes says of the pod and the container that a process is in, by SPIRE's names.
//!
//! | selector | is |
//! |---|---|
//! | `k8s:ns:NAME`, `k8s:sa:NAME` | the pod's namespace and service account |
//! | `k8s:pod-name:NAME`, `k8s:pod-uid:UID`, `k8s:node-name:NAME` | the pod and its node |
//! | `k8s:pod-label:KEY:VALUE` | a label of the pod |
//! | `k8s:pod-owner:KIND:NAME`, `k8s:pod-owner-uid:KIND:UID` | whom the pod belongs to |
//! | `k8s:container-name:NAME`, `k8s:container-image:IMAGE` | the very container; its image by name and by digest |
//! | `k8s:pod-image:IMAGE`, `k8s:pod-image-count:N` | the images of all its containers, and their number |
//! | `k8s:pod-init-image:IMAGE`, `k8s:pod-init-image-count:N` | the same of its init containers |
//! | `k8s:ns-label:KEY:VALUE` | a label of the namespace, where the API server may be asked |
//!
//! All are of strength `platform`. Which container it is says the kernel ([`crate::cgroups`]): the pod's UID
//! and the container's id are read from the cgroup, and facts are only those of the pod with this UID that
//! has this container. Whoever asks first has the kubelet asked; everybody else who waits shares the answer,
//! and it serves for a few seconds. Where the API server is the source it is watched instead. As long as a
//! process of a pod is connected the kubelet is asked every few seconds, and if Kubernetes says something else
//! than before, be it of a label, the processes are attested anew.

mod config;
mod follow;
mod gathered;
mod namespaces;
mod pods;

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use peer::Peer;

pub use self::config::{Config, Source};
use self::{
    config::Sources,
    gathered::{Absent, Gathered},
    namespaces::Namespace,
    pods::Pod,
};
use crate::{
    BadConfig, Evidence, News, Strength, Subject, Wanted, WorkloadAttestor,
    cgroups::{ContainerId, Owner},
    recent::Recent,
};

/// The attestor; one for the whole agent, since it remembers pods.
pub struct K8s {
    sources: Option<Sources>,
    /// Begun when the first process of a pod asks.
    gathered: OnceLock<(Gathered<Pod>, Option<Gathered<Namespace>>)>,
    /// Containers that were waited for in vain, such as those for debugging. Nobody waits for them again, or
    /// their processes would take the turns of others.
    in_vain: Mutex<Recent<ContainerId, ()>>,
    /// Those of whom something was said, for as long as they are connected.
    connected: Arc<Connected>,
    news: Arc<News>,
}

/// Processes that the agent holds because they are connected.
#[derive(Debug, Default)]
struct Connected(Mutex<Vec<Weak<Peer>>>);

impl K8s {
    /// Knows no pod yet; without a configuration it never will.
    pub fn new(config: Option<&Config>, news: Arc<News>) -> Result<Self, BadConfig> {
        let sources = config.map(Config::sources).transpose()?;
        let in_vain = Mutex::new(Recent::new(IN_VAIN));
        Ok(Self { sources, gathered: OnceLock::new(), in_vain, connected: Arc::default(), news })
    }

    fn gathered<'a>(&'a self, sources: &Sources) -> &'a (Gathered<Pod>, Option<Gathered<Namespace>>) {
        self.gathered.get_or_init(|| sources.gather(&self.connected, &self.news))
    }
}

#[async_trait]
impl WorkloadAttestor for K8s {
    fn name(&self) -> &'static str {
        KIND
    }

    fn absent(&self) -> Option<String> {
        let nobody = "agent.toml has no [attestors.k8s], so nobody is asked about pods";
        self.sources.is_none().then(|| nobody.to_owned())
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        let Some(sources) = &self.sources else { return evidence };
        if !FACTS.iter().any(|fact| wanted.asks(KIND, fact)) {
            return evidence;
        }
        let Some(container) = subject.container(&mut evidence) else { return evidence };
        let Some(pod_uid) = &container.pod_uid else { return evidence };
        if container.owner != Owner::System {
            evidence.note(
                "it is in a pod that a user of this host may have made up, so nobody is asked about it",
            );
            return evidence;
        }
        // Labels come and go while the process stays what it is.
        evidence.passing = true;
        self.connected.add(subject.peer());
        let (pods, namespaces) = self.gathered(sources);
        let awaited = self.in_vain.lock().get(&container.id).is_none();
        let found = pods.find(pod_uid.as_str(), awaited, |pod| pod.has(&container.id)).await;
        if matches!(found, Err(Absent::Unknown)) {
            self.in_vain.lock().put(container.id.clone(), ());
        }
        let Some(pod) = taken(found, &mut evidence, || {
            format!(
                "{} does not know the container {} in the pod {pod_uid} (yet)",
                sources.of_pods(),
                container.id
            )
        }) else {
            return evidence;
        };
        pod.tell(&container.id, wanted, &mut evidence);
        if wanted.asks(KIND, "ns-label") {
            let Some(namespaces) = namespaces else {
                evidence.note("no labels of namespaces: attestors.k8s.namespace_labels is off");
                return evidence;
            };
            let found = namespaces.find(pod.namespace(), true, |_| true).await;
            let unknown = || format!("the API server does not know the namespace {} (yet)", pod.namespace());
            if let Some(namespace) = taken(found, &mut evidence, unknown) {
                namespace.tell(&mut evidence);
            }
        }
        evidence
    }

    /// A container that has just begun is known to its kubelet a moment later.
    fn deadline(&self) -> std::time::Duration {
        gathered::LONGEST_SEARCH * 2 + std::time::Duration::from_secs(2)
    }
}

impl Connected {
    fn add(&self, peer: &Arc<Peer>) {
        let mut all = self.0.lock();
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(Arc::downgrade(peer));
    }

    fn is_anybody(&self) -> bool {
        let mut all = self.0.lock();
        all.retain(|one| one.strong_count() > 0);
        !all.is_empty()
    }
}

/// What was found; the reason where nothing was, or where it is old because nobody answers any more.
fn taken<T>(
    found: Result<gathered::Found<T>, Absent>,
    evidence: &mut Evidence,
    unknown: impl FnOnce() -> String,
) -> Option<Arc<T>> {
    match found {
        Ok(found) => {
            if let Some(trouble) = found.trouble {
                evidence.fail(trouble);
            }
            Some(found.object)
        }
        Err(Absent::Trouble(trouble)) => {
            evidence.fail(trouble);
            None
        }
        Err(Absent::Unknown) => {
            evidence.note_for_now(unknown());
            None
        }
    }
}

/// Facts that make selectors; the others are counted.
fn facts(
    values: impl IntoIterator<Item = String>,
    source: &'static str,
    unusable: &mut usize,
) -> Vec<crate::Fact> {
    let mut evidence = Evidence::default();
    values.into_iter().for_each(|value| evidence.add(KIND, &value, source, Strength::Platform));
    *unusable += evidence.notes.len();
    evidence.facts
}

const KIND: &str = "k8s";

/// Half of how many of them are remembered.
const IN_VAIN: usize = 1024;

/// The names of its selectors.
pub(crate) const FACTS: &[&str] = &[
    "ns",
    "sa",
    "node-name",
    "pod-name",
    "pod-uid",
    "pod-label",
    "pod-owner",
    "pod-owner-uid",
    "pod-image",
    "pod-image-count",
    "pod-init-image",
    "pod-init-image-count",
    "container-name",
    "container-image",
    "ns-label",
];

#[cfg(test)]
mod tests;
