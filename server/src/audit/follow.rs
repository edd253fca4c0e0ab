//! The server's own commits: each has an audit leaf, and each leaf is merged once. How far that is done
//! becomes durable with what was merged.

use std::time::Duration;

use registry::{LogId, Revision};
use store::{NewEntry, StoreError};

use super::{Audit, New, NotAppended, Step};
use crate::ledger::Ledger;

/// Merges what is committed, for as long as the log can be asked.
pub(crate) async fn follow(audit: Audit, ledger: Ledger) {
    let mut committed = ledger.committed();
    loop {
        committed.borrow_and_update();
        match merge(&audit, &ledger).await {
            Ok(true) => continue,
            Ok(false) => {
                if committed.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "the server's own commits are not merged into the audit log");
                tokio::time::sleep(TRY_AGAIN).await; // a full disk; nothing tells when there is room
            }
        }
    }
}

/// Whether there was something to merge.
async fn merge(audit: &Audit, ledger: &Ledger) -> Result<bool, String> {
    let (source, from, at) = merged(audit, ledger).map_err(|error| error.to_string())?;
    let leaves = ledger.leaves(at, AT_ONCE).await.map_err(|error| error.to_string())?;
    let Some((last, _)) = leaves.last() else { return Ok(false) };
    let step = Step { source, from, to: last.0.to_be_bytes().to_vec() };
    let entry = |(_, leaf): (Revision, Vec<u8>)| New::Leaf(NewEntry { leaf, sealed: Vec::new() });
    let entries = leaves.into_iter().map(entry).collect();
    match audit.append(entries, Some(step)).await {
        Ok(()) | Err(NotAppended::Overtaken) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}

/// The name of this log as a source, its cursor, and the revision up to which it is merged.
fn merged(audit: &Audit, ledger: &Ledger) -> Result<(String, Option<Vec<u8>>, Revision), StoreError> {
    let named = |log: &LogId| format!("log:{}", log.0);
    let revision = |cursor: Option<&[u8]>| {
        cursor.and_then(|cursor| cursor.try_into().ok()).map_or(0, u64::from_be_bytes)
    };
    let (source, reader) = (named(ledger.current().log()), audit.reader()?);
    let from = reader.cursor(&source)?;
    let at = match (&from, ledger.origin()) {
        // A log that goes on from a copy: what of it was merged under its former name is not merged again.
        (None, Some(origin)) => {
            revision(reader.cursor(&named(&origin.log))?.as_deref()).min(origin.revision.0)
        }
        (from, _) => revision(from.as_deref()),
    };
    Ok((source, from, Revision(at)))
}

const AT_ONCE: usize = 1024;
const TRY_AGAIN: Duration = Duration::from_secs(1);
