//! What became of the tests: for people, and as JSON.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::cli::output::plain;

/// What became of all tests.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) files: Vec<Judged>,
}

/// What became of the tests of one file.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) file: String,
    pub(crate) tests: Vec<Outcome>,
}

/// What became of one test.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: f64,
    /// How it differs from what was expected, or why it could not be tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
    /// What the attestors could not say, where the test did not pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// Whether it is as expected.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It is.
    Passed,
    /// It is not.
    Failed,
    /// Nobody knows: it could not be started, or the agent did not answer. As bad as a failure.
    Broken,
    /// Nobody asked.
    Skipped,
}

impl Report {
    pub(crate) fn add(&mut self, judged: Judged) {
        for outcome in &judged.tests {
            match outcome.verdict {
                Verdict::Passed => self.passed += 1,
                Verdict::Failed | Verdict::Broken => self.failed += 1,
                Verdict::Skipped => self.skipped += 1,
            }
        }
        self.files.push(judged);
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// The report for people: a line for each test, and below it what is wrong.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for Judged { file, tests } in &self.files {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", plain(file));
            for outcome in tests {
                let _ = writeln!(text, "  {}  {}", outcome.verdict.word(), plain(&outcome.name));
                for reason in &outcome.reasons {
                    let _ = writeln!(text, "          {}", plain(reason));
                }
                for note in &outcome.notes {
                    let _ = writeln!(text, "          note: {}", plain(note));
                }
            }
        }
        let Self { passed, failed, skipped, .. } = self;
        let _ = write!(text, "\n{passed} passed, {failed} failed");
        let _ = if *skipped > 0 { writeln!(text, ", {skipped} skipped") } else { writeln!(text) };
        text
    }
}

impl Outcome {
    /// An outcome that needs no reasons.
    pub(crate) fn new(name: &str, verdict: Verdict, took: Duration) -> Self {
        let (name, seconds) = (name.to_owned(), took.as_secs_f64());
        Self { name, verdict, seconds, reasons: Vec::new(), notes: Vec::new() }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok    ",
            Self::Failed => "FAILED",
            Self::Broken => "BROKEN",
            Self::Skipped => "skip  ",
        }
    }
}
