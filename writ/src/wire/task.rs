//! `writ.task.v1`: what a process asks its agent about its own tasks.

use std::path::Path;

use anyhow::{Context as _, Error, Result};
use proto::writ::task::v1::{
    BeginRequest, EndRequest, Task as Shown, TokenRequest, WatchRequest, WatchResponse,
    tasks_client::TasksClient,
};
use registry::objects::Task;
use spiffe::Timestamp;
use tonic::{Status, Streaming, transport::Channel};

/// Speaks to the agent as one process: what is begun over it belongs to that.
pub(crate) struct Tasks(TasksClient<Channel>);

/// What to begin.
#[derive(Default)]
pub(crate) struct Wish {
    /// Under which mandate.
    pub(crate) mandate: String,
    /// JSON.
    pub(crate) params: Vec<u8>,
    /// Seconds; 0 is as long as the mandate allows.
    pub(crate) ttl: u32,
    /// An annotation.
    pub(crate) note: String,
}

/// A task with its own SPIFFE ID.
pub(crate) struct Own {
    /// As the agent sees it.
    pub(crate) task: Task,
    /// Its SPIFFE ID.
    pub(crate) spiffe_id: String,
}

/// The tasks of this process's domain, after each change.
pub(crate) struct Watched(Streaming<WatchResponse>);

impl Tasks {
    /// Those that the agent behind `socket` knows of this process.
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        Ok(Self(TasksClient::new(super::connect(socket).await?)))
    }

    /// Begins one for this process.
    pub(crate) async fn begin(&mut self, wish: Wish) -> Result<Own> {
        let Wish { mandate, params, ttl, note } = wish;
        let request = BeginRequest { mandate, params: params.into(), ttl, note, ..BeginRequest::default() };
        let begun = self.0.begin(request).await.map_err(says)?.into_inner();
        own(begun.task.context("the agent began no task")?)
    }

    /// Follows them.
    pub(crate) async fn watch(&mut self) -> Result<Watched> {
        Ok(Watched(self.0.watch(WatchRequest {}).await.map_err(says)?.into_inner()))
    }

    /// Ends one of them, or the only one.
    pub(crate) async fn end(&mut self, id: Option<String>) -> Result<String> {
        let request = EndRequest { id: id.unwrap_or_default() };
        Ok(self.0.end(request).await.map_err(says)?.into_inner().id)
    }

    /// A transaction token of one of them, or of the only one, and when it ends.
    pub(crate) async fn token(&mut self, id: Option<String>) -> Result<(String, Timestamp)> {
        let request = TokenRequest { id: id.unwrap_or_default() };
        let answer = self.0.token(request).await.map_err(says)?.into_inner();
        Ok((answer.token, Timestamp::from_unix_millis(answer.expires_at)))
    }
}

impl Watched {
    /// What comes next; `None` when the agent has said all.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Own>>> {
        let Some(answer) = self.0.message().await.map_err(says)? else { return Ok(None) };
        answer.tasks.into_iter().map(own).collect::<Result<_>>().map(Some)
    }
}

fn own(shown: Shown) -> Result<Own> {
    let task = serde_json::from_slice(&shown.json).context("the agent's answer is of a newer kind")?;
    Ok(Own { task, spiffe_id: shown.spiffe_id })
}

fn says(status: Status) -> Error {
    Error::msg(status.message().to_owned())
}
