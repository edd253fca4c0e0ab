//! What can go wrong with a log.

use std::path::PathBuf;

use registry::Revision;
use rusqlite::ErrorCode;

/// Why the log did not do it. Unless it is said otherwise, nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has the file open.
    #[error("{} is in use by another process; stop that server, or give this one another state directory", path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The file is not one of ours.
    #[error("{} is not a Writ log; move it away, or name another state directory", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// A newer version of Writ wrote it.
    #[error(
        "the log has format {found}, and this version of writ knows formats up to {known}; run the newer writ"
    )]
    Newer {
        /// The format in the file.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// What is on disk is not what was written. Nothing of it is served.
    #[error(
        "the log was altered outside of writ: {what}; stop here and run, with the server's --data or --config: writ backup restore FILE --replace"
    )]
    Tampered {
        /// Which row or sum does not hold.
        what: String,
    },
    /// The log is an older copy of itself, or goes on from one.
    #[error(
        "the log was put back: it is at revision {at}, and revision {seen} of it had been acknowledged and is not in \
         it; put the newest log.db in its place, restore a newer backup with: writ backup restore, or go on from this \
         one with: writ backup accept",
        at = .at.0, seen = .seen.0
    )]
    RolledBack {
        /// Its last revision.
        at: Revision,
        /// What somebody has seen.
        seen: Revision,
    },
    /// No space is left; nothing was acknowledged, and it goes on once there is space.
    #[error("no space is left for the log; free some on its file system")]
    Full,
    /// Earlier the disk failed in a way that leaves open what reached it.
    #[error(
        "the log stopped after a disk error, because what reached the disk is unknown; restart the server"
    )]
    Fenced,
    /// The commits do not follow what is there.
    #[error("the log is at revision {at}, so revision {got} does not follow", at = .at.0, got = .got.0)]
    Gap {
        /// The last revision in the log.
        at: Revision,
        /// What came.
        got: Revision,
    },
    /// The commits asked for are no longer kept.
    #[error("events up to revision {upto} are compacted", upto = .upto.0)]
    Compacted {
        /// The last one that is forgotten.
        upto: Revision,
    },
    /// Others could read or alter the file.
    #[error("{} can be read or altered by others (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The database.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The database failed in another way.
    #[error("the log's database failed: {0}")]
    Database(rusqlite::Error),
    /// The file system failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Tampered { what: format!("the database is damaged ({error})") }
            }
            // Every statement here fits the tables that were made, so it is the tables that changed.
            Some(ErrorCode::Unknown) => {
                Self::Tampered { what: format!("its tables are not its own ({error})") }
            }
            _ => Self::Database(error),
        }
    }
}
