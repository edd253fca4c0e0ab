//! Figures as a Markdown table.

use std::fmt;

/// Rows in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

/// One figure, measured several times.
pub(crate) struct Row {
    what: String,
    values: Vec<f64>,
    spire: &'static str,
    target: Option<Target>,
}

#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Table {
    /// Adds a row, and shows it at once.
    pub(crate) fn add(&mut self, row: Row) {
        println!("      {row}");
        self.0.push(row);
    }
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self { what: what.into(), values, spire: "–", target: None }
    }

    /// What SPIRE 1.15.3 took on a machine of this kind.
    pub(crate) fn spire(self, measured: &'static str) -> Self {
        Self { spire: measured, ..self }
    }

    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self { target: Some(Target::AtMost(limit)), ..self }
    }

    pub(crate) fn at_least(self, limit: f64) -> Self {
        Self { target: Some(Target::AtLeast(limit)), ..self }
    }

    /// The median decides whether a target is met.
    fn verdict(&self) -> String {
        let middle = self.at(0.5);
        match self.target {
            None => String::new(),
            Some(Target::AtMost(limit)) if middle <= limit => format!("≤ {}", number(limit)),
            Some(Target::AtLeast(limit)) if middle >= limit => format!("≥ {}", number(limit)),
            Some(Target::AtMost(limit)) => format!("≤ {} **missed**", number(limit)),
            Some(Target::AtLeast(limit)) => format!("≥ {} **missed**", number(limit)),
        }
    }

    fn at(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a handful of values"
        )]
        let index = (share * (self.values.len().saturating_sub(1)) as f64).round() as usize;
        self.values.get(index).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median, max] = [0.0, 0.5, 1.0].map(|share| number(self.at(share)));
        write!(f, "| {} | {min} | {median} | {max} | {} | {} |", self.what, self.spire, self.verdict())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | min | median | max | SPIRE 1.15.3 | target |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// Three significant digits are more than such a measurement has.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_its_smallest_middle_and_largest_value() {
        let row = Row::new("rate", [5000.0, 4000.0, 4800.0]).spire("2006").at_least(4500.0);
        assert_eq!(row.to_string(), "| rate | 4000 | 4800 | 5000 | 2006 | ≥ 4500 |");
    }

    #[test]
    fn a_missed_target_is_said() {
        assert!(Row::new("p50", [0.8]).at_most(0.75).to_string().contains("missed"));
        assert!(Row::new("rate", [1.0]).at_least(2.0).to_string().contains("missed"));
        assert!(!Row::new("p50", [0.7]).at_most(0.75).to_string().contains("missed"));
    }
}
