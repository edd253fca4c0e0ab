//! JWT-SVIDs: had from the server when a process asks for a new one, and kept fresh while it goes on asking.
//!
//! `cache.rs` says what is at hand and what is due, `queue.rs` who comes next, `sign.rs` asks the server
//! and verifies what it gives. Here questions meet answers: whoever wants the same token at the same
//! moment shares one order, and orders that stand together travel together.

mod cache;
mod queue;
mod sign;

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use registry::objects::Entry;
use spiffe::{Audiences, Timestamp};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, sleep_until, timeout},
};
use workload_api::NoToken;

pub(crate) use self::cache::Token;
use self::{
    cache::{AtHand, Cache, Key, is_made_alike},
    queue::{Order, Queue},
};
use crate::{clock, jitter::Seed, publication::Publication, upstream::Upstream};

/// The tokens of this node's entries.
pub(crate) struct Tokens {
    upstream: Arc<Upstream>,
    inner: Mutex<Inner>,
    /// There is something new in the queue, or something new is due.
    work: Notify,
    /// There are new bundles.
    learned: Notify,
}

struct Inner {
    cache: Cache,
    queue: Queue,
    waiting: HashMap<Key, Vec<Waiter>>,
}

/// Somebody who waits for a token.
struct Waiter {
    /// The entry as it was when it asked.
    entry: Arc<Entry>,
    answer: oneshot::Sender<Result<Arc<str>, NoToken>>,
}

