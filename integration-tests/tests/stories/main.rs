//! What Writ promises, told on real binaries, sockets and processes: one story a file.

mod agreement;
mod attacks;
mod attestation_tests;
mod authority;
mod backups;
mod bad_bytes;
mod by_flags;
mod certificates;
mod command_line;
mod containers;
mod corruption;
mod declared;
mod deletion;
mod demo;
mod documents;
mod endurance;
mod evidence;
mod example_folders;
mod examples;
mod exhaustion;
mod faults;
mod files;
mod flaws;
mod flood;
mod full_disk;
mod go_spiffe;
mod governing;
mod headers;
mod inside;
mod jwt;
mod kill_nine;
mod kubernetes_nodes;
mod kubernetes_pods;
mod launch;
mod mint;
mod network;
mod nodes;
mod peers;
mod propagation;
mod py_and_java;
mod refusal;
mod returning;
mod rotation;
mod rust_spiffe;
mod selectors;
mod server_down;
mod spire_agent;
mod spire_commands;
mod spire_upstream;
mod spire_x509pop;
mod systemd;
mod tasks;
mod tokens;
mod up_twice;
mod validate;
mod watching;
mod x509pop;

use std::time::Duration;

/// How long an event may take on a loaded machine before a story gives up.
const SOON: Duration = Duration::from_secs(20);

/// The selector of whoever runs the tests.
fn own_uid() -> String {
    format!("unix:uid:{}", nix::unistd::geteuid())
}
