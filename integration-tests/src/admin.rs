//! An administrator who speaks SPIRE's Entry service on the server's socket: quicker than a command
//! for each entry, and the same door.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use proto::spire::server::entry::v1::entry_client::EntryClient;
use proto::spire::server::entry::v1::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, ListEntriesRequest, batch_create_entry_response,
};
use proto::spire::types::{Entry, EntryMask, Selector, Spiffeid};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// One connection to a server, made anew where it was lost.
#[derive(Clone, Debug)]
pub struct Admin(EntryClient<Channel>);

/// A channel to a Unix socket, connected with the first call and again after a loss.
#[must_use]
pub fn channel(socket: &Path) -> Channel {
    let socket = PathBuf::from(socket);
    Endpoint::from_static("http://socket.invalid").connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}

impl Admin {
    /// Speaks to the server behind this socket.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self(EntryClient::new(channel(socket)))
    }

    /// Creates one entry and returns its ID.
    pub async fn create(&mut self, id: &str, parent: &str, selector: &str) -> Result<String, Status> {
        let mut ids = self.create_all(&[(id.to_owned(), selector.to_owned())], parent).await?;
        ids.pop().ok_or_else(|| Status::unknown("no answer to one entry"))
    }

    /// Creates entries in one call and returns their IDs; the first refusal is the error.
    pub async fn create_all(
        &mut self,
        ids: &[(String, String)],
        parent: &str,
    ) -> Result<Vec<String>, Status> {
        let entries = ids.iter().map(|(id, selector)| Entry {
            spiffe_id: Some(spiffe_id(id)),
            parent_id: Some(spiffe_id(parent)),
            selectors: vec![self::selector(selector)],
            ..Entry::default()
        });
        let request =
            BatchCreateEntryRequest { entries: entries.collect(), output_mask: Some(EntryMask::default()) };
        let answer = self.0.batch_create_entry(request).await?.into_inner();
        let made = |result: batch_create_entry_response::Result| {
            judge(result.status)?;
            Ok(result.entry.ok_or_else(|| Status::unknown("a success without its entry"))?.id)
        };
        answer.results.into_iter().map(made).collect()
    }

    /// Deletes one entry.
    pub async fn delete(&mut self, entry: &str) -> Result<(), Status> {
        let request = BatchDeleteEntryRequest { ids: vec![entry.into()] };
        let answer = self.0.batch_delete_entry(request).await?.into_inner();
        let result = answer.results.into_iter().next().ok_or_else(|| Status::unknown("no answer"))?;
        judge(result.status)
    }

    /// The IDs of all entries.
    pub async fn list(&mut self) -> Result<Vec<String>, Status> {
        let mut all = Vec::new();
        let mut page = String::new();
        loop {
            let request = ListEntriesRequest {
                output_mask: Some(EntryMask::default()),
                page_size: 1000,
                page_token: page,
                ..ListEntriesRequest::default()
            };
            let answer = self.0.list_entries(request).await?.into_inner();
            all.extend(answer.entries.into_iter().map(|entry| entry.id));
            if answer.next_page_token.is_empty() {
                return Ok(all);
            }
            page = answer.next_page_token;
        }
    }
}

fn judge(status: Option<proto::spire::types::Status>) -> Result<(), Status> {
    match status {
        Some(status) if status.code == 0 => Ok(()),
        Some(status) => Err(Status::new(Code::from(status.code), status.message)),
        None => Err(Status::unknown("a result without a status")),
    }
}

fn spiffe_id(id: &str) -> Spiffeid {
    let rest = id.strip_prefix("spiffe://").expect("a story names whole SPIFFE IDs");
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Spiffeid { trust_domain: domain.into(), path: path.into() }
}

fn selector(text: &str) -> Selector {
    let (kind, value) = text.split_once(':').expect("a story names whole selectors");
    Selector { r#type: kind.into(), value: value.into() }
}
