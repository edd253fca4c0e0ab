//! Colours, where a terminal shows them.

use std::io::{self, IsTerminal as _};

/// A style for a terminal, or nothing where standard output is something else or `NO_COLOR` is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// What standard output can show.
    pub(crate) fn for_stdout() -> Self {
        Self(io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    /// Stands out.
    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Steps back.
    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// Went well.
    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
