//! Whether the tests that `docs/flaws.md` names can fail: each fix is taken out of a copy of the
//! repository, and its test must notice.

mod fixes;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use self::fixes::{FIXES, Fix};
use crate::tools;

/// Takes out every fix whose description has `wanted` in it, one after the other.
pub(crate) fn run(wanted: &str) -> Result<ExitCode> {
    let chosen: Vec<_> = FIXES.iter().filter(|fix| fix.against.contains(wanted)).collect();
    ensure!(!chosen.is_empty(), "no fix is against {wanted:?}; without --against all of them are tried");
    let copy = tools::target().join("flaws");
    copy_of_the_repository(&copy)?;
    let mut unnoticed = 0;
    for (number, fix) in chosen.iter().enumerate() {
        print!("[{}/{}] {}: ", number + 1, chosen.len(), fix.against);
        match is_noticed(fix, &copy)? {
            true => println!("noticed by {}", fix.test),
            false => {
                unnoticed += 1;
                println!("NOT NOTICED by {}", fix.test);
            }
        }
    }
    println!("{} of {} fixes are missed when they are taken out", chosen.len() - unnoticed, chosen.len());
    Ok(if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is committed, and no build of it but the one of the time before.
fn copy_of_the_repository(copy: &Path) -> Result<()> {
    let sources = copy.join("sources");
    if sources.exists() {
        fs::remove_dir_all(&sources).with_context(|| format!("cannot empty {}", sources.display()))?;
    }
    fs::create_dir_all(&sources).with_context(|| format!("cannot make {}", sources.display()))?;
    let archive = copy.join("sources.tar");
    let mut git = Command::new("git");
    git.current_dir(tools::root()).args(["archive", "--output"]).arg(&archive).arg("HEAD");
    tools::run(&mut git)?;
    tools::run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&sources))
}

fn is_noticed(fix: &Fix, copy: &Path) -> Result<bool> {
    let file = copy.join("sources").join(fix.file);
    let whole = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    fs::write(&file, whole.replacen(fix.there, fix.instead, 1)).context("cannot take a fix out")?;
    let output = test(fix, copy);
    fs::write(&file, whole).context("cannot put a fix back")?;
    let said = output?;
    let ran = said.lines().any(|line| line.starts_with("running ") && line != "running 0 tests");
    ensure!(ran, "without the fix against {} the test {} does not run:\n{said}", fix.against, fix.test);
    Ok(said.contains("test result: FAILED"))
}

fn test(fix: &Fix, copy: &Path) -> Result<String> {
    let cargo = |verb: &str| {
        let mut cargo = tools::bare_cargo(verb);
        // What is taken out leaves names behind that nobody uses.
        cargo.current_dir(copy.join("sources")).env("RUSTFLAGS", "--cap-lints=warn");
        cargo.env("CARGO_TARGET_DIR", copy.join("target"));
        cargo
    };
    if fix.package == "writ-integration-tests" {
        // The stories run the binary, and a program of their own beside it.
        tools::output(cargo("build").args(["--quiet", "--package", "writ"]))?;
        tools::output(cargo("build").args(["--quiet", "--package", fix.package, "--bins"]))?;
    }
    let mut test = cargo("test");
    test.args(["--package", fix.package, "--no-fail-fast"]);
    test.args(match fix.test {
        file @ "same_process" => ["--test", file],
        name => ["--", name],
    });
    let done = test.output().context("cannot start cargo")?;
    Ok([done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fix_is_where_the_table_says() {
        for fix in FIXES {
            let whole = fs::read_to_string(tools::root().join(fix.file)).unwrap();
            assert_eq!(whole.matches(fix.there).count(), 1, "{}: {}", fix.file, fix.there);
            assert_ne!(fix.there, fix.instead);
        }
    }
}
