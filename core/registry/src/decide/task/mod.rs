//! Tasks: begun by the server for the node that asks, changed by their home and by administrators, ended with
//! whatever they depend on. Nothing leaves `Ended`.

mod admin;
mod begin;
mod change;
mod need;
mod turns;

pub use admin::{EndTask, ResumeTask, SuspendTask};
pub use begin::{BeginTask, Wish};
pub use change::{ChangeTasks, HomeChange, To};
pub(in crate::decide) use turns::Turns;
