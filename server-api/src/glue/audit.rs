//! What an administrator reads of the evidence: `writ.audit.v1.Audit`.

use std::path::Path;

use audit::{
    Hash,
    tree::{Checkpoint, VerifierKey},
};
use bytes::Bytes;
use proto::writ::audit::v1::{
    CheckpointRequest, ConsistencyRequest, Entries as WireEntries, EntriesRequest, EraseRequest,
    ExportRequest, File, InclusionRequest, audit_client::AuditClient,
};
use tonic::{Streaming, transport::Channel};

use super::CallError;
use crate::connect::{ConnectError, connect_private};

/// Reads the audit log of a server.
#[derive(Clone)]
pub struct Client(AuditClient<Channel>);

/// The newest checkpoint, and what it was verified with.
#[derive(Clone, Debug)]
pub struct Newest {
    /// The signed note.
    pub note: String,
    /// The server's word for the key of its checkpoints.
    pub key: VerifierKey,
    /// What the note says.
    pub checkpoint: Checkpoint,
}

/// An entry that is proved to be in the log.
#[derive(Clone, Debug)]
pub struct Included {
    /// The entry.
    pub leaf: Bytes,
    /// Of the tree that the proof is about.
    pub size: u64,
    /// The proof.
    pub hashes: Vec<Hash>,
}

/// Which entries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// The first one.
    pub from: u64,
    /// Before this one; 0 is the end.
    pub to: u64,
    /// Instead of `from`: so many of the newest.
    pub last: u64,
    /// Whether to go on with what comes.
    pub follow: bool,
}

/// Entries as they come.
pub struct Entries(Streaming<WireEntries>);

/// The files of a log as they come; the checkpoint is the last one.
pub struct Files(Streaming<File>);

impl Client {
    /// Connects to the server's private socket.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        Ok(Self::new(connect_private(socket).await?))
    }

    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(AuditClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// The newest checkpoint, whose signature holds.
    pub async fn checkpoint(&mut self) -> Result<Newest, CallError> {
        let answer = self.0.checkpoint(CheckpointRequest {}).await?.into_inner();
        let nonsense = |error: audit::tree::NoteError| CallError::Nonsense(error.to_string());
        let key: VerifierKey = answer.verifier_key.parse().map_err(nonsense)?;
        let checkpoint = Checkpoint::open(&answer.note, &key).map_err(nonsense)?;
        Ok(Newest { note: answer.note, key, checkpoint })
    }

    /// An entry with its proof; 0 is the newest size.
    pub async fn inclusion(&mut self, index: u64, size: u64) -> Result<Included, CallError> {
        let answer = self.0.inclusion(InclusionRequest { index, size }).await?.into_inner();
        Ok(Included { leaf: answer.leaf, size: answer.size, hashes: hashes(&answer.hashes)? })
    }

    /// The proof that one tree is the beginning of another.
    pub async fn consistency(&mut self, old: u64, size: u64) -> Result<Vec<Hash>, CallError> {
        hashes(&self.0.consistency(ConsistencyRequest { old, size }).await?.into_inner().hashes)
    }

    /// The whole log as files.
    pub async fn export(&mut self) -> Result<Files, CallError> {
        Ok(Files(self.0.export(ExportRequest {}).await?.into_inner()))
    }

    /// Entries in their order.
    pub async fn entries(&mut self, range: Range) -> Result<Entries, CallError> {
        let Range { from, to, last, follow } = range;
        let request = EntriesRequest { from, to, last, follow };
        Ok(Entries(self.0.entries(request).await?.into_inner()))
    }

    /// Erases what lies sealed beside an entry.
    pub async fn erase(&mut self, index: u64) -> Result<(), CallError> {
        self.0.erase(EraseRequest { index }).await?;
        Ok(())
    }
}

impl Entries {
    /// The next entries, with the index of the first.
    pub async fn next(&mut self) -> Result<Option<(u64, Vec<Bytes>)>, CallError> {
        Ok(self.0.message().await?.map(|entries| (entries.first, entries.leaves)))
    }
}

impl Files {
    /// The next file: its path below the log's prefix, and what is in it.
    pub async fn next(&mut self) -> Result<Option<(String, Bytes)>, CallError> {
        Ok(self.0.message().await?.map(|file| (file.path, file.content)))
    }
}

fn hashes(wire: &[Bytes]) -> Result<Vec<Hash>, CallError> {
    let hash = |bytes: &Bytes| <[u8; 32]>::try_from(&**bytes).map(Hash);
    let nonsense = |_| CallError::Nonsense("a hash has 32 bytes".to_owned());
    wire.iter().map(hash).collect::<Result<_, _>>().map_err(nonsense)
}

/// A bundle of the longest entries.
const MAX_ANSWER: usize = 18 * 1024 * 1024;
