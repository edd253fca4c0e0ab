//! [`Turns`]: only so many at a time for each key, however many keys there are.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Queues, one for each key, which exist while somebody is in them.
#[derive(Debug)]
pub(crate) struct Turns<K> {
    queues: Queues<K>,
    at_once: usize,
}

/// The right to go on. It can be handed to another thread; the next one goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<K: Eq + Hash> {
    key: K,
    queues: Queues<K>,
    permit: Option<OwnedSemaphorePermit>,
}

type Queues<K> = Arc<Mutex<HashMap<K, Arc<Semaphore>>>>;

impl<K: Eq + Hash + Clone> Turns<K> {
    pub(crate) fn new(at_once: usize) -> Self {
        Self { queues: Arc::default(), at_once }
    }

    /// Waits for a turn. First come, first served; whoever stops waiting leaves the queue.
    pub(crate) async fn wait(&self, key: K) -> Turn<K> {
        let fresh = || Arc::new(Semaphore::new(self.at_once));
        let queue = Arc::clone(self.queues.lock().entry(key.clone()).or_insert_with(fresh));
        // Made before waiting, so that a queue left empty is removed also when this is cancelled.
        let mut turn = Turn { key, queues: Arc::clone(&self.queues), permit: None };
        turn.permit = queue.acquire_owned().await.ok();
        debug_assert!(turn.permit.is_some(), "nobody closes the queues");
        turn
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        self.permit = None;
        // Everybody in a queue shares it, and nobody joins while all are locked here.
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_key_waits_for_itself_only_and_leaves_nothing_behind() {
        let turns = Turns::new(1);
        let first = turns.wait("a").await;
        assert!(turns.wait("b").now_or_never().is_some(), "another key goes at once");
        assert!(turns.wait("a").now_or_never().is_none(), "the same key waits");
        let mut second = Box::pin(turns.wait("a"));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        drop(second.await);
        assert!(turns.queues.lock().is_empty());
    }

    #[tokio::test]
    async fn whoever_stops_waiting_leaves_the_queue() {
        let turns = Turns::new(2);
        let held = [turns.wait(7).await, turns.wait(7).await];
        let mut gave_up = Box::pin(turns.wait(7));
        assert!((&mut gave_up).now_or_never().is_none());
        drop(held);
        drop(gave_up);
        assert!(turns.queues.lock().is_empty());
    }
}
