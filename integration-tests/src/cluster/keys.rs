//! The certificates by which a cluster's parts know one another.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use super::{API, NODE};

/// A folder with an authority, and a certificate and key for each part and for the administrator.
#[derive(Debug)]
pub(super) struct Keys(PathBuf);

impl Keys {
    pub(super) fn make(folder: &Path) -> Self {
        fs::create_dir(folder).expect("the folder is ours");
        let keys = Self(folder.to_owned());
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        root.distinguished_name.push(DnType::CommonName, "cluster");
        let root_key = KeyPair::generate().expect("keys can be made");
        keys.write("ca.pem", &root.self_signed(&root_key).expect("a root can be made").pem());
        let authority = Issuer::from_params(&root, &root_key);
        keys.certify(&authority, "api-server", "kube-apiserver", None);
        keys.certify(&authority, "kubelet", &format!("system:node:{NODE}"), Some("system:nodes"));
        keys.certify(&authority, "admin", "admin", Some("system:masters"));
        let tokens = KeyPair::generate().expect("keys can be made");
        keys.write("tokens.key", &tokens.serialize_pem());
        keys.write("tokens.pub", &tokens.public_key_pem());
        fs::write(
            keys.file("kubeconfig"),
            kubeconfig(
                &keys.file("ca.pem"),
                &json!({
                    "client-certificate": keys.file("kubelet.pem"), "client-key": keys.file("kubelet.key"),
                }),
            ),
        )
        .expect("the folder is ours");
        keys
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn certify(&self, authority: &Issuer<'_, &KeyPair>, file: &str, name: &str, group: Option<&str>) {
        let names = ["localhost", "kubernetes.default.svc", NODE]
            .map(|name| SanType::DnsName(name.try_into().expect("a name is ASCII")));
        let addresses = [[127, 0, 0, 1], [10, 78, 0, 1]].map(|address| SanType::IpAddress(address.into()));
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = names.into_iter().chain(addresses).collect();
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            leaf.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate().expect("keys can be made");
        let leaf = leaf.signed_by(&key, authority).expect("a leaf can be made");
        self.write(&format!("{file}.pem"), &leaf.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).expect("the folder is ours");
    }
}

/// A kubeconfig for the cluster's API server; JSON is YAML too.
pub(super) fn kubeconfig(authority: &Path, user: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": API, "certificate-authority": authority } }],
        "users": [{ "name": "it", "user": user }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    })
    .to_string()
}
