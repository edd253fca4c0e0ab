//! The server's half: the API server is asked whose token it is, then for the pod and its node.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spiffe::{
    TrustDomain,
    jwt::{Compact, MAX_TOKEN_BYTES},
};
use tokio::sync::Semaphore;

use super::{
    NAME, Payload,
    cluster::Cluster,
    review::{Holder, Node, Pod, REVIEWS, question},
};
use crate::node::{
    Verified,
    server::{ConfigError, Half, Proof, Refused, Step, Surroundings, node_id, select},
};

/// The clusters whose nodes may attest, by the names that their agents call them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// By name.
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// One cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// `namespace:name` of the service accounts under which agents run.
    pub service_account_allow_list: Vec<String>,
    /// Whom tokens must be meant for.
    #[serde(default = "audience")]
    pub audience: Vec<String>,
    /// How the API server is reached; without it, as a pod of the cluster does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_config_file: Option<PathBuf>,
    /// Labels of nodes that become selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_node_label_keys: Vec<String>,
    /// Labels of pods that become selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_pod_label_keys: Vec<String>,
}

/// SPIRE's.
fn audience() -> Vec<String> {
    vec!["spire-server".to_owned()]
}

/// The attestor.
pub(crate) struct K8sPsat {
    clusters: Vec<(Cluster, Rules)>,
    /// So many tokens are asked about at once.
    places: Semaphore,
}

/// What holds for the nodes of a cluster.
#[derive(Clone)]
struct Rules {
    name: String,
    trust_domain: TrustDomain,
    config: ClusterConfig,
}

const AT_ONCE: usize = 16;

impl Config {
    /// Whether what is said goes together; no file is looked at.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (name, cluster) in &self.clusters {
            let wrong = |says: &str| ConfigError::Contradiction {
                attestor: NAME,
                says: format!("cluster {name:?} {says}"),
            };
            let is_segment = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_segment) || name == "." || name == ".." {
                return Err(wrong("must be named with letters, digits, dots, dashes and underscores"));
            }
            if cluster.service_account_allow_list.is_empty() {
                return Err(wrong("has no service_account_allow_list, so nobody could attest"));
            }
            let is_account = |account: &String| account.split(':').count() == 2;
            if !cluster.service_account_allow_list.iter().all(is_account) {
                return Err(wrong("has a service account that is not of the form namespace:name"));
            }
            if cluster.audience.is_empty() {
                return Err(wrong("has no audience, so every token of such a pod would count"));
            }
        }
        match self.clusters.is_empty() {
            true => {
                Err(ConfigError::Contradiction { attestor: NAME, says: "there is no cluster".to_owned() })
            }
            false => Ok(()),
        }
    }
}

impl K8sPsat {
    pub(crate) fn new(config: &Config, own: &TrustDomain) -> Result<Self, ConfigError> {
        config.check()?;
        let cluster = |(name, config): (&String, &ClusterConfig)| {
            let reached = match &config.kube_config_file {
                Some(path) => Cluster::by_file(path),
                None => Cluster::from_inside(),
            };
            let wrong = |says: String| ConfigError::Contradiction {
                attestor: NAME,
                says: format!("cluster {name:?}: {says}"),
            };
            let (name, trust_domain, config) = (name.clone(), own.clone(), config.clone());
            Ok((reached.map_err(wrong)?, Rules { name, trust_domain, config }))
        };
        let clusters = config.clusters.iter().map(cluster).collect::<Result<_, ConfigError>>()?;
        Ok(Self { clusters, places: Semaphore::new(AT_ONCE) })
    }
}

#[async_trait]
impl Half for K8sPsat {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn begin(&self, payload: &[u8], _: &Surroundings<'_>) -> Result<Step, Refused> {
        let payload: Payload =
            serde_json::from_slice(payload).map_err(|error| not_proved(&format!("the payload: {error}")))?;
        // The stranger only chooses among the clusters that an operator named.
        let cluster = self.clusters.iter().find(|(_, rules)| rules.name == payload.cluster);
        let (cluster, rules) = cluster.ok_or_else(|| not_proved("there is no such cluster here"))?;
        // What cannot be a token is not worth a question.
        if payload.token.len() > MAX_TOKEN_BYTES || Compact::parse_of_issuer(&payload.token).is_err() {
            return Err(not_proved("what was shown is not a signed token"));
        }
        let _place = self
            .places
            .try_acquire()
            .map_err(|_| Refused::Unavailable("too many tokens are being reviewed".to_owned()))?;
        let asked = question(&payload.token, &rules.config.audience);
        let review = cluster.post(REVIEWS, asked).await?;
        let holder = Verified::of_answer(&review, Holder::read)?.follow(rules, allowed)?;
        let pod = Verified::of_answer(&cluster.get(&holder.get().pod_path()).await?, Pod::read)?;
        let node = Verified::of_answer(&cluster.get(&pod.get().node_path()).await?, Node::read)?;
        Ok(Step::Proved(holder.and(pod).and(node).follow(rules, proof)?))
    }
}

/// Whoever holds the token, if it is one of those who may attest.
fn allowed(holder: &Holder, rules: &Rules) -> Result<Holder, Refused> {
    let account = format!("{}:{}", holder.namespace, holder.service_account);
    if !rules.config.service_account_allow_list.contains(&account) {
        return Err(not_proved(&format!(
            "the service account {account} is not in service_account_allow_list"
        )));
    }
    if !holder.audiences.iter().any(|audience| rules.config.audience.contains(audience)) {
        return Err(not_proved("the token is meant for another audience"));
    }
    Ok(holder.clone())
}

fn proof(((holder, pod), node): &((Holder, Pod), Node), rules: &Rules) -> Result<Proof, Refused> {
    if pod.uid != holder.pod_uid || pod.service_account != holder.service_account {
        return Err(not_proved("the token's pod is gone, and another has its name"));
    }
    if node.name != pod.node || holder.node.as_ref().is_some_and(|bound| *bound != pod.node) {
        return Err(not_proved("the token's pod is on another node"));
    }
    let mut selectors = BTreeSet::new();
    let mut add = |name: &str, value: &str| select(&mut selectors, NAME, &format!("{name}:{value}"));
    add("cluster", &rules.name);
    add("agent_ns", &holder.namespace);
    add("agent_sa", &holder.service_account);
    add("agent_pod_name", &holder.pod);
    add("agent_pod_uid", &holder.pod_uid);
    add("agent_node_name", &node.name);
    add("agent_node_uid", &node.uid);
    if !pod.host_ip.is_empty() {
        add("agent_node_ip", &pod.host_ip);
    }
    let labels = |allowed: &[String], labels: &BTreeMap<String, String>| -> Vec<String> {
        allowed.iter().filter_map(|key| Some(format!("{key}:{}", labels.get(key)?))).collect()
    };
    for label in labels(&rules.config.allowed_node_label_keys, &node.labels) {
        add("agent_node_label", &label);
    }
    for label in labels(&rules.config.allowed_pod_label_keys, &pod.labels) {
        add("agent_pod_label", &label);
    }
    let id = node_id(&rules.trust_domain, &format!("/{NAME}/{}/{}", rules.name, node.uid))?;
    Ok(Proof { id, twin: None, selectors, once: None })
}

fn not_proved(says: &str) -> Refused {
    Refused::NotProved(says.to_owned())
}
