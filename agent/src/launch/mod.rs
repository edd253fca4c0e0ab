//! Measured launches: `writ run` asks, and the agent measures, starts and remembers.
//!
//! 1. `plan.rs` finds, with the asker's rights, which files the command is made of (`shape.rs` reads its
//!    arguments as its interpreter does; what is not understood is refused).
//! 2. `measure.rs` and `tree.rs` copy them while they are hashed to a folder that only root can change. The
//!    copies are what runs; an interpreter is run in place if only root can change it, and else not at all.
//! 3. `launcher.rs` makes a cgroup below the asker's, notes in [`attestors::workload::launch::Launches`] what its
//!    processes have, and only then lets [`peer::launch`] start the command as a child of the agent.
//! 4. `kept.rs` remembers it over a restart of the agent, as far as the kernel vouches for the cgroup.
//!
//! Nothing that the asker says about itself is used: its user, groups, directory, limits and environment come
//! from the kernel, and its words only say what to measure.

pub(crate) mod config;
mod environment;
mod folder;
mod kept;
mod launcher;
mod measure;
mod measurement;
mod plan;
mod shape;
mod tree;

pub(crate) use launcher::Launcher;
use measurement::Unmeasurable;
