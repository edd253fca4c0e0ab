//! What an administrator types, typed: this very binary, on the demo's directory.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{process::Command, time::timeout};

const DONE_WITHIN: Duration = Duration::from_secs(30);

/// Runs a command on the demo's directory; it must succeed. Gives back what it printed.
pub(super) async fn writ(dir: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("writ").args(words).arg("--data").arg(dir).current_dir(dir);
    command.env_remove("WRIT_SOCKET").stdin(Stdio::null()).kill_on_drop(true);
    let answer = timeout(DONE_WITHIN, command.output()).await;
    let answer = answer.with_context(|| format!("writ {} takes too long", words.join(" ")))??;
    let out = String::from_utf8_lossy(&answer.stdout).into_owned();
    if !answer.status.success() {
        bail!("writ {}: {}{out}", words.join(" "), String::from_utf8_lossy(&answer.stderr));
    }
    Ok(out)
}
