//! A server behind an address: MCP's streamable HTTP, from a client's side.

mod events;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use registry::scope::ResourceName;
use serde_json::{Value, json};

use self::{
    events::Events,
    wire::{Answer, Place},
};
use super::{
    Failure, Reply,
    link::{self, Said},
};
use crate::{
    config::{BadConfig, Limits, Upstream},
    secret::Secret,
};

/// A server's address, and the session that it gave us, if any.
pub(super) struct Http {
    place: Arc<Place>,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    last: AtomicU64,
    changes: AtomicU64,
}

/// What the server wants to hear with each request.
struct Session {
    id: Option<HeaderValue>,
    revision: HeaderValue,
}

impl Http {
    pub(super) fn open(
        name: &ResourceName,
        url: &str,
        config: &Upstream,
        limits: &Limits,
    ) -> Result<Self, BadConfig> {
        let mut place = Place::parse(name, url, config.ca_file.as_deref(), limits.answer_bytes)?;
        let bad = |header: &str| BadConfig::Header(name.clone(), header.to_owned());
        let plain = config.headers.iter().map(|(header, value)| (header, value.clone(), false));
        let secrets = Secret::read_all(&config.secret_headers)?;
        let secret = secrets.iter().map(|(header, secret)| (header, secret.reveal().to_owned(), true));
        for (header, value, is_secret) in plain.chain(secret) {
            let parsed: HeaderName = header.parse().map_err(|_| bad(header))?;
            let mut value = HeaderValue::try_from(value).map_err(|_| bad(header))?;
            value.set_sensitive(is_secret);
            place.headers.insert(parsed, value);
        }
        Ok(Self {
            place: Arc::new(place),
            session: tokio::sync::Mutex::default(),
            last: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        })
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    pub(super) async fn request(&self, method: &str, params: &[u8]) -> Result<Reply, Failure> {
        let session = self.session().await?;
        match self.ask(&session, method, params).await? {
            Some(reply) => Ok(reply),
            // It does not know the session any more, so it has done nothing; once more, in a new one.
            None => {
                self.forget(&session).await;
                let session = self.session().await?;
                let lost = || Failure::NotSent("the upstream forgets its sessions at once".to_owned());
                self.ask(&session, method, params).await?.ok_or_else(lost)
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut known = self.session.lock().await;
        if let Some(session) = &*known {
            return Ok(session.clone());
        }
        let not_sent = |failure: Failure| Failure::NotSent(failure.to_string());
        let session = Arc::new(self.greet().await.map_err(not_sent)?);
        self.changes.fetch_add(1, SeqCst);
        *known = Some(session.clone());
        Ok(session)
    }

    async fn forget(&self, session: &Arc<Session>) {
        let mut known = self.session.lock().await;
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, session)) {
            *known = None;
        }
    }

    async fn greet(&self) -> Result<Session, Failure> {
        let new = Session { id: None, revision: HeaderValue::from_static(link::REVISION) };
        let id = self.next();
        let body = link::request(id, "initialize", &link::greeting().to_string().into_bytes());
        let answer = self.post(&new, body).await?;
        let session_id = answer.head.headers.get(SESSION).cloned();
        let result = match self.reply(&new, id, answer).await? {
            Reply::Result(result) => result,
            Reply::Error(error) => return Err(Failure::NotSent(format!("it refuses initialize: {error}"))),
        };
        let revision = result.get("protocolVersion").and_then(Value::as_str).unwrap_or(link::REVISION);
        let revision = HeaderValue::from_str(revision)
            .map_err(|_| Failure::NotSent("it speaks a revision that has no name".to_owned()))?;
        let session = Session { id: session_id, revision };
        let ready = link::notification("notifications/initialized", &json!({}));
        self.post(&session, ready).await?;
        Ok(session)
    }

    /// Asks, and reads until the answer is there; `None` where the server does not know the session.
    async fn ask(&self, session: &Session, method: &str, params: &[u8]) -> Result<Option<Reply>, Failure> {
        let id = self.next();
        let answer = self.post(session, link::request(id, method, params)).await?;
        if answer.head.status == StatusCode::NOT_FOUND && session.id.is_some() {
            return Ok(None);
        }
        self.reply(session, id, answer).await.map(Some)
    }

    async fn reply(&self, session: &Session, id: u64, answer: Answer) -> Result<Reply, Failure> {
        let status = answer.head.status;
        if !status.is_success() {
            return Err(Failure::Lost(format!("the upstream answered with status {status}")));
        }
        let kind = answer.head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let lost = |why: String| Failure::Lost(format!("of the upstream's answer: {why}"));
        if kind == "application/json" {
            let bytes = answer.whole().await.map_err(lost)?;
            return match link::read(&bytes).map_err(lost)? {
                Said::Answer(answered, reply) if answered == id => Ok(reply),
                _ => Err(lost("it answers another question".to_owned())),
            };
        }
        if kind != "text/event-stream" {
            return Err(lost(format!("it is of the kind {kind:?}, which is not understood")));
        }
        let mut events = Events::of(answer);
        while let Some(data) = events.next().await.map_err(lost)? {
            match link::read(&data).map_err(lost)? {
                Said::Answer(answered, reply) if answered == id => return Ok(reply),
                Said::Answer(..) => return Err(lost("it answers another question".to_owned())),
                Said::Request(asked) => drop(self.post(session, link::denial(&asked)).await),
                Said::ToolsChanged => drop(self.changes.fetch_add(1, SeqCst)),
                Said::Nothing => {}
            }
        }
        Err(lost("it ended before there was one".to_owned()))
    }

    async fn post(&self, session: &Session, body: Vec<u8>) -> Result<Answer, Failure> {
        let request = ::http::Request::builder()
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(REVISION, session.revision.clone());
        let request = match &session.id {
            Some(id) => request.header(SESSION, id.clone()),
            None => request,
        };
        self.place.send(request, body).await
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, SeqCst) + 1
    }
}

const SESSION: &str = "mcp-session-id";
const REVISION: &str = "mcp-protocol-version";
