//! Every refusal of the socket, and the status that the caller gets for it.

use spiffe::{AudienceError, jwt::MAX_TOKEN_BYTES};
use tonic::Status;

use crate::NoToken;

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The Workload API's header is missing, wrong or there twice.
    #[error("security header missing from request")]
    NoSecurityHeader,
    /// No entry matches the caller. It says who can find out why, and nothing about entries.
    #[error("no identity issued; an administrator can run: writ explain --pid {0}")]
    NoIdentity(u32),
    /// The caller has an identity, but no SVID that is valid now.
    #[error("the identity is not ready yet; try again, or see: writ status")]
    NotReady,
    /// The caller's identity is its task's, whose key stays with the agent.
    #[error("the task's key is not exported")]
    KeyNotExported,
    /// The caller could not be examined.
    #[error("workload attestation failed; the agent's log says why")]
    NotIdentified,
    /// The process at the other end is not what it was when it connected.
    #[error("this process is no longer the one that connected; connect again")]
    Changed,
    /// The caller has too much open already.
    #[error("too many open requests of this {0}; close some, then try again")]
    TooMany(&'static str),
    /// There is no such process that the caller may ask about.
    #[error("there is no process {0} of yours")]
    NotYours(u32),
    /// There is no such method.
    #[error("this method is not served here")]
    NoSuchMethod,
    /// Nobody can be given a token for these, or judged by one of them.
    #[error(transparent)]
    Audience(#[from] AudienceError),
    /// The identity that is asked for is not a SPIFFE ID.
    #[error("the requested SPIFFE ID is not one")]
    NotAnId,
    /// There is no token to judge, or none that is short enough to be one.
    #[error("svid must be specified, with at most {MAX_TOKEN_BYTES} bytes")]
    NotAToken,
    /// There is no token to hand out.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// The message is not what the method takes.
    #[error("the request's message cannot be read")]
    Unreadable,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let says = refusal.to_string();
        match refusal {
            Refusal::NoSecurityHeader
            | Refusal::Unreadable
            | Refusal::Audience(_)
            | Refusal::NotAnId
            | Refusal::NotAToken => Self::invalid_argument(says),
            Refusal::NoIdentity(_) | Refusal::KeyNotExported => Self::permission_denied(says),
            Refusal::NotReady
            | Refusal::NotIdentified
            | Refusal::Changed
            | Refusal::TooMany(_)
            | Refusal::NoToken(_) => Self::unavailable(says),
            Refusal::NotYours(_) => Self::not_found(says),
            Refusal::NoSuchMethod => Self::unimplemented(says),
        }
    }
}
