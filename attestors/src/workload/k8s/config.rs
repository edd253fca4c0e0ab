//! `[attestors.k8s]`: whom the attestor asks about pods.

use std::{env, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Connected, follow,
    gathered::Gathered,
    namespaces::Namespace,
    pods::{self, Pod},
};
use crate::{
    BadConfig, News,
    kube::{Access, Address, Identity},
};

/// Whom to ask about pods. Without this table nobody is asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whom to ask about pods.
    pub source: Source,
    /// This node's name; `MY_NODE_NAME` in the environment where it is not given.
    pub node_name: Option<String>,
    /// Where the kubelet listens.
    pub kubelet: String,
    /// The name in the kubelet's certificate, if it is not the host of its address.
    pub kubelet_name: Option<String>,
    /// Certificates of those who may vouch for the kubelet, or its own.
    pub kubelet_ca: PathBuf,
    /// Where the API server listens.
    pub api_server: String,
    /// Certificates of those who may vouch for the API server.
    pub api_server_ca: PathBuf,
    /// The agent's token, for the kubelet and the API server.
    pub token_file: PathBuf,
    /// A client certificate instead of the token.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub private_key: Option<PathBuf>,
    /// Whether the API server is asked for the labels of namespaces.
    pub namespace_labels: bool,
}

/// Who knows the pods of this node.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The kubelet, which is asked when there is somebody to be attested.
    #[default]
    Kubelet,
    /// The API server, which tells of each change.
    Api,
}

impl Default for Config {
    fn default() -> Self {
        let account = PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            source: Source::Kubelet,
            node_name: None,
            kubelet: "https://127.0.0.1:10250".into(),
            kubelet_name: None,
            kubelet_ca: account.join("ca.crt"),
            api_server: "https://kubernetes.default.svc".into(),
            api_server_ca: account.join("ca.crt"),
            token_file: account.join("token"),
            certificate: None,
            private_key: None,
            namespace_labels: false,
        }
    }
}

/// Where pods and namespaces are asked for, checked.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pods: Pods,
    namespaces: Option<Access>,
}

#[derive(Clone, Debug)]
enum Pods {
    Kubelet(Access),
    Api { access: Access, path: String },
}

impl Config {
    /// What can be done with it.
    pub(super) fn sources(&self) -> Result<Sources, BadConfig> {
        let identity = match (&self.certificate, &self.private_key) {
            (None, None) => Identity::Token(self.token_file.clone()),
            (Some(chain), Some(key)) => Identity::Certificate { chain: chain.clone(), key: key.clone() },
            _ => {
                return Err(BadConfig::new(
                    "attestors.k8s.certificate and attestors.k8s.private_key belong together: give both",
                ));
            }
        };
        let address = |key: &str, text: &str| -> Result<Address, BadConfig> {
            text.parse().map_err(|error| BadConfig::new(format!("attestors.k8s.{key}: {error}")))
        };
        let api_server = Access {
            address: address("api_server", &self.api_server)?,
            name: None,
            authority: self.api_server_ca.clone(),
            identity: identity.clone(),
        };
        let pods = match self.source {
            Source::Kubelet => Pods::Kubelet(Access {
                address: address("kubelet", &self.kubelet)?,
                name: self.kubelet_name.clone(),
                authority: self.kubelet_ca.clone(),
                identity,
            }),
            Source::Api => {
                let node = self.node()?;
                let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
                Pods::Api { access: api_server.clone(), path }
            }
        };
        Ok(Sources { pods, namespaces: self.namespace_labels.then_some(api_server) })
    }

    fn node(&self) -> Result<String, BadConfig> {
        let node = self.node_name.clone().or_else(|| env::var("MY_NODE_NAME").ok());
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        node.filter(|node| !node.is_empty() && node.len() <= 253 && node.bytes().all(allowed)).ok_or_else(|| {
            BadConfig::new(
                "attestors.k8s.source = \"api\" needs the name of this node: give attestors.k8s.node_name, or \
                 MY_NODE_NAME in the agent's environment",
            )
        })
    }
}

impl Sources {
    /// Who is asked about pods, for people.
    pub(super) fn of_pods(&self) -> &'static str {
        match self.pods {
            Pods::Kubelet(_) => "the kubelet",
            Pods::Api { .. } => "the API server",
        }
    }

    /// Begins to ask.
    pub(super) fn gather(
        &self,
        connected: &Arc<Connected>,
        news: &Arc<News>,
    ) -> (Gathered<Pod>, Option<Gathered<Namespace>>) {
        let pods = match &self.pods {
            Pods::Kubelet(access) => {
                Gathered::by_asking(access.clone(), pods::of_kubelet, connected.clone(), news.clone())
            }
            Pods::Api { access, path } => {
                Gathered::by(news.clone(), follow::keep_following(access.clone(), path.clone()))
            }
        };
        let namespaces = self.namespaces.as_ref().map(|access| {
            let path = "/api/v1/namespaces?".to_owned();
            Gathered::by(news.clone(), follow::keep_following(access.clone(), path))
        });
        (pods, namespaces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_a_pod_finds_and_half_a_certificate_is_an_error() {
        assert!(Config::default().sources().is_ok());
        let half = Config { certificate: Some("cert.pem".into()), ..Config::default() };
        assert!(half.sources().expect_err("half").to_string().contains("give both"));
        let open = Config { kubelet: "http://10.0.0.7:10255".into(), ..Config::default() };
        assert!(open.sources().expect_err("open").to_string().contains("attestors.k8s.kubelet"));
    }

    #[test]
    fn a_node_s_name_cannot_ask_for_the_pods_of_others() {
        let named =
            |name: &str| Config { source: Source::Api, node_name: Some(name.into()), ..Config::default() };
        assert!(named("node-1.acme.example").sources().is_ok());
        for name in ["", "a&b", "node1,metadata.name=x", "node 1", "Node1"] {
            assert!(named(name).sources().is_err(), "{name}");
        }
    }
}
