//! Clients: generated code on one side, the product's types on the other.

pub mod admin;
pub mod attest;
pub mod audit;
pub mod authority;
pub mod bundles;
pub mod mint;
pub mod node;
pub mod recorder;
pub mod spire;
pub mod tasks;

use tonic::{Code, Status};

use crate::wire::{
    WireError,
    status::{Reason, denied_reason},
};

/// A call that a server did not do.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server cannot be reached or cannot answer now; later it may.
    #[error("the server does not answer: {0}")]
    Unavailable(String),
    /// The server turns this agent away and says what the agent must do.
    #[error("the server turned this agent away: {message}")]
    Agent {
        /// What to do.
        reason: Reason,
        /// The server's words.
        message: String,
    },
    /// The server refuses this call.
    #[error("{message}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The server's words.
        message: String,
    },
    /// The server said something that it never should.
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        if let Some(reason) = denied_reason(&status) {
            return Self::Agent { reason, message: status.message().to_owned() };
        }
        match status.code() {
            // What tonic makes of a broken connection is Unknown; our server never says that.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                Self::Unavailable(status.message().to_owned())
            }
            code => Self::Refused { code, message: status.message().to_owned() },
        }
    }
}

impl From<WireError> for CallError {
    fn from(error: WireError) -> Self {
        Self::Nonsense(error.to_string())
    }
}
