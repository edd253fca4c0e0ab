//! What a command prints on standard output: text for people, JSON for programs.

use std::io::{self, Write as _};

use serde::Serialize;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON document a line, with field names that stay.
    Json,
}

/// Prints `value` as one line of JSON, or what `text` says of it.
pub(crate) fn show<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> io::Result<()> {
    match format {
        Format::Json => line(&serde_json::to_string(value)?),
        Format::Text => {
            let said = text(value);
            if said.is_empty() { Ok(()) } else { line(said.trim_end_matches('\n')) }
        }
    }
}

/// Prints one line and hands it on at once, so that a program that reads along gets it now.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Says something beside the result; on standard error, so that it never mixes with it.
pub(crate) fn remark(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Columns of equal width, two spaces between them; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What strangers may have chosen, for a terminal: control characters become visible.
pub(crate) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_unicode().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let rows = [vec!["NAME", "STATE"], vec!["a-long-name", "active"], vec!["b", ""]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(table(&rows), "NAME         STATE\na-long-name  active\nb\n");
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
