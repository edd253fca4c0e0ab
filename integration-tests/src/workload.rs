//! A workload that speaks the Workload API, in this process or over a socket that it was handed.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper_util::rt::TokioIo;
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, ValidateJwtsvidRequest, X509svidRequest,
    X509svidResponse,
};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// One connection to an agent.
#[derive(Clone, Debug)]
pub struct Workload(SpiffeWorkloadApiClient<Channel>);

/// One X.509-SVID as it was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Svid {
    /// Its SPIFFE ID.
    pub id: String,
    /// The serial number of its leaf.
    pub serial: String,
    /// The key that signed its leaf, as authorities are named.
    pub authority: String,
    /// When its leaf ends, in Unix seconds.
    pub not_after: i64,
    /// Its hint.
    pub hint: String,
}

/// One JWT-SVID as it was received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// The SPIFFE ID that came with it.
    pub id: String,
    /// JWS in compact serialisation.
    pub text: String,
    /// The name of the key that signed it, as its header says.
    pub kid: String,
    /// When it ends, in Unix seconds.
    pub exp: i64,
}

/// A stream of X.509-SVIDs: asked for, and open as soon as the agent says so.
#[derive(Debug)]
pub enum Watch {
    /// An agent may answer a waiting client only when it has something to say.
    Asked(JoinHandle<Result<Streaming<X509svidResponse>, Status>>),
    /// It has begun to answer.
    Open(Box<Streaming<X509svidResponse>>),
}

impl Workload {
    /// Connects to a Workload API.
    pub async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await;
        Self::over(stream.unwrap_or_else(|error| panic!("cannot connect to {}: {error}", socket.display())))
    }

    /// Speaks over a connection that is there already.
    pub async fn over_std(stream: StdUnixStream) -> Self {
        stream.set_nonblocking(true).expect("a socket can be made non-blocking");
        Self::over(UnixStream::from_std(stream).expect("a socket can be registered"))
    }

    fn over(stream: UnixStream) -> Self {
        // One connection and no other: what happens to it is what the stories are about.
        let once = Mutex::new(Some(stream));
        let connector = tower::service_fn(move |_| {
            let stream = once.lock().expect("nobody panics with it").take();
            async move {
                stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the connection is closed"))
            }
        });
        let endpoint = Endpoint::from_static("http://workload.invalid");
        Self(SpiffeWorkloadApiClient::new(endpoint.connect_with_connector_lazy(connector)))
    }

    /// Takes the first answer and ends the stream.
    pub async fn fetch(&self) -> Result<Vec<Svid>, Status> {
        self.watch().next().await
    }

    /// Asks for a stream.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch_with(&[("workload.spiffe.io", "true")])
    }

    /// The same with metadata of the story's choice.
    #[must_use]
    pub fn watch_with(&self, headers: &[(&'static str, &str)]) -> Watch {
        let mut request = Request::new(X509svidRequest {});
        for (name, value) in headers {
            let value = value.parse().expect("a story sends valid metadata");
            request.metadata_mut().append(*name, value);
        }
        let mut client = self.0.clone();
        Watch::Asked(tokio::spawn(async move {
            client.fetch_x509svid(request).await.map(|answer| answer.into_inner())
        }))
    }
}

impl Workload {
    /// Asks for a token of each identity.
    pub async fn tokens(&self, audiences: &[&str]) -> Result<Vec<Token>, Status> {
        let audience = audiences.iter().map(ToString::to_string).collect();
        let request = secure(JwtsvidRequest { audience, spiffe_id: String::new() });
        let answer = self.0.clone().fetch_jwtsvid(request).await?.into_inner();
        Ok(answer.svids.into_iter().map(Token::read).collect())
    }

    /// Asks for the token of the only identity.
    pub async fn token(&self, audience: &str) -> Result<Token, Status> {
        let mut tokens = self.tokens(&[audience]).await?;
        assert_eq!(tokens.len(), 1, "there is one identity: {tokens:?}");
        Ok(tokens.remove(0))
    }

    /// Has a token judged; gives whom it names.
    pub async fn validate(&self, audience: &str, token: &str) -> Result<String, Status> {
        let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
        Ok(self.0.clone().validate_jwtsvid(secure(request)).await?.into_inner().spiffe_id)
    }

    /// Asks for bundles for tokens, now and after each change.
    pub async fn jwt_bundles(&self) -> Result<Streaming<JwtBundlesResponse>, Status> {
        Ok(self.0.clone().fetch_jwt_bundles(secure(JwtBundlesRequest {})).await?.into_inner())
    }
}

impl Token {
    fn read(svid: proto::workload::Jwtsvid) -> Self {
        let part = |n: usize| -> Value {
            let part = svid.svid.split('.').nth(n).expect("a token has three parts");
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
        };
        Self {
            kid: part(0)["kid"].as_str().expect("it names its key").to_owned(),
            exp: part(1)["exp"].as_i64().expect("it says when it ends"),
            id: svid.spiffe_id,
            text: svid.svid,
        }
    }
}

/// A request with the header of the Workload API.
fn secure<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

impl Watch {
    /// The next message, or how the stream ended. Nothing is lost where this is not awaited to its end.
    pub async fn next(&mut self) -> Result<Vec<Svid>, Status> {
        if let Self::Asked(asked) = self {
            *self = Self::Open(Box::new(asked.await.expect("asking does not panic")?));
        }
        let Self::Open(stream) = self else { return Err(Status::unknown("it is open by now")) };
        match stream.message().await? {
            Some(message) => Ok(message.svids.iter().map(Svid::read).collect()),
            None => Err(Status::ok("the stream ended without an error")),
        }
    }

    /// Reads until a message is as wanted; panics when the time is over or the stream has ended.
    #[track_caller]
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&[Svid]) -> bool,
    ) -> impl Future<Output = Vec<Svid>> {
        let what = what.to_owned();
        async move {
            let search = async {
                loop {
                    match self.next().await {
                        Ok(svids) if wanted(&svids) => return svids,
                        Ok(_) => {}
                        Err(status) => panic!("{what}: the stream ended with {status}"),
                    }
                }
            };
            timeout(limit, search).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
        }
    }

    /// Reads until the stream ends, and says how; panics when the time is over.
    pub async fn ended(&mut self, limit: Duration) -> Status {
        let end = async {
            loop {
                if let Err(status) = self.next().await {
                    return status;
                }
            }
        };
        timeout(limit, end).await.unwrap_or_else(|_| panic!("the stream did not end within {limit:?}"))
    }
}

impl Svid {
    fn read(svid: &proto::workload::X509svid) -> Self {
        let (_, leaf) = X509Certificate::from_der(&svid.x509_svid).expect("an SVID begins with its leaf");
        assert!(!svid.x509_svid_key.is_empty(), "an SVID comes with its key");
        assert!(!svid.bundle.is_empty(), "an SVID comes with its trust domain's bundle");
        Self {
            id: svid.spiffe_id.clone(),
            serial: leaf.raw_serial_as_string(),
            authority: signer(&leaf),
            not_after: leaf.validity().not_after.timestamp(),
            hint: svid.hint.clone(),
        }
    }
}

/// The identifier of the key that signed a certificate, in hexadecimal.
fn signer(leaf: &X509Certificate<'_>) -> String {
    let signer = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(signer) => signer.key_identifier.as_ref(),
        _ => None,
    });
    signer.expect("an SVID names who signed it").0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SPIFFE IDs alone, sorted.
#[must_use]
pub fn ids(svids: &[Svid]) -> Vec<String> {
    let mut ids: Vec<_> = svids.iter().map(|svid| svid.id.clone()).collect();
    ids.sort();
    ids
}
