//! Where generated services meet the product: each method reads its message, asks a room, and writes
//! the answer. Who may call, the door has decided; nothing is decided here.

pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod audit;
mod batch;
pub(crate) mod bundle;
pub(crate) mod debug;
pub(crate) mod entry;
mod governing;
pub(crate) mod health;
pub(crate) mod local_authority;
pub(crate) mod logger;
pub(crate) mod node;
pub(crate) mod recorder;
pub(crate) mod serve;
pub(crate) mod svid;
mod sync;
pub(crate) mod tasks;
pub(crate) mod trust_domain;

use tonic::{Request, Status};

use crate::{
    callers::{Caller, NodeCaller},
    ledger::Unavailable,
};

/// Who makes this request.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("a request that nobody admitted"))
}

/// The agent that makes this request.
fn node_caller<T>(request: &Request<T>) -> Result<NodeCaller, Status> {
    match caller(request)? {
        Caller::Node(node) => Ok(node),
        _ => Err(Status::permission_denied("this is for agents")),
    }
}

/// A method that SPIRE has and this server has not.
fn not_served(why: &str) -> Status {
    Status::unimplemented(why)
}

/// For administrators, who may know why.
fn unavailable(error: Unavailable) -> Status {
    Status::unavailable(error.to_string())
}
