//! What to tell whoever writes an entry about its selectors. Pure, so that the server can say it too.

use std::fmt;

use spiffe::Selector;

/// Something about the selectors of an entry that its author should know. None of it forbids the entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Warning {
    /// Nothing in it but what a process can pretend.
    OnlyWeak,
}

/// What there is to say about an entry for processes that has these selectors.
pub fn warnings(selectors: &[Selector]) -> Vec<Warning> {
    let weak = |selector: &Selector| {
        selector.kind() == "unix"
            && ["path:", "sha256:"].iter().any(|name| selector.value().starts_with(name))
    };
    if !selectors.is_empty() && selectors.iter().all(weak) { vec![Warning::OnlyWeak] } else { Vec::new() }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyWeak => f.write_str("its only process selectors are weak"),
        }
    }
}
