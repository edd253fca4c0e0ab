//! What the server does by itself when its time has come: authorities turn, its own SVID is renewed,
//! and what has an end is removed. When that is, `ca::rotation` and the registry say.

use std::{sync::Arc, time::Duration};

use daemon::{Health, Shutdown};
use registry::{
    Author, Refusal,
    decide::{
        authority::{Turn, TurnAuthorities},
        expire::Expire,
    },
    objects::{AuthorityId, Slot, Use},
};
use spiffe::Timestamp;
use tokio::sync::Mutex;

use crate::{
    ca::{
        Ca, IssueError, KeyStoreError,
        rotation::{self, Step},
    },
    ledger::{Ledger, Unavailable},
    now,
    own::{OwnError, OwnSvid},
};

/// What turns by itself, or because an administrator says so.
pub(crate) struct Turns {
    ledger: Ledger,
    ca: Arc<Ca>,
    own: Arc<OwnSvid>,
    health: Health,
    /// Held over a turn, so that no key is destroyed whose authority is on its way into the log.
    turning: Mutex<()>,
}

/// A turn that an administrator asks for.
#[derive(Clone, Debug)]
pub(crate) enum Forced {
    /// Prepare another one; one that is prepared already gives way.
    Prepare(Use),
    /// See [`Turn::Activate`].
    Activate(AuthorityId),
    /// See [`Turn::Taint`].
    Taint(AuthorityId),
    /// See [`Turn::Revoke`].
    Revoke(AuthorityId),
}

/// Something that turns by itself cannot.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// An authority cannot be made or used.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// An authority's key cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
    /// The server's own SVID cannot be made.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// The log does not take it.
    #[error("{0}")]
    Log(String),
    /// The registry does not want it.
    #[error("the certificate authority cannot turn: {0}")]
    Refused(#[from] Refusal),
}

const PART: &str = "ca";
/// Nothing waits longer than this, so a wall clock that was set is noticed too.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
const STEPS_AT_ONCE: usize = 16;

impl Turns {
    pub(crate) fn new(ledger: Ledger, ca: Arc<Ca>, own: Arc<OwnSvid>, health: Health) -> Self {
        Self { ledger, ca, own, health, turning: Mutex::default() }
    }

    /// Turns whatever is due until the end is requested.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut changes = self.ledger.changes();
        loop {
            match self.turn().await {
                Ok(()) => self.health.ready(PART),
                Err(error) => {
                    tracing::error!(%error, "the certificate authority cannot do what is due; it is tried again");
                    self.health.unready(PART, error.to_string());
                }
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(self.wait(now())) => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
            // After a failure nothing is due sooner than this, however often entries change.
            tokio::time::sleep(SHORTEST_WAIT).await;
        }
    }

    /// Does what is due now.
    pub(crate) async fn turn(&self) -> Result<(), TurnError> {
        let _turning = self.turning.lock().await;
        for _ in 0..STEPS_AT_ONCE {
            let registry = self.ledger.current();
            let authorities: Vec<_> = registry.authorities().map(|authority| &*authority.value).collect();
            let keys = self.ca.keys_here(&registry)?;
            let Some(step) = rotation::due(&authorities, &keys, now()) else { break };
            let turn = match step {
                Step::Prepare(used_for) => self.prepared(used_for)?,
                Step::Activate(id) => Turn::Activate(id),
                Step::Retire(id) => Turn::Retire(id),
            };
            self.submit(vec![turn], Author::Server).await?;
        }
        self.follow()?;
        while self.ledger.current().next_end().is_some_and(|end| end <= now()) {
            self.ledger.submit(Expire, Author::Server).await?;
        }
        Ok(())
    }

    /// Does what an administrator asks for, and says which authority it was about. From then on it is signed
    /// accordingly.
    pub(crate) async fn force(&self, forced: Forced, author: Author) -> Result<AuthorityId, TurnError> {
        let _turning = self.turning.lock().await;
        let (id, turns) = match forced {
            Forced::Prepare(used_for) => {
                let new = self.prepared(used_for)?;
                let registry = self.ledger.current();
                let mut authorities = registry.authorities().filter(|it| it.used_for() == used_for);
                let given_up = authorities.find(|authority| authority.slot == Slot::Prepared);
                let given_up = given_up.map(|authority| Turn::Retire(authority.id.clone()));
                (new.about().clone(), given_up.into_iter().chain([new]).collect())
            }
            Forced::Activate(id) => (id.clone(), vec![Turn::Activate(id)]),
            Forced::Taint(id) => (id.clone(), vec![Turn::Taint(id)]),
            Forced::Revoke(id) => (id.clone(), vec![Turn::Revoke(id)]),
        };
        self.submit(turns, author).await?;
        self.follow()?;
        Ok(id)
    }

    /// A new authority, whose key is here and which the log does not know yet.
    fn prepared(&self, used_for: Use) -> Result<Turn, TurnError> {
        let registry = self.ledger.current();
        let (trust_domain, ttl) = (registry.trust_domain(), registry.settings().ca_ttl);
        Ok(Turn::Prepare(self.ca.prepare(used_for, trust_domain, ttl, now())?))
    }

