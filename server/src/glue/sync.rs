//! Entry/SyncAuthorizedEntries: the conversation in which SPIRE's agent brings its entries up to date.

use std::{sync::Arc, time::Duration};

use daemon::Shutdown;
use prost::Message as _;
use proto::spire::{
    server::entry::v1::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
    types::{Entry as WireEntry, EntryMask},
};
use registry::{Versioned, objects::Entry};
use server_api::wire::entry;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::{
    Server,
    api::authorized::{self, PAGE, Revised},
    callers::NodeCaller,
    now,
};

/// The agent says the next thing within this time.
const NEXT_WORD: Duration = Duration::from_secs(30);
/// A client that does not read holds this much and no more.
const AHEAD: usize = 2;
/// A message is closed when it has this many bytes of entries: agents take 4 MiB and no more, and one
/// entry has less than 100 KiB.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

type Answers = mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>;

/// Answers until the agent has what it wants.
pub(super) fn answer(
    server: Arc<Server>,
    caller: NodeCaller,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
) -> mpsc::Receiver<Result<SyncAuthorizedEntriesResponse, Status>> {
    let (answers, receiver) = mpsc::channel(AHEAD);
    let shutdown: Shutdown = server.shutdown.clone();
    tokio::spawn(async move {
        let mut sync = Sync { server, caller, requests, answers: answers.clone() };
        let ended = tokio::select! {
            () = answers.closed() => return, // the agent left
            () = shutdown.requested() => Err(Status::unavailable("the server is stopping")),
            ended = sync.run() => ended,
        };
        if let Err(status) = ended {
            let _ = answers.try_send(Err(status)); // unless the agent left or does not read
        }
    });
    receiver
}

struct Sync {
    server: Arc<Server>,
    caller: NodeCaller,
    requests: Streaming<SyncAuthorizedEntriesRequest>,
    answers: Answers,
}

impl Sync {
    async fn run(&mut self) -> Result<(), Status> {
        let Some(first) = self.next().await? else { return Ok(()) };
        if !first.ids.is_empty() {
            return Err(Status::invalid_argument("specifying IDs on initial request is not supported"));
        }
        let mask = first.output_mask;
        if mask.as_ref().is_some_and(|mask| !mask.revision_number) {
            return Err(Status::invalid_argument("revision number cannot be masked"));
        }
        let entries = authorized::entries(&self.server.ledger.current(), &self.caller.id, now());
        if entries.len() <= PAGE {
            let all: Vec<_> = entries.iter().map(|entry| shown(entry, mask.as_ref())).collect();
            if all.iter().map(WireEntry::encoded_len).sum::<usize>() <= PAGE_BYTES {
                return self.say(SyncAuthorizedEntriesResponse { entries: all, ..Default::default() }).await;
            }
        }
        let mut pages = authorized::revisions(&entries).peekable();
        while let Some(page) = pages.next() {
            let entry_revisions = page.into_iter().map(revision).collect();
            let more = pages.peek().is_some();
            self.say(SyncAuthorizedEntriesResponse { entry_revisions, more, ..Default::default() }).await?;
        }
        drop(pages);
        drop(entries); // what is asked for is looked up when it is asked for
        while let Some(wanted) = self.next().await? {
            let registry = self.server.ledger.current();
            self.caller.standing(&registry, now())?; // a ban in between ends it
            let found = authorized::named(&registry, &self.caller.id, &wanted.ids, now());
            self.say_entries(&found, mask.as_ref()).await?;
        }
        Ok(())
    }

    /// One or more messages; the last one says that it is the last.
    async fn say_entries(&self, found: &[Versioned<Entry>], mask: Option<&EntryMask>) -> Result<(), Status> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in found.iter().map(|entry| shown(entry, mask)) {
            let length = entry.encoded_len();
            if entries.len() == PAGE || bytes + length > PAGE_BYTES {
                let entries = std::mem::take(&mut entries);
                bytes = 0;
                self.say(SyncAuthorizedEntriesResponse { entries, more: true, ..Default::default() }).await?;
            }
            bytes += length;
            entries.push(entry);
        }
        self.say(SyncAuthorizedEntriesResponse { entries, ..Default::default() }).await
    }

    async fn next(&mut self) -> Result<Option<SyncAuthorizedEntriesRequest>, Status> {
        let next = tokio::time::timeout(NEXT_WORD, self.requests.message()).await;
        next.map_err(|_| Status::deadline_exceeded("nothing was said in time"))?
    }

    async fn say(&self, answer: SyncAuthorizedEntriesResponse) -> Result<(), Status> {
        self.answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the agent left"))
    }
}

/// An entry as agents see it.
pub(super) fn shown(entry: &Versioned<Entry>, mask: Option<&EntryMask>) -> WireEntry {
    let mut wire = entry::to_wire(entry, entry.version);
    wire.revision_number = authorized::revision(entry, entry.version);
    entry::masked(wire, mask)
}

fn revision(revised: Revised) -> EntryRevision {
    EntryRevision {
        id: revised.id.into(),
        revision_number: revised.revision,
        created_at: revised.created_at.unix_seconds(),
    }
}
