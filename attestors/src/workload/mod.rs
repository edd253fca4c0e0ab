//! Workload attestors: facts about a process on this node.

pub mod unix;
