//! `writ backup create`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use server_api::admin::{Backup, SealedFor};

use super::secret;
use crate::cli::{Shared, Usage, admin, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The new file, or - for standard output.
    file: PathBuf,
    /// Take the passphrase from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "recipients_file")]
    passphrase_file: Option<PathBuf>,
    /// Seal it for the keys in this file (age1…, one a line) instead of a passphrase.
    #[arg(long, value_name = "FILE")]
    recipients_file: Option<PathBuf>,
}

pub(super) async fn run(create: Create, shared: &Shared) -> Result<()> {
    let to_stdout = create.file == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        return Err(Usage("a backup is no text for a terminal; name a file, or pipe it on".to_owned()).into());
    }
    if !to_stdout && create.file.symlink_metadata().is_ok() {
        bail!("{} is there already; name a new file", create.file.display());
    }
    let mut server = admin::connect(shared).await?;
    let sealed_for = match &create.recipients_file {
        Some(file) => SealedFor::Recipients(secret::recipients(file)?),
        None => SealedFor::Passphrase(secret::new_passphrase(create.passphrase_file.as_deref())?),
    };
    let mut backup = server.backup(sealed_for).await?;
    match to_stdout {
        true => write(&mut backup, &mut io::stdout()).await?,
        false => write_file(&mut backup, &create.file).await?,
    }
    let content = backup.content().context("the server did not say what is in the backup")?;
    let content: Value = serde_json::from_slice(content).context("the server's word on the backup")?;
    match to_stdout {
        true => output::remark(&text(&content, "standard output")),
        false => output::show(shared.output, &content, |content| {
            text(content, &create.file.display().to_string())
        })?,
    }
    Ok(())
}

async fn write(backup: &mut Backup, out: &mut impl Write) -> Result<()> {
    while let Some(bytes) = backup.next().await? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

/// The file has its name only once all of it is there, and takes no other file's place.
async fn write_file(backup: &mut Backup, path: &Path) -> Result<()> {
    let mut name = path.file_name().context("the backup needs a file name")?.to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let _ = fs::remove_file(&part); // of an attempt that was cut
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .with_context(|| format!("cannot create {}", part.display()))?;
    let written = async {
        write(backup, &mut file).await?;
        file.sync_all()?;
        fs::hard_link(&part, path)?;
        anyhow::Ok(())
    };
    let written = written.await.with_context(|| format!("cannot write {}", path.display()));
    let _ = fs::remove_file(&part);
    written?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all())?;
    Ok(())
}

fn text(content: &Value, place: &str) -> String {
    let number = |field: &str| content[field].as_u64().unwrap_or_default();
    format!(
        "Backed up {} at revision {} to {place}: {} entries, {} nodes and all keys; keep what opens it elsewhere",
        output::plain(content["trust_domain"].as_str().unwrap_or_default()),
        number("revision"),
        number("entries"),
        number("nodes"),
    )
}
