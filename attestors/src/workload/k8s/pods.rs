//! [`Pod`]: what is kept of a pod, and how lists of them are read. Pure but for where the bytes come from.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    KIND, facts,
    follow::{self, Object},
    gathered::Revised,
};
use crate::{
    Evidence, Fact, Wanted,
    cgroups::{ContainerId, PodUid},
    kube::{Answer, Trouble},
};

/// A pod and its containers, as facts.
#[derive(Debug)]
pub(super) struct Pod {
    namespace: String,
    facts: Vec<Fact>,
    containers: HashMap<ContainerId, Vec<Fact>>,
    /// How many of its labels or images make no selector.
    unusable: usize,
}

/// All pods of the node, from a kubelet's answer.
pub(super) async fn of_kubelet(answer: Answer) -> Result<HashMap<String, Arc<Pod>>, Trouble> {
    Ok(follow::list(answer).await?.objects)
}

impl Pod {
    /// Whether this is one of its containers.
    pub(super) fn has(&self, container: &ContainerId) -> bool {
        self.containers.contains_key(container)
    }

    /// Its namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Adds what is wanted of it and of that container.
    pub(super) fn tell(&self, container: &ContainerId, wanted: &Wanted, evidence: &mut Evidence) {
        let of_container = self.containers.get(container).into_iter().flatten();
        let is_wanted = |fact: &&Fact| {
            let name = fact.selector.value().split(':').next().unwrap_or_default();
            wanted.asks(KIND, name)
        };
        evidence.facts.extend(self.facts.iter().chain(of_container).filter(is_wanted).cloned());
        if self.unusable > 0 {
            evidence.note(format!("{} labels or images of its pod make no selectors", self.unusable));
        }
    }
}

impl Revised for Pod {
    /// That more containers run by now takes nothing back.
    fn is_contradicted_by(&self, newer: &Self) -> bool {
        let mut both = self.containers.iter().filter_map(|(id, was)| Some((was, newer.containers.get(id)?)));
        self.facts != newer.facts || both.any(|(was, is)| was != is)
    }
}

/// A pod as Kubernetes writes it, of what is read.
#[derive(Deserialize)]
pub(super) struct Written {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    kind: String,
    name: String,
    uid: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    service_account_name: String,
    #[serde(default)]
    node_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    container_statuses: Option<Vec<Container>>,
    init_container_statuses: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "imageID")]
    image_id: String,
    /// `containerd://` and the id; empty until it runs.
    #[serde(default, rename = "containerID")]
    container_id: String,
}

impl Object for Pod {
    type Written = Written;

    fn key(written: &Written) -> &str {
        &written.metadata.uid
    }

    /// `None` for one that no cgroup can name, or that is larger than any that Kubernetes allows.
    fn of(written: Written) -> Option<Self> {
        let Written { metadata, spec, status } = written;
        PodUid::parse(&metadata.uid)?;
        let containers = status.container_statuses.unwrap_or_default();
        let init_containers = status.init_container_statuses.unwrap_or_default();
        let labels = metadata.labels.unwrap_or_default();
        let owners = metadata.owner_references.unwrap_or_default();
        if labels.len() + owners.len() + containers.len() + init_containers.len() > MOST {
            return None;
        }
        let mut unusable = 0;
        let mut values = vec![
            format!("ns:{}", metadata.namespace),
            format!("sa:{}", spec.service_account_name),
            format!("node-name:{}", spec.node_name),
            format!("pod-name:{}", metadata.name),
            format!("pod-uid:{}", metadata.uid),
            format!("pod-image-count:{}", containers.len()),
            format!("pod-init-image-count:{}", init_containers.len()),
        ];
        values.extend(labels.iter().map(|(key, value)| format!("pod-label:{key}:{value}")));
        for Reference { kind, name, uid } in &owners {
            values.push(format!("pod-owner:{kind}:{name}"));
            values.push(format!("pod-owner-uid:{kind}:{uid}"));
        }
        values.extend(images(&containers).map(|image| format!("pod-image:{image}")));
        values.extend(images(&init_containers).map(|image| format!("pod-init-image:{image}")));
        let facts_of_pod = facts(values, "its pod, by Kubernetes", &mut unusable);
        let mut by_id = HashMap::new();
        for container in containers.iter().chain(&init_containers) {
            let id = container.container_id.split_once("://").map_or("", |(_, id)| id);
            let Some(id) = ContainerId::parse(id) else { continue };
            let mut values = vec![format!("container-name:{}", container.name)];
            values.extend(images([container]).map(|image| format!("container-image:{image}")));
            by_id.insert(id, facts(values, "its container, by Kubernetes", &mut unusable));
        }
        Some(Self { namespace: metadata.namespace, facts: facts_of_pod, containers: by_id, unusable })
    }
}

/// By name and by digest, each once.
fn images<'a>(containers: impl IntoIterator<Item = &'a Container>) -> impl Iterator<Item = &'a str> {
    let both = |container: &'a Container| [container.image.as_str(), container.image_id.as_str()];
    let images: BTreeSet<&str> =
        containers.into_iter().flat_map(both).filter(|image| !image.is_empty()).collect();
    images.into_iter()
}

/// Each makes facts that every entry of this node is compared with.
const MOST: usize = 4096;
