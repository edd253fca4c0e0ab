//! What the API server says: of a token, of the pod that it is bound to, and of that pod's node.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::node::server::Refused;

/// Whose token it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Holder {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
    /// Newer API servers bind tokens to nodes as well.
    pub(super) node: Option<String>,
    /// For whom the API server says that the token is meant.
    pub(super) audiences: Vec<String>,
}

/// The pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Pod {
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) host_ip: String,
    pub(super) service_account: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// The node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
}

pub(super) const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// The question whose token this is, and whether it is meant for one of these.
pub(super) fn question(token: &str, audiences: &[String]) -> Vec<u8> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": token, "audiences": audiences },
    });
    review.to_string().into_bytes()
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    uid: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    service_account_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "hostIP")]
    host_ip: String,
}

impl Holder {
    /// Reads a TokenReview.
    pub(super) fn read(answer: &[u8]) -> Result<Self, Refused> {
        let Review { status } = parsed(answer, "a TokenReview")?;
        if !status.authenticated {
            return Err(not_proved("the API server does not know the token"));
        }
        let User { username, extra } = status.user;
        let names: Vec<&str> = username.split(':').collect();
        let ["system", "serviceaccount", namespace, service_account] = names.as_slice() else {
            return Err(not_proved("the token is not of a service account"));
        };
        let only = |key: &str| match extra.get(key).map(Vec::as_slice) {
            Some([value]) if is_name(value) => Some(value.clone()),
            _ => None,
        };
        let bound = |key: &str| only(key).ok_or_else(|| not_proved("the token is not bound to a pod"));
        if !is_name(namespace) || !is_name(service_account) {
            return Err(not_proved("the API server gives a name that is none"));
        }
        Ok(Self {
            namespace: (*namespace).to_owned(),
            service_account: (*service_account).to_owned(),
            pod: bound("authentication.kubernetes.io/pod-name")?,
            pod_uid: bound("authentication.kubernetes.io/pod-uid")?,
            node: only("authentication.kubernetes.io/node-name"),
            audiences: status.audiences,
        })
    }

    pub(super) fn pod_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.pod)
    }
}

impl Pod {
    /// Reads a pod.
    pub(super) fn read(answer: &[u8]) -> Result<Self, Refused> {
        let Object { metadata, spec, status } = parsed(answer, "a pod")?;
        if !is_name(&spec.node_name) {
            return Err(not_proved("the pod is on no node"));
        }
        let Metadata { uid, labels, .. } = metadata;
        let Spec { node_name, service_account_name } = spec;
        Ok(Self {
            uid,
            labels,
            node: node_name,
            service_account: service_account_name,
            host_ip: status.host_ip,
        })
    }

    pub(super) fn node_path(&self) -> String {
        format!("/api/v1/nodes/{}", self.node)
    }
}

impl Node {
    /// Reads a node.
    pub(super) fn read(answer: &[u8]) -> Result<Self, Refused> {
        let Object { metadata: Metadata { name, uid, labels }, .. } = parsed(answer, "a node")?;
        match is_name(&uid) {
            true => Ok(Self { name, uid, labels }),
            false => Err(not_proved("the node has no UID")),
        }
    }
}

/// A DNS subdomain (RFC 1123), which names of objects and UIDs are: nothing that could lead a path elsewhere.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('.')
        && !text.contains("..")
}

fn parsed<'a, T: Deserialize<'a>>(answer: &'a [u8], what: &str) -> Result<T, Refused> {
    serde_json::from_slice(answer)
        .map_err(|error| not_proved(&format!("the API server's answer is not {what}: {error}")))
}

fn not_proved(says: &str) -> Refused {
    Refused::NotProved(says.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn review() -> Value {
        json!({ "status": {
            "authenticated": true, "audiences": ["spire-server"],
            "user": { "username": "system:serviceaccount:spire:agent", "extra": {
                "authentication.kubernetes.io/pod-name": ["agent-x"],
                "authentication.kubernetes.io/pod-uid": ["0-1"],
                "authentication.kubernetes.io/node-name": ["node1"],
            } },
        } })
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<Holder, Refused> {
        let mut review = review();
        change(&mut review);
        Holder::read(review.to_string().as_bytes())
    }

    #[test]
    fn a_review_says_whose_token_it_is() {
        let holder = read(|_| {}).unwrap();
        assert_eq!((holder.namespace.as_str(), holder.service_account.as_str()), ("spire", "agent"));
        assert_eq!(holder.pod_path(), "/api/v1/namespaces/spire/pods/agent-x");
        assert_eq!(holder.node.as_deref(), Some("node1"));
    }

    #[test]
    fn whatever_is_missing_or_odd_in_a_review_proves_nothing() {
        let extra = |name: &str| format!("/status/user/extra/authentication.kubernetes.io~1{name}");
        for (pointer, value) in [
            ("/status/authenticated".to_owned(), json!(false)),
            ("/status/user/username".to_owned(), json!("system:serviceaccount:spire")),
            ("/status/user/username".to_owned(), json!("system:serviceaccount:spire:agent:x")),
            ("/status/user/username".to_owned(), json!("system:serviceaccount:a/b:agent")),
            ("/status/user/username".to_owned(), json!("system:node:spire:agent")),
            ("/status/user/username".to_owned(), json!("")),
            (extra("pod-name"), json!([])),
            (extra("pod-name"), json!(["a", "b"])),
            (extra("pod-name"), json!(["../../nodes"])),
            (extra("pod-name"), json!(["a?b"])),
            (extra("pod-uid"), json!([""])),
        ] {
            let result = read(|review| *review.pointer_mut(&pointer).expect("it is there") = value.clone());
            assert!(result.is_err(), "{pointer}: {value}");
        }
        for nonsense in ["", "{}", "[]", "{\"status\":[]}"] {
            assert!(Holder::read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
