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
};
use spiffe::Timestamp;

use crate::{
    ca::{
        Ca, IssueError, KeyStoreError,
        rotation::{self, Step},
    },
    ledger::{Ledger, Unavailable},
    now,
    own::{OwnError, OwnSvid},
};

/// What turns by itself.
pub(crate) struct Turns {
    pub(crate) ledger: Ledger,
    pub(crate) ca: Arc<Ca>,
    pub(crate) own: Arc<OwnSvid>,
    pub(crate) health: Health,
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
    /// Turns whatever is due until the end is requested.
    pub(crate) async fn run(self, shutdown: Shutdown) {
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
        for _ in 0..STEPS_AT_ONCE {
            let registry = self.ledger.current();
            let authorities: Vec<_> = registry.authorities().map(|authority| &*authority.value).collect();
            let keys = self.ca.keys_here(&registry)?;
            let Some(step) = rotation::due(&authorities, &keys, now()) else { break };
            self.step(step).await?;
        }
        let registry = self.ledger.current();
        self.ca.follow(&registry)?;
        self.own.renew_if_due(&self.ca, &registry, now())?;
        while self.ledger.current().next_end().is_some_and(|end| end <= now()) {
            self.ledger.submit(Expire, Author::Server).await?;
        }
        Ok(())
    }

    async fn step(&self, step: Step) -> Result<(), TurnError> {
        let registry = self.ledger.current();
        let turn = match step {
            Step::Prepare(used_for) => {
                let ttl = registry.settings().ca_ttl;
                Turn::Prepare(self.ca.prepare(used_for, registry.trust_domain(), ttl, now())?)
            }
            Step::Activate(id) => Turn::Activate(id),
            Step::Retire(id) => Turn::Retire(id),
        };
        match &turn {
            Turn::Prepare(new) => {
                let used_for = new.kind.used_for();
                tracing::info!(authority = %new.id, ?used_for, until = %new.not_after, "prepares an authority");
            }
            Turn::Activate(id) => tracing::info!(authority = %id, "signs with this authority from now on"),
            Turn::Taint(id) => {
                tracing::warn!(authority = %id, "has everything replaced that this authority signed")
            }
            Turn::Revoke(id) => tracing::warn!(authority = %id, "trusts this authority no more"),
            Turn::Retire(id) => tracing::info!(authority = %id, "publishes this authority no more"),
        }
        Ok(self.ledger.submit(TurnAuthorities { turns: vec![turn] }, Author::Server).await??)
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

impl From<Unavailable> for TurnError {
    fn from(error: Unavailable) -> Self {
        Self::Log(error.to_string())
    }
}
