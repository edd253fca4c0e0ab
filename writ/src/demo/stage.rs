//! How the demo's steps are printed.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cli::{
    output::{self, Format, plain},
    paint::Paint,
};

/// What was seen, and what it is called.
#[derive(Serialize)]
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) value: String,
}

pub(super) fn fact(name: &str, value: String) -> Fact {
    Fact { name: name.to_owned(), value }
}

/// One step that has been done.
#[derive(Serialize)]
struct Step<'a> {
    step: u32,
    title: &'a str,
    facts: &'a [Fact],
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
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

    /// A step that went as it should, what was seen, and what another command printed, if one did.
    pub(super) fn done(&mut self, title: &str, facts: &[Fact], details: &str) -> Result<()> {
        self.step += 1;
        let step = Step { step: self.step, title, facts, details };
        output::show(self.format, &step, |step| {
            let width = step.facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0);
            let mut text = format!("\n{}\n", self.paint.bold(&format!("{}. {title}", step.step)));
            for Fact { name, value } in step.facts {
                for (n, line) in value.lines().enumerate() {
                    let name = if n == 0 { name.as_str() } else { "" };
                    text.push_str(&format!(
                        "   {}  {}\n",
                        self.paint.dim(&format!("{name:width$}")),
                        plain(line)
                    ));
                }
            }
            for line in step.details.lines() {
                text.push_str(format!("      {}", plain(line)).trim_end());
                text.push('\n');
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
