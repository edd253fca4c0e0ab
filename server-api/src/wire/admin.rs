//! Modes and results of `writ.admin.v1`'s Apply.

use bytes::Bytes;
use proto::writ::admin::v1::{ApplyResult, apply_request, apply_result};
use tonic::Code;

/// What is to become of the objects of an Apply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// An existing or similar object is an error.
    Create,
    /// A missing object is an error.
    Update,
    /// Created where it is missing, updated where it differs, untouched where it is the same.
    Upsert,
    /// A missing object is an error.
    Delete,
    /// Answered as an upsert would be, and nothing is changed.
    DryRun,
}

impl Mode {
    /// As the wire numbers it; `None` for a number that says nothing.
    pub fn from_wire(number: i32) -> Option<Self> {
        match apply_request::Mode::try_from(number).ok()? {
            apply_request::Mode::Unspecified => None,
            apply_request::Mode::Create => Some(Self::Create),
            apply_request::Mode::Update => Some(Self::Update),
            apply_request::Mode::Upsert => Some(Self::Upsert),
            apply_request::Mode::Delete => Some(Self::Delete),
            apply_request::Mode::DryRun => Some(Self::DryRun),
        }
    }

    /// The wire's number.
    pub fn to_wire(self) -> i32 {
        let mode = match self {
            Self::Create => apply_request::Mode::Create,
            Self::Update => apply_request::Mode::Update,
            Self::Upsert => apply_request::Mode::Upsert,
            Self::Delete => apply_request::Mode::Delete,
            Self::DryRun => apply_request::Mode::DryRun,
        };
        mode.into()
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing: it was refused.
    None,
    /// It is new.
    Created,
    /// It differs.
    Updated,
    /// It was so already.
    Unchanged,
    /// It is gone.
    Deleted,
}

/// The result of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The gRPC code; Ok is success.
    pub code: Code,
    /// Why it was refused.
    pub message: String,
    /// What became of it.
    pub effect: Effect,
    /// The object's JSON as it is now; with AlreadyExists the one that is in the way.
    pub body: Bytes,
    /// What the administrator should know.
    pub warnings: Vec<String>,
}

impl Applied {
    /// From the wire.
    pub fn from_wire(result: ApplyResult) -> Self {
        let effect = match result.effect() {
            apply_result::Effect::None => Effect::None,
            apply_result::Effect::Created => Effect::Created,
            apply_result::Effect::Updated => Effect::Updated,
            apply_result::Effect::Unchanged => Effect::Unchanged,
            apply_result::Effect::Deleted => Effect::Deleted,
        };
        Self {
            code: Code::from_i32(result.code),
            message: result.message,
            effect,
            body: result.body,
            warnings: result.warnings,
        }
    }

    /// To the wire.
    pub fn to_wire(self) -> ApplyResult {
        let effect = match self.effect {
            Effect::None => apply_result::Effect::None,
            Effect::Created => apply_result::Effect::Created,
            Effect::Updated => apply_result::Effect::Updated,
            Effect::Unchanged => apply_result::Effect::Unchanged,
            Effect::Deleted => apply_result::Effect::Deleted,
        };
        ApplyResult {
            code: self.code as i32,
            message: self.message,
            body: self.body,
            warnings: self.warnings,
            effect: effect.into(),
        }
    }
}