impl Tokens {
    /// None yet; signed by this server.
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        let inner = Inner {
            cache: Cache::new(Seed(rand::random()), ROOM),
            queue: Queue::default(),
            waiting: HashMap::new(),
        };
        Self { upstream, inner: Mutex::new(inner), work: Notify::new(), learned: Notify::new() }
    }

    /// A token that is at hand and not due for renewal.
    pub(crate) fn at_hand(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Option<Arc<str>> {
        match self.inner.lock().cache.ask(clock::now(), entry, audiences) {
            AtHand::Good(token) => Some(token),
            AtHand::Stale(_) | AtHand::Nothing => None,
        }
    }

    /// A token, had from the server where it takes that.
    pub(crate) async fn have(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Result<Arc<str>, NoToken> {
        let asked = self.inner.lock().cache.ask(clock::now(), entry, audiences);
        match asked {
            AtHand::Good(token) => Ok(token),
            AtHand::Stale(token) => {
                // A hand that serves an old token for a moment is better than none.
                let renewed = timeout(RENEWED_WITHIN, self.order(entry, audiences)?).await;
                Ok(renewed.ok().and_then(Result::ok).and_then(Result::ok).unwrap_or(token))
            }
            AtHand::Nothing => self.order(entry, audiences)?.await.map_err(|_| NoToken)?,
        }
    }

    /// Orders a token, or waits with those who have.
    fn order(
        &self,
        entry: &Arc<Entry>,
        audiences: &Audiences,
    ) -> Result<oneshot::Receiver<Result<Arc<str>, NoToken>>, NoToken> {
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter { entry: entry.clone(), answer };
        let key = Key { entry: entry.id.clone(), audiences: audiences.clone() };
        if self.upstream.signer().is_none() {
            return Err(NoToken); // at once: whoever asks has something better to do than to wait
        }
        {
            let mut inner = self.inner.lock();
            if inner.queue.len() >= LONGEST_QUEUE {
                return Err(NoToken);
            }
            inner.wait(key, waiter);
        }
        self.work.notify_one();
        Ok(answered)
    }

    /// What is published to callers concerns their tokens too.
    pub(crate) fn follow(&self, publication: &Publication, now: Timestamp) {
        let mut inner = self.inner.lock();
        for id in &publication.gone {
            inner.cache.follow(id, None);
        }
        for entry in &publication.put {
            inner.cache.follow(&entry.id, Some(entry));
        }
        if let Some(trusted) = &publication.trusted {
            let own = trusted.own.iter().flat_map(|bundle| &bundle.jwt_authorities);
            let kids: BTreeSet<_> = own.map(|authority| authority.kid.as_str()).collect();
            inner.cache.distrust(now, &trusted.tainted_jwt, &kids);
            self.work.notify_one();
            self.learned.notify_waiters();
        }
    }

    /// There is a connection to the server again.
    pub(crate) fn hurry(&self, now: Timestamp) {
        self.inner.lock().cache.hurry(now);
        self.work.notify_one();
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inner.lock().cache.len()
    }

    /// Has orders carried out, as long as the agent runs.
    pub(crate) async fn work(self: Arc<Self>) -> Infallible {
        let flights = Arc::new(Semaphore::new(FLIGHTS));
        loop {
            let flight = flights.clone().acquire_owned().await.expect("nobody closes it");
            let batch = self.next_batch().await;
            let tokens = self.clone();
            tokio::spawn(async move {
                let signed = sign::sign(&tokens.upstream, &batch, &tokens.learned, flight).await;
                tokens.settle(batch, signed);
            });
        }
    }

    async fn next_batch(&self) -> Vec<Order> {
        loop {
            let next = {
                let mut inner = self.inner.lock();
                let batch = inner.take(clock::now());
                if !batch.is_empty() {
                    return batch;
                }
                inner.cache.next()
            };
            // The wall clock may be set, and a machine may sleep, so nobody sleeps long at a time.
            let span = next.map_or(LONGEST_SLEEP, |at| at.since(clock::now()).min(LONGEST_SLEEP));
            tokio::select! {
                () = self.work.notified() => {}
                () = sleep_until(Instant::now() + span) => {}
            }
        }
    }

    fn settle(&self, batch: Vec<Order>, signed: Vec<Option<Token>>) {
        let now = clock::now();
        let mut inner = self.inner.lock();
        for (Order { entry, audiences }, signed) in batch.into_iter().zip(signed) {
            let key = Key { entry: entry.id.clone(), audiences };
            let answer = signed.as_ref().map(|token| token.text.clone()).ok_or(NoToken);
            let waiting = inner.waiting.remove(&key).unwrap_or_default();
            match signed {
                Some(token) => inner.cache.hold(now, key.clone(), &entry, token),
                None => inner.cache.fail(now, &key),
            }
            for waiter in waiting {
                if is_made_alike(&waiter.entry, &entry) {
                    // Whoever asked may have gone.
                    let _ = waiter.answer.send(answer.clone());
                } else {
                    // The entry changed while the token of its former self was on the way.
                    inner.wait(key.clone(), waiter);
                    self.work.notify_one();
                }
            }
        }
    }
}

impl Inner {
    /// Lets somebody wait for a token, and orders it if nobody waits for it yet.
    fn wait(&mut self, key: Key, waiter: Waiter) {
        let entry = waiter.entry.clone();
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.push(waiter);
        if waiting.len() == 1 {
            self.cache.fly(&key);
            self.queue.push(Order { entry, audiences: key.audiences });
        }
    }

    /// What the next call to the server is about: first what is due, since it is due for many.
    fn take(&mut self, now: Timestamp) -> Vec<Order> {
        for (key, entry) in self.cache.take_due(now) {
            self.queue.push(Order { entry, audiences: key.audiences });
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(order) = self.queue.pop()
        {
            batch.push(order);
        }
        batch
    }
}

/// Tokens that are kept; the smallest has a quarter of a kilobyte, the largest sixteen.
const ROOM: usize = 4096;
/// Tokens that are signed in one call.
const BATCH: usize = 500;
/// Calls to the server at the same time: while one is on its way, what is asked for gathers for the next.
/// What a call brought is verified while the next one is on its way.
const FLIGHTS: usize = 1;
/// Orders that nobody has carried out; more than all users together may have open.
const LONGEST_QUEUE: usize = 65_536;
/// How long somebody waits for a fresher token than the one at hand.
const RENEWED_WITHIN: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
