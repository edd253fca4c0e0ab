//! What this server does not know: what agents have seen of its log, and is not in it.
//!
//! A log that was put back is noticed by a witness and ends the server (`store::witness`). A log that goes
//! on from a backup knows that something may be missing; here it learns how much.

use daemon::{Gauge, Metrics};
use parking_lot::Mutex;
use registry::Revision;
use serde_json::{Value, json};
use server_api::wire::delta::Head;
use store::{Judged, Origin, Witness};

use crate::{callers::NodeCaller, ledger::Ledger};

/// Up to where agents have seen the log from which this one goes on.
pub(crate) struct Lost {
    upto: Mutex<Option<Revision>>,
    figure: Gauge,
}

impl Lost {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let about =
            "Revisions that agents have seen and that are not in the backup that this server goes on from.";
        Self { upto: Mutex::default(), figure: metrics.gauge("writ_server_lost_revisions", about, &[]) }
    }

    /// Hears what the agent of `caller` has seen as the newest.
    pub(crate) async fn hear(&self, ledger: &Ledger, caller: &NodeCaller, seen: Head) {
        let Some(seen) = Witness::from_parts(seen.log, seen.revision, &seen.proof) else { return };
        if seen == *ledger.newest() {
            return;
        }
        if let (Judged::Lost(upto), Some(origin)) = (ledger.judge(seen).await, ledger.origin()) {
            let mut known = self.upto.lock();
            if known.is_some_and(|known| upto <= known) {
                return;
            }
            *known = Some(upto);
            self.figure.set(i64::try_from(upto.0 - origin.revision.0).unwrap_or(i64::MAX));
            tracing::error!(
                node = %caller.id,
                "revisions {} to {} were lost when this server was restored: bans, evictions, deletions and \
                 everything else that was done in them must be done again",
                origin.revision.0 + 1,
                upto.0
            );
        }
    }

    /// For `writ status`: from what the log goes on, and what of it is known to be lost.
    pub(crate) fn json(&self, origin: Option<&Origin>) -> Value {
        let Some(origin) = origin else { return Value::Null };
        let lost = self.upto.lock().map(|upto| json!({ "from": origin.revision.0 + 1, "to": upto }));
        json!({ "log": origin.log, "revision": origin.revision, "lost": lost })
    }
}
