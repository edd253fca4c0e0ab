//! How a node's view reaches its agent: one ordered stream, which looks again when a commit concerns
//! the node.

use std::{sync::Arc, time::Duration};

use daemon::Shutdown;
use registry::{Delta, Follow, Key, LogId, Object, Registry, Revision, Snapshot};
use spiffe::SignedBundle;
use tokio::sync::mpsc;
use tonic::Status;

use crate::{Server, callers::NodeCaller, now};

/// One step of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) change: Change,
    /// The server's clock when it looked.
    pub(crate) at: spiffe::Timestamp,
    /// The signed bundle, where the change touched it or the view is replaced.
    pub(crate) bundle: Option<Arc<SignedBundle>>,
}

/// What a step does to the view.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Delta(Delta),
    Snapshot(Snapshot),
}

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
) -> mpsc::Receiver<Result<Pushed, Status>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
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
    async fn run(&mut self, sender: &mpsc::Sender<Result<Pushed, Status>>) -> Result<(), Status> {
        let sleeper = self.server.ledger.wakes().sleeper(&self.caller.id);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        heartbeat.tick().await; // the first one is at once
        loop {
            let registry = self.server.ledger.current();
            // Asked for each step: a ban, an eviction, a renewal or the certificate's end ends the stream.
            self.caller.standing(&registry, now())?;
            if let Some(pushed) = self.look(&registry)? {
                sender.send(Ok(pushed)).await.map_err(|_| Status::cancelled("the agent left"))?;
                heartbeat.reset();
            }
            tokio::select! {
                () = sleeper.sleep() => {}
                _ = heartbeat.tick() => {
                    let beat = Pushed { change: Change::Delta(self.nothing()), at: now(), bundle: None };
                    self.caller.standing(&self.server.ledger.current(), now())?;
                    sender.send(Ok(beat)).await.map_err(|_| Status::cancelled("the agent left"))?;
                }
            }
        }
    }

    /// What is different since the last step.
    fn look(&mut self, registry: &Registry) -> Result<Option<Pushed>, Status> {
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
        Ok(Some(Pushed { change, at: now(), bundle }))
    }

    fn nothing(&self) -> Delta {
        Delta { log: self.log.clone(), from: self.at, to: self.at, put: Vec::new(), gone: Vec::new() }
    }
}
