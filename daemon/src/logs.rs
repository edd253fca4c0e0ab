//! Logs: lines on standard error, one for each event, with every control character escaped, so that
//! no stranger's bytes can forge a line or speak to the terminal that shows it.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use parking_lot::Mutex;
pub use tracing_subscriber::filter::LevelFilter as Level;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, reload};

/// Starts logging to standard error. `filter` is what the environment variable `WRIT_LOG` replaces,
/// for example `info` or `warn,agent=debug`.
///
/// A second call in one process changes nothing.
pub fn init_logs(filter: &str) {
    let filter = EnvFilter::try_from_env("WRIT_LOG").unwrap_or_else(|_| EnvFilter::new(filter));
    let (launched, launch) = (filter.to_string(), level_of(&filter));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Escaped);
    let logs = logs.with_filter_reloading();
    let handle = logs.reload_handle();
    let replace = Box::new(move |filter| handle.reload(filter).map_err(|_: reload::Error| NotLogging));
    // An earlier subscriber stays: tests start several daemons in one process.
    if logs.try_init().is_ok() {
        let levels = Mutex::new(Levels { current: launch, launch });
        let _ = LOGS.set(Logs { replace, launched, levels });
    }
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Levels {
    /// Now.
    pub current: Level,
    /// Since the start, until somebody changed it.
    pub launch: Level,
}

/// Nobody started the logs of this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this process does not log")]
pub struct NotLogging;

/// How much is logged now, and how much was at the start.
pub fn levels() -> Result<Levels, NotLogging> {
    Ok(*LOGS.get().ok_or(NotLogging)?.levels.lock())
}

/// Logs everything of this level and above, whatever part it comes from.
pub fn set_level(level: Level) -> Result<(), NotLogging> {
    let logs = LOGS.get().ok_or(NotLogging)?;
    let mut levels = logs.levels.lock();
    (logs.replace)(EnvFilter::new(level.to_string()))?;
    levels.current = level;
    Ok(())
}

/// Logs what was logged at the start.
pub fn reset_level() -> Result<(), NotLogging> {
    let logs = LOGS.get().ok_or(NotLogging)?;
    let mut levels = logs.levels.lock();
    (logs.replace)(EnvFilter::new(&logs.launched))?;
    levels.current = levels.launch;
    Ok(())
}

/// The logs of this process, once they are started.
static LOGS: OnceLock<Logs> = OnceLock::new();

struct Logs {
    replace: Box<dyn Fn(EnvFilter) -> Result<(), NotLogging> + Send + Sync>,
    /// The filter at the start, as a text.
    launched: String,
    levels: Mutex<Levels>,
}

/// The most that the filter lets through.
fn level_of(filter: &EnvFilter) -> Level {
    filter.max_level_hint().unwrap_or(Level::TRACE)
}

/// Makes writers to standard error that escape.
struct Escaped;

impl<'a> MakeWriter<'a> for Escaped {
    type Writer = EscapingWriter<io::Stderr>;
    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter(io::stderr())
    }
}

/// Escapes control characters in what passes; a line feed counts as the end of an event only where
/// it is the last byte of a write, as the formatter writes each event at once.
struct EscapingWriter<W>(W);

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(escape(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escape(event: &str) -> String {
    let (body, end) = match event.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (event, ""),
    };
    let mut line = String::with_capacity(event.len());
    for c in body.chars() {
        if c.is_control() || is_direction_mark(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line.push_str(end);
    line
}

/// Invisible characters that make a terminal show a line in another order than it has.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_can_neither_forge_a_line_nor_speak_to_the_terminal() {
        assert_eq!(escape("name=a\nINFO all is well\n"), "name=a\\u{a}INFO all is well\n");
        assert_eq!(escape("\u{1b}[2J\u{9b}2J\u{202e}\r"), "\\u{1b}[2J\\u{9b}2J\\u{202e}\\u{d}");
        assert_eq!(escape("grüße\n"), "grüße\n");
    }
}
