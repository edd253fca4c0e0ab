//! Conversions between wire messages and the product's own types. What comes from the wire is checked
//! here, once; what goes to it cannot fail.

pub mod admin;
pub mod agent;
pub mod bundle;
pub mod delta;
pub mod entry;
pub mod filter;
pub mod id;
pub mod selector;
pub mod status;
pub mod tasks;
pub mod trust_bundle;

/// A message that does not say what its type demands; the sentence names the field.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct WireError(pub String);

impl WireError {
    /// The field `name` breaks the rule that `error` tells.
    pub(crate) fn field(name: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{name}: {error}"))
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.0)
    }
}
