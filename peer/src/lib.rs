//! A process at the other end of a Unix socket, held so that it cannot be mistaken for another one.
//!
//! [`Listener`] accepts connections and pins the caller with `SO_PEERPIDFD` before a byte is read.
//! [`Peer`] is that process: a pidfd (the kernel never gives it to another process, whatever happens to
//! the pid), a handle on its `/proc` directory, and what it was when it connected: its image and its
//! uids, gids and cgroup. [`Peer::check`] says, for a few microseconds, whether it is still the same living
//! image under the same ids, so it can be asked before each answer and each push. [`Watch`] has the kernel
//! say when to ask in between, and [`Executions`] knows which file a process really executed.
//!
//! What no kernel tells: a connection that was handed on (to a child, or over another socket) still speaks
//! for the process that made it, for as long as that one lives unchanged; a process that connects, leaves
//! the descriptor behind and runs another program before it is accepted is that program, unless that runs
//! under other ids, which is refused; and what runs inside an image need not be what is in its file.
//!
//! Not here: what the facts mean (`attestors`), who may have what (`agent`), and any protocol. This is
//! the only room with `unsafe` in it: in `pidfd.rs`, `ready.rs`, `executions/ring.rs` and `launch/`.

mod connections;
mod credentials;
mod egress;
mod executions;
mod held;
mod image;
mod kin;
pub mod launch;
mod listener;
mod now;
mod pidfd;
mod pin;
mod process;
mod ready;
mod socket_file;
mod status;
mod watch;

pub use credentials::{Credentials, Ids};
pub use executions::{Execution, Executions};
pub use held::{Changed, Peer};
pub use image::{Exe, Image};
pub use kin::{Kin, Terminal};
pub use listener::{Counts, Listener};
pub use pin::{PinError, Pinning};
pub use process::Process;
pub use socket_file::ListenError;
pub use status::Status;
pub use watch::{Silence, Watch, Watched};
