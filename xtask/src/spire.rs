//! SPIRE's own programs: minutes of compiling, so they are built in the background while cargo does its
//! part, and waited for only by the stories that need them.

use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::report::Missing;
use crate::tools;

/// The build that runs now, if one does.
static BUILD: Mutex<Option<Child>> = Mutex::new(None);

const SOURCE: &str = "integration-tests/clients/spire";
const LOG: &str = "spire.log";

/// Begins to build them, unless that has begun; Go itself knows what is built already.
pub(crate) fn begin(missing: &mut Vec<Missing>) -> Result<()> {
    let mut build = BUILD.lock().expect("nobody panics with it");
    if build.is_some() {
        return Ok(());
    }
    if !tools::runs("go", "version") {
        missing.push(Missing {
            what: "every story with SPIRE's own agent, server and command line".into(),
            enable: "install Go 1.26 or newer and put it on PATH".into(),
        });
        return Ok(());
    }
    let programs = tools::go_client("spire");
    fs::create_dir_all(&programs)
        .with_context(|| format!("cannot make the folder {}", programs.display()))?;
    let path = tools::go_client(LOG);
    let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let both = log.try_clone().with_context(|| format!("cannot write {}", path.display()))?;
    let mut go = tools::go("build");
    // Its server keeps its data with a SQLite that is written in C.
    go.env("CGO_ENABLED", "1").current_dir(tools::root().join(SOURCE));
    go.args(["-trimpath", "-ldflags", "-s -w", "-o"]).arg(&programs).arg("./...");
    let mut patient = tools::patient(&go);
    let child = patient.stdin(Stdio::null()).stdout(log).stderr(both).spawn();
    *build = Some(child.context("cannot start the build of SPIRE's programs")?);
    println!("    SPIRE's own programs are being built; see {}", path.display());
    Ok(())
}

/// Waits until they are built; false where this machine cannot build them, which is listed then.
pub(crate) fn wait(missing: &mut Vec<Missing>) -> Result<bool> {
    begin(missing)?;
    let Some(mut child) = BUILD.lock().expect("nobody panics with it").take() else { return Ok(false) };
    let status = child.wait().context("cannot wait for the build of SPIRE's programs")?;
    if !status.success() {
        let log = fs::read_to_string(tools::go_client(LOG)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("SPIRE's programs were not built:\n{last}");
    }
    Ok(true)
}

/// Ends a build that nobody waited for, when the checks are over.
pub(crate) fn end() {
    if let Some(mut child) = BUILD.lock().expect("nobody panics with it").take() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}
