//! What was run, how long each step took, and what could not be run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Something that this machine cannot run, and the one line that would enable it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) enable: String,
}

/// Collects the outcome of every step; a failed step does not hide the ones after it.
pub(crate) struct Report {
    started: Instant,
    total: usize,
    steps: Vec<(&'static str, Duration, Result<(), String>)>,
    missing: Vec<Missing>,
}

impl Report {
    pub(crate) fn of(total: usize) -> Self {
        Self { started: Instant::now(), total, steps: Vec::new(), missing: Vec::new() }
    }

    /// Runs one step and notes its time.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        story: &str,
        work: impl FnOnce(&mut Vec<Missing>) -> anyhow::Result<()>,
    ) {
        println!("\n==> [{}/{}] {name}: {story}", self.steps.len() + 1, self.total);
        let started = Instant::now();
        let outcome = work(&mut self.missing).map_err(|error| format!("{error:#}"));
        let took = started.elapsed();
        match &outcome {
            Ok(()) => println!("    {name}: ok in {:.1} s", took.as_secs_f64()),
            Err(error) => println!("    {name}: FAILED in {:.1} s: {error}", took.as_secs_f64()),
        }
        self.steps.push((name, took, outcome));
    }

    /// Prints the table and the list of what was not run, and judges.
    pub(crate) fn close(mut self, strict: bool) -> ExitCode {
        println!("\nstep            seconds  outcome");
        for (name, took, outcome) in &self.steps {
            let outcome = outcome.as_ref().map_or_else(|error| format!("FAILED: {error}"), |()| "ok".into());
            println!("{name:<15} {:>7.1}  {outcome}", took.as_secs_f64());
        }
        println!("{:<15} {:>7.1}", "all", self.started.elapsed().as_secs_f64());

        self.missing.sort();
        self.missing.dedup();
        if !self.missing.is_empty() {
            println!("\nNot run on this machine:");
            for Missing { what, enable } in &self.missing {
                println!("  {what}\n      to enable: {enable}");
            }
            if strict {
                println!("CI=true: what could not be run counts as failed.");
            }
        }
        let failed = self.steps.iter().filter(|(_, _, outcome)| outcome.is_err()).count()
            + if strict { self.missing.len() } else { 0 };
        let passed = self.steps.iter().filter(|(_, _, outcome)| outcome.is_ok()).count();
        println!("\nsteps: {passed} passed, {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
