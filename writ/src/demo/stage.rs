//! How the demo's steps are printed.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cli::{
    output::{self, Format, plain},
    paint::Paint,
};

/// One step that has been done.
#[derive(Serialize)]
struct Step<'a> {
    step: u32,
    title: &'a str,
    facts: &'a [(String, String)],
}

/// Prints the steps, numbered.
pub(super) struct Stage {
    format: Format,
    paint: Paint,
    step: u32,
}

impl Stage {
    pub(super) fn new(format: Format) -> Self {
        Self { format, paint: Paint::for_stdout(), step: 0 }
    }

    pub(super) fn paint(&self) -> Paint {
        self.paint
    }

    /// A line for people, between the steps.
    pub(super) fn say(&self, line: &str) -> Result<()> {
        match self.format {
            Format::Text => Ok(output::line(line)?),
            Format::Json => Ok(()),
        }
    }

    /// A step that went as it should, and what was seen.
    pub(super) fn done(&mut self, title: &str, facts: &[(String, String)]) -> Result<()> {
        self.step += 1;
        let step = Step { step: self.step, title, facts };
        output::show(self.format, &step, |step| {
            let width = step.facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
            let mut text = format!("\n{}\n", self.paint.bold(&format!("{}. {title}", step.step)));
            for (name, value) in step.facts {
                let mut lines = value.lines();
                let first = lines.next().unwrap_or_default();
                text.push_str(&format!(
                    "   {}  {}\n",
                    self.paint.dim(&format!("{name:width$}")),
                    plain(first)
                ));
                for line in lines {
                    text.push_str(&format!("   {:width$}  {}\n", "", plain(line)));
                }
            }
            text
        })?;
        Ok(())
    }
}

/// A time as people read it.
pub(super) fn took(time: Duration) -> String {
    match time.as_secs_f64() * 1000.0 {
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}
