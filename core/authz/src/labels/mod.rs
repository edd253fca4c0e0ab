//! Labels of places that outlive tasks: isolation domains, stores; and what patterns find in results.
//!
//! The lattice itself is the registry's ([`registry::scope::Label`]). Here as there, labels only rise.

mod domains;
mod patterns;
mod stored;

pub use domains::DomainLabels;
pub use patterns::{BadPattern, Patterns};
pub use stored::StoredLabels;
