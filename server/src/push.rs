//! How a node's view reaches its agent: one ordered stream, which looks again when a commit concerns
//! the node.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use daemon::Shutdown;
use registry::{Delta, Follow, Key, LogId, Object, Registry, Revision};
use server_api::wire::delta::{Change, Followed, Head};
use spiffe::SignedBundle;
use tokio::sync::mpsc;
use tonic::Status;

use crate::{Server, callers::NodeCaller, figures::OneMore, now};

/// The agent's clock of how fresh its view is.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A client that does not read holds this much and no more.
const AHEAD: usize = 4;

/// Follows the view of `caller` from `from` until it leaves, may not follow any more, or the server ends.
pub(crate) fn follow(
    server: Arc<Server>,
    caller: NodeCaller,
    log: LogId,
    from: Revision,
    shutdown: Shutdown,
) -> mpsc::Receiver<Result<Followed, Status>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let _one_more = OneMore::of(&server.figures.streams);
        let mut stream = Stream { server, caller, log, at: from };
        let ended = tokio::select! {
            () = sender.closed() => return, // the agent left
            () = shutdown.requested() => Err(Status::unavailable("the server is stopping")),
            ended = stream.run(&sender) => ended,
        };
        if let Err(status) = ended {
            // The agent must learn why, unless it left or does not read.
            let _ = sender.try_send(Err(status));
        }
    });
    receiver
}

struct Stream {
    server: Arc<Server>,
    caller: NodeCaller,
    log: LogId,
    at: Revision,
}

impl Stream {
    async fn run(&mut self, sender: &mpsc::Sender<Result<Followed, Status>>) -> Result<(), Status> {
        let sleeper = self.server.ledger.wakes().sleeper(&self.caller.id);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        heartbeat.tick().await; // the first one is at once
        let mut beats = false;
        loop {
            let registry = self.server.ledger.current();
            // Asked for each step: a ban, an eviction, a renewal or the certificate's end ends the stream.
            self.caller.standing(&registry, now())?;
            let followed = self.look(&registry)?;
            if let Some(followed) = followed.or_else(|| beats.then(|| self.nothing())) {
                sender.send(Ok(followed)).await.map_err(|_| Status::cancelled("the agent left"))?;
                heartbeat.reset();
            }
            beats = tokio::select! {
                () = sleeper.sleep() => false,
                _ = heartbeat.tick() => true,
            };
        }
    }

    /// What is different since the last step.
    fn look(&mut self, registry: &Registry) -> Result<Option<Followed>, Status> {
        let change = match registry.diff(&self.caller.id, &self.log, self.at) {
            Follow::UpToDate => return Ok(None),
            Follow::NoView => return Err(Status::unavailable("the node's view is not here now")),
            Follow::Delta(delta) => {
                self.at = delta.to;
                Change::Delta(delta)
            }
            Follow::Snapshot(snapshot) => {
                (self.log, self.at) = (snapshot.log.clone(), snapshot.at);
                Change::Snapshot(snapshot)
            }
        };
        let own = Key::Bundle(registry.trust_domain().clone());
        let touches_bundle = match &change {
            Change::Snapshot(_) => true,
            Change::Delta(delta) => {
                delta.put.iter().any(|put| matches!(put.object, Object::Bundle(_)) && put.object.key() == own)
            }
        };
        let bundle = match touches_bundle {
            false => None,
            true => self.server.trust.signed(registry).map_err(|error| {
                tracing::error!(%error, "the trust bundle cannot be signed");
                Status::unavailable("the trust bundle cannot be signed now")
            })?,
        };
        let bundle = bundle.map(|signed| SignedBundle::clone(&signed));
        Ok(Some(Followed { change, at: now(), bundle, head: self.head() }))
    }

    /// A heartbeat: nothing is different, and the view is that fresh.
    fn nothing(&self) -> Followed {
        let (log, at) = (self.log.clone(), self.at);
        let delta = Delta { log, from: at, to: at, put: Vec::new(), gone: Vec::new() };
        Followed { change: Change::Delta(delta), at: now(), bundle: None, head: self.head() }
    }

    fn head(&self) -> Head {
        let newest = self.server.ledger.newest();
        Head {
            log: newest.log.clone(),
            revision: newest.revision,
            proof: Bytes::copy_from_slice(&newest.proof()),
        }
    }
}
