//! How a cluster's API server is reached: by a kubeconfig file, or from inside of the cluster.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{StatusCode, Uri};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    file,
    https::{Answer, Host, HttpsError, Identity},
    node::server::Refused,
};

/// An API server, and who asks it.
pub(super) struct Cluster {
    host: Host,
    token: Token,
}

/// What says who asks, where it is not a certificate.
enum Token {
    None,
    Text(Zeroizing<String>),
    /// Read anew each time, since it is replaced from time to time.
    File(PathBuf),
}

/// The parts of a kubeconfig that are used.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: String,
    contexts: Vec<Named<Context>>,
    clusters: Vec<Named<ApiServer>>,
    users: Vec<Named<User>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "context", alias = "cluster", alias = "user")]
    it: T,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ApiServer {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    #[serde(rename = "auth-provider")]
    auth_provider: Option<serde::de::IgnoredAny>,
}

const MAX_FILE: u64 = 1024 * 1024;
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Cluster {
    /// By a kubeconfig file.
    pub(super) fn by_file(path: &Path) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = file::read_now(path, MAX_FILE).map_err(|error| said(&error))?;
        let text = std::str::from_utf8(&text).map_err(|error| said(&error))?;
        let config: Kubeconfig = serde_norway::from_str(text).map_err(|error| said(&error))?;
        let beside = path.parent().unwrap_or(Path::new("/"));
        config.cluster(beside).map_err(|says| said(&says))
    }

    /// As a pod of the cluster, by what each pod finds.
    pub(super) fn from_inside() -> Result<Self, String> {
        let variable = |name: &str| {
            std::env::var(name)
                .map_err(|_| format!("there is no {name}; outside of a cluster, set kube_config_file"))
        };
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let server = format!("https://{host}:{}", variable("KUBERNETES_SERVICE_PORT")?);
        let authority = Path::new(IN_CLUSTER).join("ca.crt");
        let said = |error: io::Error| format!("{}: {error}", authority.display());
        let authorities = file::read_now(&authority, MAX_FILE).and_then(|pem| file::certificates(&pem));
        let host = host_of(&server, &authorities.map_err(said)?, None)?;
        Ok(Self { host, token: Token::File(Path::new(IN_CLUSTER).join("token")) })
    }

    /// What is at `path`.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Refused> {
        let token = self.token().await?;
        expected(self.host.get(path, token.as_ref().map(|token| token.as_str())).await, path)
    }

    /// Says something to what is at `path`.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, Refused> {
        let token = self.token().await?;
        expected(self.host.post(path, token.as_ref().map(|token| token.as_str()), body).await, path)
    }

    async fn token(&self) -> Result<Option<Zeroizing<String>>, Refused> {
        match &self.token {
            Token::None => Ok(None),
            Token::Text(token) => Ok(Some(token.clone())),
            Token::File(path) => {
                let failed = |error: &dyn std::fmt::Display| {
                    Refused::Unavailable(format!("{}: {error}", path.display()))
                };
                let token = file::read(path, MAX_FILE).await.map_err(|error| failed(&error))?;
                let token = Zeroizing::new(String::from_utf8(token).map_err(|error| failed(&error))?);
                Ok(Some(Zeroizing::new(token.trim().to_owned())))
            }
        }
    }
}

/// Whatever is wrong with the API server or with how we ask is not the node's fault.
fn expected(answer: Result<Answer, HttpsError>, path: &str) -> Result<Answer, Refused> {
    let answer = answer.map_err(|error| Refused::Unavailable(error.to_string()))?;
    match answer.status {
        StatusCode::OK | StatusCode::CREATED | StatusCode::NOT_FOUND => Ok(answer),
        other => Err(Refused::Unavailable(format!("the API server answers {other} to {path}"))),
    }
}

impl Kubeconfig {
    fn cluster(self, beside: &Path) -> Result<Cluster, String> {
        let Self { current_context, contexts, clusters, users } = self;
        let context = named(contexts, &current_context, "context")?;
        let api = named(clusters, &context.cluster, "cluster")?;
        let user = named(users, &context.user, "user")?;
        if api.insecure_skip_tls_verify {
            return Err(
                "insecure-skip-tls-verify would let anybody say who a node is; name the authority".to_owned()
            );
        }
        if user.exec.is_some() || user.auth_provider.is_some() {
            return Err("programs that make credentials are not run; give the user a token or a certificate"
                .to_owned());
        }
        let read = |data: Option<String>, path: Option<PathBuf>| -> Result<Option<Vec<u8>>, String> {
            match (data, path) {
                (Some(data), _) => STANDARD.decode(data).map(Some).map_err(|error| error.to_string()),
                (None, Some(path)) => {
                    let path = beside.join(path);
                    let read = file::read_now(&path, MAX_FILE);
                    read.map(Some).map_err(|error| format!("{}: {error}", path.display()))
                }
                (None, None) => Ok(None),
            }
        };
        let authority = read(api.certificate_authority_data, api.certificate_authority)?;
        let authority = authority.ok_or("the cluster has no certificate-authority")?;
        let authorities = file::certificates(&authority).map_err(|error| error.to_string())?;
        let certificate = read(user.client_certificate_data, user.client_certificate)?;
        let key = read(user.client_key_data, user.client_key)?.map(Zeroizing::new);
        let identity = match (certificate, key) {
            (None, None) => None,
            (Some(chain), Some(key)) => {
                let chain = file::certificates(&chain).map_err(|error| error.to_string())?;
                let key =
                    PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("client-key: {error}"))?;
                Some((chain, key))
            }
            _ => return Err("the user has one of client-certificate and client-key, but not both".to_owned()),
        };
        let token = match (user.token_file, user.token) {
            (Some(path), _) => Token::File(beside.join(path)),
            (None, Some(token)) => Token::Text(Zeroizing::new(token)),
            (None, None) => Token::None,
        };
        Ok(Cluster { host: host_of(&api.server, &authorities, identity)?, token })
    }
}

fn host_of(
    server: &str,
    authorities: &[CertificateDer<'static>],
    identity: Option<Identity>,
) -> Result<Host, String> {
    let uri: Uri = server.parse().map_err(|_| format!("{server:?} is not an address"))?;
    Host::of(&uri, authorities, identity).map_err(|error| error.to_string())
}

fn named<T>(all: Vec<Named<T>>, name: &str, kind: &str) -> Result<T, String> {
    let found = all.into_iter().find(|named| named.name == name).map(|named| named.it);
    found.ok_or_else(|| format!("there is no {kind} {name:?}"))
}
