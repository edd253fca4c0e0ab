//! The tasks of this node: it is their home.
//!
//! | file | holds |
//! |---|---|
//! | `book` | which tasks there are, and whose a process is |
//! | `live` | one of them: grant, domain, chain, credential |
//! | `domain` | what holds a task's processes together, as the kernel says |
//! | `governance` | actors, mandates, resources, policies and tasks, as the view has them |
//! | `fresh` | how old the server's word is |
//! | `labels` | what domains remember |
//! | `kept` | what outlives the agent |
//! | `home` | where all of that meets |
//! | `begin`, `grant`, `id` | a task begins |
//! | `ends` | what ends it by itself, and the renewal of its SVID until then |
//! | `closings` | what has ended is closed when nothing of it is open |
//! | `take_up` | the agent was restarted |
//! | `hearing`, `telling` | the server's word, and word to the server |
//! | `keys` | the keys of tenants, for what the audit trail says of arguments |
//! | `record` | what the audit trail says of them |
//! | `acting`, `shown` | what its own processes get and see |
//!
//! What takes away acts at once and here; what grants waits for the server. What happens when a task ends is told in
//! `reactions/task_ended.rs`.

pub(crate) mod acting;
pub(crate) mod begin;
pub(crate) mod book;
pub(crate) mod closings;
pub(crate) mod config;
pub(crate) mod domain;
mod ends;
pub(crate) mod fresh;
pub(crate) mod governance;
mod grant;
mod hearing;
pub(crate) mod home;
mod id;
pub(crate) mod kept;
pub(crate) mod keys;
pub(crate) mod labels;
pub(crate) mod live;
mod record;
pub(crate) mod shown;
mod take_up;
mod telling;
#[cfg(test)]
mod tests;

pub(crate) use self::{book::Book, config::Config, domain::Domain, home::Home, live::Live};
