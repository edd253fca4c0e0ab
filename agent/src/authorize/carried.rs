//! The permits that gates carry: each is known here until its outcome is, and ends with its task or its session.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use authz::Refused;
use futures::future::join_all;
use parking_lot::Mutex;
use registry::scope::ToolName;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Sessions, story::Given};
use crate::tasks::{Live, book::Voiding};

/// What one gate carries.
pub(crate) struct Carried {
    inner: Mutex<Inner>,
    say: mpsc::UnboundedSender<Said>,
    cut: Notify,
}

#[derive(Default)]
struct Inner {
    over: bool,
    given: HashMap<u64, Out>,
    /// Voids that the gate has not acknowledged.
    voids: HashMap<u64, oneshot::Sender<()>>,
    last: u64,
}

struct Out {
    given: Given,
    told_void: bool,
}

/// What is said to a gate, in this order.
pub(crate) enum Said {
    /// It may forward this.
    Permitted { id: u64, arguments: bytes::Bytes, seq: u64, task: String },
    /// It may not.
    Refused { id: u64, refused: Refused },
    /// It may release an answer, or not.
    Released { id: u64, refused: Option<Refused> },
    /// These it must stop.
    Void { number: u64, ids: Vec<u64> },
    /// What it may show.
    Shown { id: u64, shown: Result<Vec<ToolName>, Refused> },
}

/// All gates that have a session.
#[derive(Default)]
pub(super) struct Gates(Sessions);

impl Gates {
    pub(super) fn open(&self) -> (Arc<Carried>, mpsc::UnboundedReceiver<Said>) {
        let (say, said) = mpsc::unbounded_channel();
        let carried = Arc::new(Carried { inner: Mutex::default(), say, cut: Notify::new() });
        let mut sessions = self.0.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(&carried));
        (carried, said)
    }

    /// Tasks have ended: what gates carry of them ends now. Done when each gate has said that it stopped, or is cut off.
    pub(super) fn voiding(gates: &Weak<Self>, ended: &[Arc<Live>]) -> Voiding {
        let Some(gates) = gates.upgrade() else { return Box::pin(std::future::ready(())) };
        let is_ended = |given: &Given| ended.iter().any(|live| Arc::ptr_eq(live, &given.live));
        let voiding: Vec<_> = gates.all().into_iter().filter_map(|carried| carried.void(is_ended)).collect();
        Box::pin(async move { drop(join_all(voiding).await) })
    }

    /// Whatever else made permits void.
    pub(super) fn void_the_void(&self) {
        for carried in self.all() {
            if let Some(voiding) = carried.void(|given| given.spent.is_void()) {
                tokio::spawn(voiding);
            }
        }
    }

    fn all(&self) -> Vec<Arc<Carried>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

impl Carried {
    /// Gives a permit to the gate. It fails where the task has ended meanwhile, or the session: then nothing is
    /// permitted, and it comes back.
    pub(crate) fn permit(&self, id: u64, given: Given) -> Result<(), Box<Given>> {
        let mut inner = self.inner.lock();
        if inner.over || inner.given.contains_key(&id) || given.spent.is_void() {
            return Err(Box::new(given));
        }
        // Said before anything can void it, so the gate hears of both in this order.
        self.say(Said::Permitted {
            id,
            arguments: given.arguments.clone(),
            seq: given.seq,
            task: given.live.id().to_string(),
        });
        inner.given.insert(id, Out { given, told_void: false });
        Ok(())
    }

    /// The permit whose outcome the gate tells.
    pub(crate) fn take(&self, id: u64) -> Option<Given> {
        self.inner.lock().given.remove(&id).map(|out| out.given)
    }

    /// The gate has stopped what it was told to.
    pub(crate) fn voided(&self, number: u64) {
        if let Some(acknowledged) = self.inner.lock().voids.remove(&number) {
            // Whoever waited may have cut the gate off already.
            let _ = acknowledged.send(());
        }
    }

    /// The session is over: nothing more is permitted in it. What it carried has no outcome.
    pub(crate) fn end(&self) -> Vec<Given> {
        let mut inner = self.inner.lock();
        inner.over = true;
        inner.voids.clear();
        inner.given.drain().map(|(_, out)| out.given).collect()
    }

    /// Returns when the session must be ended from this side.
    pub(crate) async fn cut(&self) {
        self.cut.notified().await;
    }

    pub(crate) fn say(&self, said: Said) {
        // A session that is over hears nothing any more.
        let _ = self.say.send(said);
    }

    /// Tells the gate which of its permits are void; done when it has stopped, or is cut off.
    fn void(self: &Arc<Self>, is_void: impl Fn(&Given) -> bool) -> Option<Voiding> {
        let mut inner = self.inner.lock();
        let mut ids = Vec::new();
        for (id, out) in &mut inner.given {
            if !out.told_void && is_void(&out.given) {
                out.told_void = true;
                ids.push(*id);
            }
        }
        if ids.is_empty() || inner.over {
            return None;
        }
        inner.last += 1;
        let number = inner.last;
        let (acknowledged, stopped) = oneshot::channel();
        inner.voids.insert(number, acknowledged);
        self.say(Said::Void { number, ids });
        drop(inner);
        let carried = self.clone();
        Some(Box::pin(async move {
            // An error means that the session is over, and with it everything that it carried.
            if tokio::time::timeout(STOPPED_WITHIN, stopped).await.is_err() {
                tracing::warn!("cut a gate off: it did not say in time that it stopped");
                carried.cut.notify_one();
            }
        }))
    }
}

/// How long a gate has to stop what it forwards.
const STOPPED_WITHIN: Duration = Duration::from_millis(100);