    async fn submit(&self, turns: Vec<Turn>, author: Author) -> Result<(), TurnError> {
        let new: Vec<_> = turns.iter().filter(|turn| matches!(turn, Turn::Prepare(_))).cloned().collect();
        let done = self.ledger.submit(TurnAuthorities { turns: turns.clone() }, author).await;
        match done.map_err(TurnError::from).and_then(|done| Ok(done?)) {
            Ok(()) => turns.iter().for_each(say),
            Err(error) => {
                // Nothing is signed with a key that the log knows nothing of.
                for turn in &new {
                    self.ca.forget(turn.about())?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Signs as the log says from now on, and shows an SVID by the authority that signs now.
    fn follow(&self) -> Result<(), TurnError> {
        let registry = self.ledger.current();
        self.ca.follow(&registry)?;
        Ok(self.own.renew_if_due(&self.ca, &registry, now())?)
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let registry = self.ledger.current();
        let authorities: Vec<_> = registry.authorities().map(|authority| &*authority.value).collect();
        let due = [rotation::next(&authorities), self.own.renew_at(), registry.next_end()];
        let soonest = due.into_iter().flatten().min();
        let wait = soonest.map_or(LOOK_AT_LEAST_EVERY, |due| due.since(now));
        wait.clamp(SHORTEST_WAIT, LOOK_AT_LEAST_EVERY)
    }
}

fn say(turn: &Turn) {
    let authority = turn.about();
    match turn {
        Turn::Prepare(new) => {
            let (used_for, until) = (new.kind.used_for(), new.not_after);
            tracing::info!(%authority, ?used_for, %until, "prepared an authority");
        }
        Turn::Activate(_) => tracing::info!(%authority, "this authority signs from now on"),
        Turn::Taint(_) => tracing::warn!(%authority, "whatever this authority signed is replaced"),
        Turn::Revoke(_) => tracing::warn!(%authority, "this authority is trusted no more"),
        Turn::Retire(_) => tracing::info!(%authority, "this authority is published no more"),
    }
}

impl From<Unavailable> for TurnError {
    fn from(error: Unavailable) -> Self {
        Self::Log(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use registry::{Commit, LogId, Registry, Revision, Settings};
    use store::{Judged, Loaded, Log, Memory, Origin, StoreError, Witness};

    use super::*;
    use crate::config::CaKeys;

    /// A disk that is full when it is told so.
    struct Disk(Memory, Arc<parking_lot::Mutex<bool>>);

    impl Log for Disk {
        fn id(&self) -> &LogId {
            self.0.id()
        }
        fn load(&mut self) -> Result<Loaded, StoreError> {
            self.0.load()
        }
        fn commit(&mut self, group: &[Commit]) -> Result<(), StoreError> {
            if *self.1.lock() { Err(StoreError::Full) } else { self.0.commit(group) }
        }
        fn leaves(&mut self, after: Revision, most: usize) -> Result<Vec<(Revision, Vec<u8>)>, StoreError> {
            self.0.leaves(after, most)
        }
        fn tail(&mut self, after: Revision) -> Result<Vec<Commit>, StoreError> {
            self.0.tail(after)
        }
        fn compact(&mut self, upto: Revision) -> Result<(), StoreError> {
            self.0.compact(upto)
        }
        fn backup(&mut self, to: &Path) -> Result<(), StoreError> {
            self.0.backup(to)
        }
        fn witness(&self) -> Witness {
            self.0.witness()
        }
        fn judge(&mut self, kept: &Witness) -> Result<Judged, StoreError> {
            self.0.judge(kept)
        }
        fn begin_anew(&mut self, first: &Commit) -> Result<(), StoreError> {
            self.0.begin_anew(first)
        }
        fn origin(&self) -> Option<&Origin> {
            self.0.origin()
        }
    }

    /// SPIRE 1.15.2 forgot its authorities when the store failed for a moment.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_fails_for_a_moment_costs_no_authority() {
        let directory = tempfile::tempdir().unwrap();
        let (id, full) = (LogId("log".to_owned()), Arc::new(parking_lot::Mutex::new(false)));
        let registry = Registry::new(Settings::new("acme.example".parse().unwrap()), id.clone());
        let log = Box::new(Disk(Memory::new(id), full.clone()));
        let (ledger, _ended) = Ledger::start(registry, log, Health::new()).unwrap();
        let keys = directory.path().join("keys");
        let ca = Arc::new(Ca::open(CaKeys::Disk, &keys).unwrap());
        let own = Arc::new(OwnSvid::new(ledger.current().trust_domain()));
        let turns = Turns::new(ledger.clone(), ca.clone(), own, Health::new());
        let files = || std::fs::read_dir(&keys).unwrap().count();
        let active = || ca.issuer().unwrap().id().clone();

        turns.turn().await.unwrap();
        let (first, at) = (active(), ledger.current().revision());
        *full.lock() = true;
        assert!(turns.force(Forced::Prepare(Use::X509), Author::Server).await.is_err());
        assert_eq!((active(), files(), ledger.current().revision()), (first.clone(), 2, at));
        *full.lock() = false;
        let second = turns.force(Forced::Prepare(Use::X509), Author::Server).await.unwrap();
        *full.lock() = true;
        assert!(turns.force(Forced::Activate(second.clone()), Author::Server).await.is_err());
        assert_eq!((active(), files()), (first.clone(), 3), "both keys are there still");
        *full.lock() = false;
        turns.turn().await.unwrap();
        assert_eq!(active(), first);
        turns.force(Forced::Activate(second.clone()), Author::Server).await.unwrap();
        assert_eq!((active(), files()), (second, 2), "what will not sign again has no key");
        let registry = ledger.current();
        let old = registry.authority(&first).unwrap();
        assert!(matches!(old.slot, Slot::Old { tainted: false, .. }), "published until its last SVID ends");
    }
}
