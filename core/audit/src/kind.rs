//! Which records there are.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Declares the kinds with their names.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What a record is about.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Its name in records.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// An action was judged.
    Decision = "decision",
    /// What became of a permitted action.
    Outcome = "outcome",
    /// So many denials in a second, after a task's budget of single ones was spent.
    Denials = "denials",
    /// A task's grant was signed.
    TaskGrant = "task.grant",
    /// A task began.
    TaskBegin = "task.begin",
    /// A task was refused.
    TaskRefuse = "task.refuse",
    /// A task may do nothing but wait or end.
    TaskSuspend = "task.suspend",
    /// A suspended task goes on.
    TaskResume = "task.resume",
    /// A task ended.
    TaskEnd = "task.end",
    /// Every action of an ended task has an outcome.
    TaskClose = "task.close",
    /// A task's or a domain's label rose.
    LabelRaise = "label.raise",
    /// A label was lowered by declassification.
    LabelLower = "label.lower",
    /// A process joined or left a task's domain.
    DomainChange = "domain.change",
    /// A permit was taken back before it was spent.
    PermitRevoke = "permit.revoke",
    /// An approval was asked for, given, refused or used.
    Approval = "approval",
    /// A lease was given or ended.
    Lease = "lease",
    /// A credential was issued.
    Issuance = "issuance",
    /// A process was attested, or was not.
    Attestation = "attestation",
    /// Policies changed.
    PolicyChange = "policy.change",
    /// A tool's definition is not the pinned one.
    ToolChange = "tool.change",
    /// An administrator did something on the node.
    Admin = "admin",
    /// A spool begins.
    SpoolBegin = "spool.begin",
    /// What a crash left half written at the end of a spool was cut off.
    SpoolTorn = "spool.torn",
    /// A spool has no room: nothing new is permitted.
    SpoolFull = "spool.full",
    /// A spool has room again.
    SpoolRoom = "spool.room",
    /// Somebody read the audit log.
    AuditRead = "audit.read",
    /// The personal payload of a record was erased.
    AuditErase = "audit.erase",
    /// Evidence is missing, or contradicts other evidence.
    AuditAlarm = "audit.alarm",
    /// The log goes on from a copy of itself.
    AuditRestore = "audit.restore",
}

/// A text that names no kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there are no records of this kind")]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(UnknownKind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
