//! The agent's sockets: one for every process, one for its administrator.

mod glue;
pub(crate) mod private;
pub(crate) mod public;
