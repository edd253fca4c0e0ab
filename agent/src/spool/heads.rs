//! Once a second the head is signed with the node's key, kept beside the spool and shown to the server:
//! who has it notices when the end is missing or another one. And floods are summed up.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use audit::{Head, SignedHead};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use daemon::{DiskError, read_private, write_private};
use serde::{Deserialize, Serialize};
use spiffe::PrivateKey;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::Spool;
use crate::clock;

/// The newest signed head, for whoever shows it to the server.
pub type Heads = watch::Receiver<Option<SignedHead>>;

/// A signed head on disk.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    head: Head,
    signature: String,
}

impl Spool {
    /// Signs heads once a second with the key that the node has then, for as long as this is polled.
    pub async fn sign_heads(
        &self,
        key: impl Fn() -> PrivateKey,
        heads: watch::Sender<Option<SignedHead>>,
    ) -> Infallible {
        let dir = self.queue.dir.clone();
        let mut second = interval_at(Instant::now() + SECOND, SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signed = 0;
        loop {
            second.tick().await;
            self.sum_up();
            let end = self.end.borrow().clone();
            if end.node.is_empty() || end.seq == signed {
                continue;
            }
            signed = end.seq;
            match end.head(clock::now()).sign(&key()) {
                Ok(head) => {
                    keep(dir.clone(), head.clone()).await;
                    heads.send_replace(Some(head));
                }
                Err(error) => tracing::error!(%error, "the head of the audit records is not signed"),
            }
        }
    }
}

async fn keep(dir: PathBuf, head: SignedHead) {
    let written = tokio::task::spawn_blocking(move || {
        let kept = Kept { head: head.head, signature: STANDARD.encode(&head.signature) };
        let json = serde_json::to_vec(&kept).unwrap_or_default();
        write_private(&dir.join(HEAD), &json)
    });
    if let Ok(Err(error)) = written.await {
        tracing::debug!(%error, "the signed head of the audit records is not kept"); // a full disk says so elsewhere
    }
}

/// The head that was kept, if this key has signed it.
pub(super) fn kept(dir: &std::path::Path, key: &PrivateKey) -> Result<Option<Head>, DiskError> {
    let Some(bytes) = read_private(&dir.join(HEAD), 64 * 1024)? else { return Ok(None) };
    let signed = serde_json::from_slice::<Kept>(&bytes).ok().and_then(|kept| {
        let signature = STANDARD.decode(kept.signature).ok()?;
        Some(SignedHead { head: kept.head, signature })
    });
    let ours = signed.filter(|signed| key.public_key().is_ok_and(|public| signed.is_signed_by(&public)));
    if ours.is_none() {
        tracing::warn!(dir = %dir.display(), "ignored a head of the audit records that this node's key has not signed");
    }
    Ok(ours.map(|signed| signed.head))
}

pub(super) const HEAD: &str = "head.json";
const SECOND: Duration = Duration::from_secs(1);
