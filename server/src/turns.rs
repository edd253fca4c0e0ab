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
