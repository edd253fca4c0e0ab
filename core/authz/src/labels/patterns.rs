//! What an operator's patterns find in results.

use regex::bytes::{RegexSet, RegexSetBuilder};
use registry::scope::Label;

/// Patterns with the label that a result gets where one is found in it. Searching takes time in proportion
/// to the result, whatever the pattern (no backtracking); compiled patterns are bounded in size.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: RegexSet,
    labels: Vec<Label>,
}

/// A pattern that is not used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the pattern {pattern:?} cannot be used: {why}")]
pub struct BadPattern {
    /// As it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

/// All patterns together may compile to so many bytes.
const COMPILED: usize = 8 * 1024 * 1024;

impl Patterns {
    /// Compiles all of them, or names the first that is wrong.
    pub fn compile(patterns: impl IntoIterator<Item = (String, Label)>) -> Result<Self, BadPattern> {
        let (texts, labels): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        for text in &texts {
            Self::set(std::slice::from_ref(text))?;
        }
        Ok(Self { set: Self::set(&texts)?, labels })
    }

    /// The join of the labels of all patterns that are found.
    pub fn found_in(&self, result: &[u8]) -> Label {
        let found = self.set.matches(result);
        found.iter().fold(Label::default(), |label, pattern| label.join(&self.labels[pattern]))
    }

    fn set(texts: &[String]) -> Result<RegexSet, BadPattern> {
        let built = RegexSetBuilder::new(texts).size_limit(COMPILED).dfa_size_limit(COMPILED).build();
        built.map_err(|error| BadPattern { pattern: texts.join(" | "), why: error.to_string() })
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self { set: RegexSet::empty(), labels: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(category: &str) -> Label {
        Label { categories: [category.parse().unwrap()].into(), ..Label::default() }
    }

    #[test]
    fn a_result_gets_the_join_of_what_is_found_in_it() {
        let patterns = Patterns::compile([
            (r"\b\d{3}-\d{2}-\d{4}\b".to_owned(), label("pii")),
            ("(?i)salary".to_owned(), label("payroll")),
        ])
        .unwrap();
        assert_eq!(patterns.found_in(b"nothing"), Label::default());
        assert_eq!(patterns.found_in(b"\xff 123-45-6789"), label("pii"));
        assert_eq!(patterns.found_in(b"SALARY of 123-45-6789"), label("pii").join(&label("payroll")));
    }

    #[test]
    fn a_pattern_that_is_wrong_or_too_large_is_named() {
        let wrong = |text: &str| Patterns::compile([(text.to_owned(), Label::default())]).unwrap_err();
        assert_eq!(wrong("a(").pattern, "a(");
        assert!(wrong(r"(?:\w{1000}){1000}").why.contains("size"), "{}", wrong(r"(?:\w{1000}){1000}"));
    }
}
