//! JUnit's XML, which CI systems show. It is five elements, so no library writes it.

use std::fmt::{self, Write as _};

use super::report::{Judged, Outcome, Report, Verdict};

/// The report as a document.
pub(crate) fn document(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for Judged { file, tests } in &report.files {
        let count = |verdict| tests.iter().filter(|outcome| outcome.verdict == verdict).count();
        let seconds: f64 = tests.iter().map(|outcome| outcome.seconds).sum();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">",
            Escaped(file),
            tests.len(),
            count(Verdict::Failed),
            count(Verdict::Broken),
            count(Verdict::Skipped),
        );
        for outcome in tests {
            case(&mut text, file, outcome);
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn case(text: &mut String, file: &str, outcome: &Outcome) {
    let (name, seconds) = (Escaped(&outcome.name), outcome.seconds);
    let file = Escaped(file);
    let _ = write!(text, "    <testcase name=\"{name}\" classname=\"{file}\" time=\"{seconds:.3}\">");
    let notes = outcome.notes.iter().map(|note| format!("note: {note}"));
    let body: Vec<_> = outcome.reasons.iter().cloned().chain(notes).collect();
    let (body, first) = (body.join("\n"), outcome.reasons.first().map_or("", String::as_str));
    let _ = match outcome.verdict {
        Verdict::Passed => Ok(()),
        Verdict::Skipped => write!(text, "<skipped/>"),
        Verdict::Failed => {
            write!(text, "<failure message=\"{}\">{}</failure>", Escaped(first), Escaped(&body))
        }
        Verdict::Broken => write!(text, "<error message=\"{}\">{}</error>", Escaped(first), Escaped(&body)),
    };
    text.push_str("</testcase>\n");
}

/// A text as it may stand in content and in a quoted attribute. What XML 1.0 has no character for (section
/// 2.2) becomes U+FFFD: a process may have a control character in its name.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&apos;"),
            '\n' | '\t' => write!(f, "&#{};", u32::from(c)),
            '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}'),
            c if c.is_control() => f.write_char('\u{fffd}'),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whatever_a_test_is_called_the_document_is_well_formed() {
        let mut failed =
            Outcome::new("a \"<b>\" & 'c'\u{1b}[2J", Verdict::Failed, Duration::from_millis(1500));
        failed.reasons = vec!["it lacks <x>".to_owned(), "it has ]]>".to_owned()];
        failed.notes = vec!["two\nlines".to_owned()];
        let mut report = Report::default();
        let passed = Outcome::new("b", Verdict::Passed, Duration::ZERO);
        report.add(Judged { file: "tests.yaml".to_owned(), tests: vec![failed, passed] });
        assert_eq!(
            document(&report),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  \
             <testsuite name=\"tests.yaml\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" time=\"1.500\">\n    \
             <testcase name=\"a &quot;&lt;b&gt;&quot; &amp; &apos;c&apos;\u{fffd}[2J\" classname=\"tests.yaml\" time=\"1.500\">\
             <failure message=\"it lacks &lt;x&gt;\">it lacks &lt;x&gt;&#10;it has ]]&gt;&#10;note: two&#10;lines</failure></testcase>\n    \
             <testcase name=\"b\" classname=\"tests.yaml\" time=\"0.000\"></testcase>\n  \
             </testsuite>\n</testsuites>\n"
        );
    }
}
