//! Whether the tests that stand for the rows of `docs/flaws.md`, `docs/attacks.md` and `docs/authority-attacks.md`
//! can fail: what keeps a flaw or an attack out is taken out of a copy of the repository, and its test must notice.

mod attacks;
mod fixes;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use self::attacks::ATTACKS;
use crate::tools;

/// How long a test may take, in seconds; the longest needs a minute, alone.
const LIMIT: &str = "400";
/// What `timeout` ends with then.
const TIMED_OUT: i32 = 124;

/// What is taken out, and which test must notice.
struct Case {
    against: &'static str,
    out: Vec<(&'static str, &'static str, &'static str)>,
    package: &'static str,
    suite: &'static [&'static str],
    test: &'static str,
}

/// Takes out everything whose description or package has `wanted` in it, one after the other.
pub(crate) fn run(wanted: &str) -> Result<ExitCode> {
    let is_wanted = |case: &Case| case.against.contains(wanted) || case.package.contains(wanted);
    let chosen: Vec<_> = cases().filter(is_wanted).collect();
    ensure!(!chosen.is_empty(), "nothing is against {wanted:?}; without --against all of them are tried");
    let copy = tools::target().join("flaws");
    copy_of_the_repository(&copy)?;
    let mut unnoticed = 0;
    for (number, case) in chosen.iter().enumerate() {
        print!("[{}/{}] {}: ", number + 1, chosen.len(), case.against);
        std::io::stdout().flush().context("cannot print")?;
        match is_noticed(case, &copy) {
            Ok(Some(why)) => println!("noticed by {}: {why}", case.test),
            Ok(None) => {
                unnoticed += 1;
                println!("NOT NOTICED by {}", case.test);
            }
            Err(error) => {
                unnoticed += 1;
                println!("NOT KNOWN: {error:#}");
            }
        }
    }
    println!("{} of {} are missed when they are taken out", chosen.len() - unnoticed, chosen.len());
    Ok(if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Both tables, with those beside each other that need one and the same build.
fn cases() -> impl Iterator<Item = Case> {
    let fixes = fixes::all().map(|fix| Case {
        against: fix.against,
        out: fix.out.iter().map(|out| (out.file, out.there, out.instead)).collect(),
        package: fix.package,
        suite: fix.suite,
        test: fix.test,
    });
    let attacks = ATTACKS.iter().flat_map(|attack| {
        attack.tests.iter().map(|test| Case {
            against: attack.attack,
            out: attack.out.iter().map(|out| (out.file, out.there, out.instead)).collect(),
            package: "writ-integration-tests",
            suite: &["--test", "integration"],
            test,
        })
    });
    fixes.chain(attacks)
}

/// What is committed. Files that are as they were the time before are left alone, so that cargo does not
/// build them again.
fn copy_of_the_repository(copy: &Path) -> Result<()> {
    let sources = copy.join("sources");
    let git = |verb: &str| {
        let mut git = Command::new("git");
        git.current_dir(&sources).args([verb, "--quiet"]);
        git
    };
    if !sources.join(".git").exists() {
        if sources.exists() {
            fs::remove_dir_all(&sources).with_context(|| format!("cannot empty {}", sources.display()))?;
        }
        fs::create_dir_all(&sources).with_context(|| format!("cannot make {}", sources.display()))?;
        tools::run(git("clone").args(["--shared", "--no-checkout"]).arg(tools::root()).arg("."))?;
    }
    tools::run(git("fetch").arg(tools::root()).arg("HEAD"))?;
    tools::run(git("checkout").args(["--force", "--detach", "FETCH_HEAD"]))
}

/// How the test failed, if it did: whoever reads it sees that it was for the sake of what was taken out.
fn is_noticed(case: &Case, copy: &Path) -> Result<Option<String>> {
    let sources = copy.join("sources");
    let mut wholes = Vec::new();
    for (file, there, instead) in &case.out {
        let file = sources.join(file);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        fs::write(&file, text.replacen(there, instead, 1)).context("cannot take it out")?;
        wholes.push((file, text));
    }
    let output = test(case, copy);
    // Backwards, since one file may be there more than once.
    for (file, text) in wholes.into_iter().rev() {
        fs::write(&file, text).context("cannot put it back")?;
    }
    let Some(said) = output? else { return Ok(Some("it waited for what no longer happens".into())) };
    let ran = said.lines().any(|line| line.starts_with("running ") && line != "running 0 tests");
    ensure!(ran, "without what is against {} the test {} does not run:\n{said}", case.against, case.test);
    let mut panics = said.lines().skip_while(|line| !line.contains(" panicked at ")).skip(1);
    let why = panics.next().unwrap_or("it ended without a word").to_owned();
    Ok(said.contains("test result: FAILED").then_some(why))
}

/// What the test program says; nothing if it is not over when its time is.
fn test(case: &Case, copy: &Path) -> Result<Option<String>> {
    let cargo = |verb: &str| {
        let mut cargo = tools::bare_cargo(verb);
        // Without flags of its own, so that whoever copies a build there has nothing built twice.
        cargo.current_dir(copy.join("sources")).env("CARGO_TARGET_DIR", copy.join("target"));
        cargo
    };
    if case.package == "writ-integration-tests" {
        // The stories run the binary, and a program of their own beside it.
        tools::output(cargo("build").args(["--quiet", "--workspace", "--bins"]))?;
    }
    // One selection for all but the core, on which everything is built: with others, dependencies would have other features.
    let mut which = match case.package {
        "writ-spiffe" | "writ-audit" | "writ-authz" => vec!["--package", case.package],
        _ => vec!["--workspace"],
    };
    which.extend(case.suite);
    tools::output(cargo("test").args(["--quiet", "--no-run"]).args(&which))?;
    let test = cargo("test");
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after", "10", LIMIT]).arg(test.get_program()).args(test.get_args());
    limited
        .current_dir(copy.join("sources"))
        .envs(test.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Without what keeps it out, an attack succeeds at once or not at all.
    limited.env("WRIT_ATTACK_ROUNDS", "1000");
    limited.args(&which).args(["--no-fail-fast", "--", case.test]);
    let done = limited.output().context("cannot start timeout")?;
    if done.status.code() == Some(TIMED_OUT) {
        return Ok(None);
    }
    Ok(Some([done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_where_the_tables_say_and_its_test_exists() {
        let stories = tools::output(Command::new("grep").current_dir(tools::root()).args([
            "-rhE",
            "fn [a-z0-9_]+\\(",
            "--include=*.rs",
            "integration-tests/tests",
        ]))
        .unwrap();
        for case in cases() {
            for (file, there, instead) in &case.out {
                let whole = fs::read_to_string(tools::root().join(file)).unwrap();
                assert_eq!(whole.matches(there).count(), 1, "{file}: {there}");
                assert_ne!(there, instead);
            }
            let is_story = case.package == "writ-integration-tests";
            assert!(!is_story || stories.contains(&format!("fn {}(", case.test)), "no story {}", case.test);
        }
    }
}
