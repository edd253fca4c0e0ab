//! Workload attestors: facts about a process on this node.

pub mod docker;
pub mod systemd;
pub mod unix;
