//! [`Live`]: one task of this node, from its grant to its end.

use std::{collections::BTreeSet, sync::Arc};

use authz::{Chain, chain::State};
use parking_lot::Mutex;
use registry::objects::{EntryId, Reason, Task, TaskId};
use serde::{Deserialize, Serialize};
use spiffe::{Selector, SpiffeId};
use tokio::sync::watch;

use super::{Domain, domain::Place};
use workload_api::X509Svid;

use crate::{matching::Facts, rotation::Validity};

/// A task whose home this node is. It is made from a grant that was verified.
pub(crate) struct Live {
    /// What the server granted.
    pub(crate) grant: Arc<Task>,
    /// The grant as the server signed it.
    pub(crate) signed: Arc<str>,
    /// Its own SPIFFE ID.
    pub(crate) spiffe_id: SpiffeId,
    /// Who its processes are.
    pub(crate) domain: Domain,
    /// The same, as it is found again.
    pub(crate) place: Place,
    /// By what they were known to be the actor's.
    pub(crate) measured: Measured,
    /// The chain that it belongs to: it and every task above and below it, in one total order behind this lock.
    pub(crate) chain: Arc<Mutex<Chain>>,
    state: watch::Sender<State>,
    credential: watch::Sender<Option<Arc<Credential>>>,
}

/// A task's X509-SVID with its key. With its last owner the key is wiped.
#[derive(Debug)]
pub(crate) struct Credential {
    /// The SVID.
    pub(crate) svid: Arc<X509Svid>,
    /// How long it is valid.
    pub(crate) validity: Validity,
}

/// What a task's processes were known by when it began.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measured {
    /// The entry that gives them the actor's ID.
    pub(crate) entry: EntryId,
    /// What it asks of them.
    pub(crate) selectors: BTreeSet<Selector>,
}

impl Live {
    /// A task of this chain, which has it already.
    pub(crate) fn new(
        grant: Arc<Task>,
        signed: Arc<str>,
        spiffe_id: SpiffeId,
        (domain, place): (Domain, Place),
        measured: Measured,
        chain: Arc<Mutex<Chain>>,
        state: State,
    ) -> Self {
        let (state, credential) = (watch::Sender::new(state), watch::Sender::new(None));
        Self { grant, signed, spiffe_id, domain, place, measured, chain, state, credential }
    }

    /// Its name.
    pub(crate) fn id(&self) -> &TaskId {
        &self.grant.id
    }

    /// Whether it may act, now and after each change. `Ended` is the last.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Whether it may act now, its time aside.
    pub(crate) fn is_active(&self) -> bool {
        matches!(*self.state.borrow(), State::Active)
    }

    /// Whether it is over.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(*self.state.borrow(), State::Ended(_))
    }

    /// Returns with the reason when it is over.
    pub(crate) async fn ended(&self) -> Reason {
        let mut state = self.state.subscribe();
        loop {
            if let State::Ended(reason) = *state.borrow_and_update() {
                return reason;
            }
            if state.changed().await.is_err() {
                return Reason::DomainDead;
            }
        }
    }

    /// Whether a process of which this was proved is what the task's were when it began.
    pub(crate) fn is_as_measured(&self, facts: &Facts) -> bool {
        facts.have_all(&self.measured.selectors)
    }

    /// Its X509-SVID with the key, now and after each renewal.
    pub(crate) fn credential(&self) -> watch::Receiver<Option<Arc<Credential>>> {
        self.credential.subscribe()
    }

    /// Takes over a new SVID, unless the task may not have one any more.
    pub(super) fn hold(&self, held: Arc<Credential>) {
        self.credential.send_if_modified(|credential| {
            let may = self.is_active();
            if may {
                *credential = Some(held);
            }
            may
        });
    }

    /// Says what the chain says already. INVARIANT: an ended task stays ended, and has no key.
    pub(super) fn tell(&self, state: State) {
        self.state.send_if_modified(|known| {
            let differs = !matches!(known, State::Ended(_)) && *known != state;
            if differs {
                *known = state;
            }
            differs
        });
        if matches!(state, State::Ended(_)) {
            self.credential.send_replace(None); // the last owner wipes the key
        }
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task {} ({:?})", self.grant.id, *self.state.borrow())
    }
}
