//! Who is at the other end of a connection: attested in full once, and again only when what was
//! proved no longer suffices.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use peer::Process;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{CannotIdentify, Source, refusal::Refusal, socket::Line};

/// Processes of one user that are examined at the same time.
const AT_ONCE_PER_UID: usize = 4;

/// One connection.
pub struct Session<S: Source> {
    pub(crate) line: Arc<Line>,
    caller: tokio::sync::Mutex<Option<Arc<S::Caller>>>,
}

impl<S: Source> Session<S> {
    pub(crate) fn new(line: Arc<Line>) -> Self {
        Self { line, caller: tokio::sync::Mutex::default() }
    }

    /// The user at the other end.
    pub(crate) fn uid(&self) -> u32 {
        self.line.peer().credentials().uid.effective
    }

    /// Who is asking, at this moment: whoever is known already is checked, and closed if it is not the
    /// same any more. `outdated` is an earlier answer that no longer suffices.
    pub(crate) async fn identify(
        &self,
        source: &S,
        queue: &Queue,
        outdated: Option<&Arc<S::Caller>>,
    ) -> Result<Arc<S::Caller>, Refusal> {
        let peer = self.line.peer();
        // One at a time for a connection, so that requests that come together share one answer.
        let mut known = self.caller.lock().await;
        if let Some(caller) = &*known
            && !outdated.is_some_and(|outdated| Arc::ptr_eq(outdated, caller))
        {
            self.line.check().map_err(|_| Refusal::Changed)?;
            return Ok(caller.clone());
        }
        let _turn = queue.turn(self.uid(), peer.process()).await;
        let caller = source.identify(peer).await.map_err(|error| match error {
            CannotIdentify::Changed(changed) => {
                tracing::info!(pid = peer.pid(), %changed, "closed a connection");
                self.line.close();
                Refusal::Changed
            }
            CannotIdentify::Failed(reason) => {
                tracing::warn!(pid = peer.pid(), reason, "a process could not be attested");
                Refusal::NotIdentified
            }
        })?;
        let caller = Arc::new(caller);
        *known = source.is_lasting(&caller).then(|| caller.clone());
        Ok(caller)
    }
}

/// Who is examined when. Hashing a large program or asking a directory for names takes a while, so one
/// process has one such examination at a time and one user a few, whatever they ask for.
#[derive(Default)]
pub(crate) struct Queue {
    users: Gates<u32>,
    processes: Gates<Process>,
}

/// Leave to examine; given back when dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] [OwnedSemaphorePermit; 2]);

impl Queue {
    /// Waits for the caller's turn.
    pub(crate) async fn turn(&self, uid: u32, process: Process) -> Option<Turn> {
        let process = self.processes.gate(process, 1).acquire_owned().await;
        let user = self.users.gate(uid, AT_ONCE_PER_UID).acquire_owned().await;
        // An error would mean a closed gate, and nobody closes one.
        Some(Turn([process.ok()?, user.ok()?]))
    }
}

/// Gates by name, forgotten when nobody stands at them.
struct Gates<K>(Mutex<HashMap<K, Weak<Semaphore>>>);

impl<K> Default for Gates<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Gates<K> {
    fn gate(&self, name: K, width: usize) -> Arc<Semaphore> {
        let mut gates = self.0.lock();
        if gates.len() == gates.capacity() {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let known = gates.entry(name).or_default();
        known.upgrade().unwrap_or_else(|| {
            let gate = Arc::new(Semaphore::new(width));
            *known = Arc::downgrade(&gate);
            gate
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_user_is_examined_a_few_at_a_time_and_forgotten_afterwards() {
        let gates = Gates::<u32>::default();
        let held: Vec<_> = (0..2).map(|_| gates.gate(7, 2).acquire_owned().now_or_never()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(gates.gate(7, 2).acquire_owned().now_or_never().is_none());
        assert!(gates.gate(8, 2).acquire_owned().now_or_never().is_some());
        drop(held);
        for name in 0..1000 {
            drop(gates.gate(name, 2));
        }
        assert!(gates.0.lock().len() < 100);
    }
}
