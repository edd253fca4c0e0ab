//! The agent's sockets: one for every process, one for gates, one for its administrator.

pub(crate) mod authz;
mod glue;
pub(crate) mod private;
pub(crate) mod public;
