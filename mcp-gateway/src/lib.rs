//! The gate in front of MCP servers: every call of a tool is asked about before it is forwarded.
//!
//! | file | holds |
//! |---|---|
//! | `serve` | the daemon: its socket, and who connects to it |
//! | `http` | MCP's streamable HTTP, as far as it is a matter of headers and bodies |
//! | `message` | one JSON-RPC message, parsed once |
//! | `methods` | the row of each method; what has none is denied |
//! | `tools_list`, `tools_call` | the two stories that matter |
//! | `revision` | what differs between the revisions of MCP |
//! | `agent/` | the node agent behind its socket: asking, permits, the end of permits |
//! | `upstream/` | an MCP server behind the gate: a command or an address |
//! | `bridge` | a client that only starts commands gets to the socket through this; it holds nothing |
//! | `direct` | the same gate around one command, inside the caller's own domain |
//!
//! The gate keeps no session: who calls is the process that the kernel names, and all that decisions depend on lies
//! with the agent. Without the agent nothing is forwarded.

mod agent;
mod bridge;
mod config;
mod direct;
mod gate;
mod http;
mod message;
mod methods;
mod revision;
mod secret;
mod serve;
mod tools_call;
mod tools_list;
mod upstream;

pub use bridge::{Bridge, bridge};
pub use config::{BadConfig, Config, Limits, Pattern, Upstream};
pub use direct::{Direct, Error as DirectError, direct};
pub use serve::{Error, Serving, serve};
