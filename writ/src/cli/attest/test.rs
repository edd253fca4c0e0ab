//! `writ attest test`: are processes, containers, units and launches what their tests say?

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use agent::Facts;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::time::sleep;

use super::super::{Shared, Usage, admin, output};
use crate::{
    attest::{
        entries::Entries,
        file::{self, Subject, TestFile},
        judge::{Almost, Fact, Failure, Rule, Seen, judge},
        junit,
        live::Running,
        recorded,
        report::{Judged, Outcome, Report, Verdict},
    },
    wire,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Files of tests (YAML).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also write the report as JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Only tests of recorded facts: nothing is started and no agent is asked.
    #[arg(long)]
    recorded: bool,
}

pub(crate) async fn run(test: Test, shared: &Shared) -> Result<ExitCode> {
    // All of them are read before anything is started.
    let read = |path: &PathBuf| {
        let file = TestFile::read(path)?;
        let entries = Entries::named_by(&file, path)?;
        Ok((file, entries))
    };
    let read = test.files.iter().map(read).collect::<Result<Vec<_>>>();
    let files = read.map_err(|error| Usage(format!("{error:#}")))?;
    let mut report = Report::default();
    for ((file, entries), path) in files.into_iter().zip(&test.files) {
        let file = &file;
        let mut stage = Stage { file, path, entries, recorded: test.recorded, shared };
        let mut tests = Vec::new();
        for test in &file.tests {
            tests.push(stage.outcome(test).await);
        }
        report.add(Judged { file: path.display().to_string(), tests });
    }
    if let Some(path) = &test.junit {
        fs::write(path, junit::document(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    output::show(shared.output, &report, Report::to_text)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where the tests of one file are tried.
struct Stage<'a> {
    file: &'a TestFile,
    path: &'a Path,
    entries: Option<Entries>,
    recorded: bool,
    shared: &'a Shared,
}

impl Stage<'_> {
    async fn outcome(&mut self, test: &file::Test) -> Outcome {
        let began = Instant::now();
        if self.recorded && !matches!(test.subject, Subject::Facts(_)) {
            return Outcome::new(&test.name, Verdict::Skipped, Duration::ZERO);
        }
        let tried = self.attempt(test).await;
        let outcome = |verdict| Outcome::new(&test.name, verdict, began.elapsed());
        match tried {
            Ok((failures, _)) if failures.is_empty() => outcome(Verdict::Passed),
            Ok((failures, notes)) => {
                let reasons = failures.iter().map(ToString::to_string).collect();
                Outcome { reasons, notes, ..outcome(Verdict::Failed) }
            }
            Err(error) => Outcome { reasons: vec![format!("{error:#}")], ..outcome(Verdict::Broken) },
        }
    }

    /// How it differs from what is expected, and what could not be said.
    async fn attempt(&mut self, test: &file::Test) -> Result<(Vec<Failure>, Vec<String>)> {
        let until = Instant::now() + test.within;
        if let Subject::Facts(facts) = &test.subject {
            let seen = recorded::seen(facts, self.path.parent().unwrap_or(Path::new("")))?;
            let seen = self.with_ids(seen, test, true).await?;
            return Ok((judge(&test.expect, &seen), seen.notes));
        }
        let Some(mut running) = Running::start(&test.subject, test.within, &self.shared.sockets).await?
        else {
            bail!("there is nothing to start");
        };
        loop {
            let asked = self.ask(&mut running).await?;
            let seen = self.with_ids(asked, test, false).await?;
            let failures = judge(&test.expect, &seen);
            // It may become what is expected: an engine says who a container is once it is all there.
            if failures.is_empty() || Instant::now() >= until {
                return Ok((failures, seen.notes));
            }
            sleep(AGAIN).await;
        }
    }

    /// What the agent sees of what runs.
    async fn ask(&self, running: &mut Running) -> Result<Seen> {
        let answer = wire::explain::explain(&self.shared.sockets.agent()?, Some(running.pid)).await;
        if let Some(status) = running.ended()? {
            bail!("it ended before it was attested ({status}); start something that waits");
        }
        let answer: Answer =
            serde_json::from_slice(&answer?).context("the agent's answer is of a newer kind")?;
        let Answer { selectors: facts, notes, matches, almost } = answer;
        let matches = matches.context("the agent shows its entries only to an administrator: ask as root")?;
        Ok(Seen { facts, notes, matches, almost })
    }

    /// The same with the identities that it gets from the entries that count.
    async fn with_ids(&mut self, seen: Seen, test: &file::Test, is_recorded: bool) -> Result<Seen> {
        if test.expect.ids.is_none() {
            return Ok(seen);
        }
        if self.entries.is_none() && is_recorded {
            self.entries = Some(self.of_server().await?);
        }
        // What runs on this node gets what its agent says, unless a file of entries is to be tried.
        let named = self.entries.as_ref().filter(|_| is_recorded || self.file.entries.is_some());
        let Some(entries) = named else { return Ok(seen) };
        let facts: Facts = seen.facts.iter().map(|fact| fact.selector.clone()).collect();
        let (matches, almost) = entries.of(&facts, &test.expect);
        Ok(Seen { matches, almost, ..seen })
    }

    async fn of_server(&self) -> Result<Entries> {
        let mut server = admin::connect(self.shared).await.context(
            "a test of recorded facts expects identities: name files of entries, or let a server run",
        )?;
        let trust_domain = admin::trust_domain(&mut server).await?;
        let listed = server.list("entry", Vec::new()).await?;
        let bodies: Vec<_> = listed
            .iter()
            .map(|listed| serde_json::from_slice(&listed.body).context("an entry of the server is not JSON"))
            .collect::<Result<_>>()?;
        Entries::of_server(self.file, &trust_domain, &bodies)
    }
}

/// The agent's answer, as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    selectors: Vec<Fact>,
    #[serde(default)]
    notes: Vec<String>,
    matches: Option<Vec<Rule>>,
    #[serde(default)]
    almost: Vec<Almost>,
}

/// How soon it is looked at again.
const AGAIN: Duration = Duration::from_millis(100);
