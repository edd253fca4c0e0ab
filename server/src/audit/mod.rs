//! The audit log of the whole trust domain: what nodes recorded and what the server itself committed, merged
//! into one Merkle log with signed checkpoints. It has a file, a key and a thread of its own, apart from
//! the log of objects and from what the server tells its operator.
//!
//! | file | does |
//! |---|---|
//! | `key` | the key of the checkpoints, and those of tenants |
//! | `writer` | the one thread that appends: whatever waits becomes durable as one group |
//! | `follow` | merges the server's own commits, each once |
//! | `upload` | takes a node's records, and notices what is missing or contradicts |
//! | `read` | gives out entries, tiles and proofs |

pub(crate) mod follow;
mod key;
pub(crate) mod read;
pub(crate) mod upload;
mod writer;

use std::path::{Path, PathBuf};

use audit::{Kind, Record, tree::VerifierKey};
use daemon::{DiskError, Metrics};
use registry::{Author, LogId};
use spiffe::TrustDomain;
use store::{AuditLog, AuditReader, StoreError};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::key::AuditKey;
use self::writer::{Message, Writer};
use crate::{ledger::Unavailable, now};

pub(crate) const DATABASE: &str = "audit.db";
pub(crate) const KEY: &str = "audit.key";

/// The audit log as everyone here sees it. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Audit {
    queue: mpsc::Sender<Message>,
    published: watch::Receiver<Published>,
    path: PathBuf,
    key: std::sync::Arc<AuditKey>,
    verifier: VerifierKey,
}

/// The newest checkpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) size: u64,
    pub(crate) note: String,
}

/// What is appended.
pub(crate) enum New {
    /// A record as a node made it, or a commit's leaf.
    Leaf(store::NewEntry),
    /// One that this log makes itself, in the place where it comes to stand.
    Own(Box<Record>),
}

/// How far a source is merged, and how far it must have been for this to follow.
pub(crate) struct Step {
    pub(crate) source: String,
    pub(crate) from: Option<Vec<u8>>,
    pub(crate) to: Vec<u8>,
}

/// Why something was not appended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NotAppended {
    /// Somebody else has merged more of the source meanwhile.
    #[error("another connection of the same source was faster")]
    Overtaken,
    /// The log cannot take it now.
    #[error("{0}")]
    Unavailable(String),
}

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The database.
    #[error("the audit log cannot be used: {0}")]
    Store(#[from] StoreError),
    /// The key.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The key file holds something else.
    #[error("{} is no key of an audit log; put the right file back", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key is gone, and signatures by another one would be another log's.
    #[error("{} is missing, and {DATABASE} is there; put it back, or restore a backup", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// No randomness, or no thread.
    #[error("the audit log cannot start: {0}")]
    Start(String),
}

impl Audit {
    /// Opens the audit log in a state directory and starts its writer.
    pub(crate) fn start(
        state: &Path,
        trust_domain: &TrustDomain,
        log: &LogId,
        metrics: &Metrics,
    ) -> Result<Self, AuditError> {
        let path = state.join(DATABASE);
        let key = std::sync::Arc::new(AuditKey::open(&state.join(KEY), &path)?);
        let database = AuditLog::open(&path)?;
        let failed = |error: &dyn std::fmt::Display| AuditError::Start(error.to_string());
        // After a restore the log of objects has another identity, and so has this one: whoever has seen
        // more of the former one sees two logs, and never one that contradicts itself.
        let origin = format!("{trust_domain}/audit/{}", log.0);
        let verifier = key.note().verifier(&origin).map_err(|error| failed(&error))?;
        let (queue, messages) = mpsc::channel(QUEUE);
        let (publish, published) = watch::channel(Published::default());
        let writer = Writer::new(database, key.clone(), origin, publish, metrics)?;
        writer.start(messages).map_err(|error| failed(&error))?;
        Ok(Self { queue, published, path, key, verifier })
    }

    /// Appends, and answers once it is durable. With a step, all of it or nothing.
    pub(crate) async fn append(&self, entries: Vec<New>, step: Option<Step>) -> Result<(), NotAppended> {
        let stopped = || NotAppended::Unavailable("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send(Message::Append { entries, step, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Puts on record that something is missing or contradicts, and tells the operator.
    pub(crate) async fn alarm(&self, node: &str, next: u64, why: String) {
        tracing::error!(node, "evidence is missing or contradicts: {why}");
        let record = Record {
            spiffe_id: Some(node.to_owned()),
            task_seq: Some(next),
            reason: Some(why),
            ..Record::new(Kind::AuditAlarm, now())
        };
        if let Err(error) = self.append(vec![New::Own(Box::new(record))], None).await {
            tracing::error!(%error, "the alarm is not on record");
        }
    }

    /// Puts on record that somebody reads, before anything is given out.
    pub(crate) async fn reading(&self, author: &Author, what: String) -> Result<(), NotAppended> {
        let record = Record { reason: Some(what), ..by(author, Kind::AuditRead) };
        self.append(vec![New::Own(Box::new(record))], None).await
    }

    /// Erases what lies sealed beside an entry; `false` where nothing does.
    pub(crate) async fn erase(&self, index: u64, author: &Author) -> Result<bool, Unavailable> {
        let stopped = || Unavailable("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        let what = format!("the personal payload of entry {index} was erased");
        let record = Box::new(Record { reason: Some(what), ..by(author, Kind::AuditErase) });
        self.queue.send(Message::Erase { index, record, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Copies the log to a file that is not there.
    pub(crate) async fn back_up(&self, to: PathBuf) -> Result<(), Unavailable> {
        let stopped = || Unavailable("the server is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send(Message::BackUp { to, answer }).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// The newest checkpoint, and each later one.
    pub(crate) fn published(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// What its checkpoints are verified with.
    pub(crate) fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The key of a tenant.
    pub(crate) fn tenant_key(&self, tenant: &str) -> zeroize::Zeroizing<[u8; 32]> {
        self.key.tenant(tenant)
    }

    /// A reader of its own.
    pub(crate) fn reader(&self) -> Result<AuditReader, StoreError> {
        AuditReader::open(&self.path)
    }
}

/// A record of what an administrator did.
fn by(author: &Author, kind: Kind) -> Record {
    let mut record = Record::new(kind, now());
    match author {
        Author::Local { uid, pid } => {
            record.actor = Some(format!("uid {uid}"));
            record.pid = u32::try_from(*pid).ok();
        }
        Author::Admin { id } | Author::Node { id } | Author::Downstream { id } => {
            record.spiffe_id = Some(id.to_string());
        }
        Author::Server => record.actor = Some("server".to_owned()),
        Author::Stranger { address } => record.actor = Some(address.clone()),
    }
    record
}

/// So much waits for the writer; beyond that, whoever appends waits.
const QUEUE: usize = 256;

#[cfg(test)]
mod tests;
