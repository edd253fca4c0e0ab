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
//!
//! What takes away acts at once and here; what grants waits for the server. What happens when a task ends is told in
//! `reactions/task_ended.rs`.

pub(crate) mod book;
pub(crate) mod config;
pub(crate) mod domain;
pub(crate) mod fresh;
pub(crate) mod governance;
pub(crate) mod home;
pub(crate) mod kept;
pub(crate) mod labels;
pub(crate) mod live;

pub(crate) use self::{book::Book, config::Config, domain::Domain, home::Home, live::Live};
