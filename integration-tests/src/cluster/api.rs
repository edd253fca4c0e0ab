//! What an administrator says to the API server: HTTP over a connection of its own for each request.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::Cluster;
use crate::running::eventually;
use crate::spire::PATIENCE;

impl Cluster {
    /// Makes an object, or makes an existing one so.
    #[track_caller]
    pub fn apply(&self, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, name) = (text(&object["apiVersion"]), text(&object["metadata"]["name"]));
        let group =
            if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let namespace = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("/namespaces/{namespace}"),
            None => String::new(),
        };
        let plural = format!("{}s", text(&object["kind"]).to_lowercase());
        let path = format!("{group}{namespace}/{plural}/{name}?fieldManager=story&force=true");
        // Rules and admission are there a moment after the API server calls itself ready.
        eventually(&format!("the API server takes {path}"), PATIENCE, || {
            (self.request("APPLY", &path, Some(object)).0 < 300).then_some(())
        });
    }

    /// What the API server has at a path; it must be there.
    #[track_caller]
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.request("GET", path, None);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Posts an object; the API server must take it.
    #[track_caller]
    #[must_use]
    pub fn post(&self, path: &str, object: &Value) -> Value {
        let (status, answer) = self.request("POST", path, Some(object));
        assert!(status < 300, "{path}: {answer}");
        answer
    }

    /// Changes members of an object.
    #[track_caller]
    pub fn patch(&self, path: &str, change: &Value) {
        let (status, answer) = self.request("PATCH", path, Some(change));
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// Looks at an object until it is as wanted.
    #[track_caller]
    pub fn wait(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{what} ({path})"), PATIENCE, || {
            let (status, object) = self.try_get(path);
            (status == 200 && wanted(&object)).then_some(object)
        })
    }

    /// The answer's status, 0 where there is none, and its body.
    pub(super) fn try_get(&self, path: &str) -> (u16, Value) {
        self.request("GET", path, None)
    }

    /// `APPLY` and `PATCH` are two kinds of the same method.
    pub(super) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.exchange(method, path, body).unwrap_or_else(|error| (0, Value::String(error.to_string())))
    }

    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let tls = ClientConnection::new(self.client(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, self.connect(6443)?);
        let body = body.map(Value::to_string).unwrap_or_default();
        let (method, kind) = match method {
            "APPLY" => ("PATCH", "application/apply-patch+yaml"),
            "PATCH" => ("PATCH", "application/merge-patch+json"),
            other => (other, "application/json"),
        };
        // By HTTP 1.0, so that the answer comes in one piece and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            _ => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
    }

    fn client(&self) -> Arc<ClientConfig> {
        let read = |name| std::fs::read(self.keys.file(name)).expect("we wrote it");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(&read("ca.pem")).expect("it is a certificate");
        roots.add(root).expect("it is an authority");
        let chain = vec![CertificateDer::from_pem_slice(&read("admin.pem")).expect("it is a certificate")];
        let key = PrivateKeyDer::from_pem_slice(&read("admin.key")).expect("it is a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS is there")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key);
        Arc::new(config.expect("key and certificate belong together"))
    }
}
