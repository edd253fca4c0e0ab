//! Commits: what the log holds, one for each revision.

use serde::{Deserialize, Serialize};
use spiffe::{SpiffeId, Timestamp};

use crate::objects::{Key, Object};

/// Position in a log: 1 for its first commit, one more for each, without gaps. 0 is before everything.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Tells one log from another; new when a log is made and after a restore.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct LogId(pub String);

/// One step of the log: objects, event and audit leaf become durable together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its place in the log.
    pub revision: Revision,
    /// When it was decided.
    pub at: Timestamp,
    /// Who asked.
    pub author: Author,
    /// What became of which objects; empty for a refusal or a mere record.
    pub changes: Vec<Change>,
    /// The audit leaf: the canonical JSON of the record, opaque to the store.
    pub leaf: Vec<u8>,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is now this, at this version.
    Put {
        /// 1 when created, one more with each change.
        version: u64,
        /// The object.
        object: Object,
    },
    /// It is gone.
    Delete(Key),
}

impl Change {
    /// Which object changed.
    pub fn key(&self) -> Key {
        match self {
            Self::Put { object, .. } => object.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

/// Who asked for a commit, as authenticated by the door it came through.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Author {
    /// The server itself: rotation, expiry, first start.
    Server,
    /// A process on the server's private socket.
    Local {
        /// Its user.
        uid: u32,
        /// Its process id when it connected.
        pid: i32,
    },
    /// The holder of an admin SVID.
    Admin {
        /// The SVID's ID.
        id: SpiffeId,
    },
    /// A node's agent.
    Node {
        /// The node's ID.
        id: SpiffeId,
    },
    /// A server below this one, with the SVID of an entry with `downstream`.
    Downstream {
        /// The SVID's ID.
        id: SpiffeId,
    },
    /// Somebody who has not authenticated, for example a node that attests.
    Stranger {
        /// The network address it came from.
        address: String,
    },
}
