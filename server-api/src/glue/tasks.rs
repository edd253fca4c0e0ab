//! What an agent says to its server about tasks: `writ.node.v1.Tasks`.

use std::{sync::Arc, time::Duration};

use proto::writ::node::v1::{
    ChangeTasksRequest, FreshRequest, RenewTaskRequest, TaskTokenRequest, tasks_client::TasksClient,
};
use registry::{
    LogId, Revision,
    decide::task::{HomeChange, Wish},
    objects::{Task, TaskId},
};
use spiffe::{Timestamp, TrustDomain, fresh};
use tonic::{Code, Request, transport::Channel};

use super::{CallError, node::Chain};
use crate::wire::tasks;

/// Speaks to a server for an agent, about tasks.
#[derive(Clone)]
pub struct Client(TasksClient<Channel>);

/// How new the server's log was when it was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fresh {
    /// The log.
    pub log: LogId,
    /// Its newest revision.
    pub revision: Revision,
    /// The server's clock.
    pub at: Timestamp,
    /// By the pin key.
    signature: Vec<u8>,
}

/// A task that the server granted.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The task.
    pub task: Arc<Task>,
    /// The version that the log gave it.
    pub version: u64,
    /// A revision in which it is.
    pub revision: Revision,
    /// The grant, a JWS; means nothing before it is verified.
    pub grant: String,
    /// The task's first certificate, DER, leaf first, without the root.
    pub chain: Chain,
}

/// A transaction token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransactionToken {
    /// JWS in compact serialisation.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Fresh {
    /// Whether the holder of the pin key (SubjectPublicKeyInfo, DER) said so, of this trust domain's log.
    pub fn is_signed_by(&self, public_key: &[u8], trust_domain: &TrustDomain) -> bool {
        let said = fresh::Fresh { trust_domain, log: &self.log.0, revision: self.revision.0, at: self.at };
        said.is_signed_by(public_key, &self.signature)
    }
}

impl Client {
    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(TasksClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// How new the server's log is. Whoever asks counts the time from before it asked.
    pub async fn fresh(&mut self) -> Result<Fresh, CallError> {
        let mut request = Request::new(FreshRequest {});
        request.set_timeout(FRESH_WITHIN);
        let said = self.0.fresh(request).await?.into_inner();
        if said.log.len() > MAX_LOG_ID {
            return Err(CallError::Nonsense("the name of the log is too long".to_owned()));
        }
        Ok(Fresh {
            log: LogId(said.log),
            revision: Revision(said.revision),
            at: Timestamp::from_unix_millis(said.at),
            signature: said.signature.to_vec(),
        })
    }

    /// Begins a task on this node. Repeating the same request with the same id is safe.
    pub async fn begin(&mut self, id: &TaskId, wish: &Wish, public_key: &[u8]) -> Result<Begun, CallError> {
        let request = within(tasks::begin_request(id, wish, public_key));
        let begun = self.0.begin_task(request).await?.into_inner();
        let (version, task) = tasks::task(begun.task.as_ref())?;
        if task.id != *id || begun.chain.is_empty() {
            return Err(CallError::Nonsense("another task was begun than the one asked for".to_owned()));
        }
        let (revision, grant, chain) = (Revision(begun.revision), begun.grant, begun.chain);
        Ok(Begun { task, version, revision, grant, chain })
    }

    /// The next certificate of a live task of this node.
    pub async fn renew(&mut self, task: &TaskId, public_key: &[u8]) -> Result<Chain, CallError> {
        let request = RenewTaskRequest { task: task.to_string(), public_key: public_key.to_vec().into() };
        match self.0.renew_task(within(request)).await?.into_inner().chain {
            chain if chain.is_empty() => Err(CallError::Nonsense("no certificate came".to_owned())),
            chain => Ok(chain),
        }
    }

    /// A transaction token of a live task of this node.
    pub async fn token(&mut self, task: &TaskId) -> Result<TransactionToken, CallError> {
        let request = within(TaskTokenRequest { task: task.to_string() });
        let made = self.0.task_token(request).await?.into_inner();
        let expires_at = Timestamp::from_unix_millis(made.expires_at);
        Ok(TransactionToken { token: made.token, expires_at })
    }

    /// Tells what became of tasks of this node, at most [`tasks::MAX_CHANGES`]; for each whether it is so now.
    /// Repeating it is safe.
    pub async fn change(&mut self, changes: &[HomeChange]) -> Result<Vec<Code>, CallError> {
        let request = ChangeTasksRequest { changes: changes.iter().map(tasks::change_message).collect() };
        let codes = self.0.change_tasks(within(request)).await?.into_inner().codes;
        match codes.len() == changes.len() {
            true => Ok(codes.into_iter().map(Code::from_i32).collect()),
            false => Err(CallError::Nonsense(format!("{} codes for {} changes", codes.len(), changes.len()))),
        }
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(WITHIN);
    request
}

const MAX_ANSWER: usize = 4 * 1024 * 1024;
const MAX_LOG_ID: usize = 128;
const WITHIN: Duration = Duration::from_secs(30);
/// An older answer is worth nothing to an agent that renews each second.
const FRESH_WITHIN: Duration = Duration::from_secs(5);
