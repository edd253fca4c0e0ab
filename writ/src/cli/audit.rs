//! `writ audit`: the tamper-evident log.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow, bail};
use audit::{
    tree::VerifierKey,
    verify::{self, Files, Verified},
};
use clap::Subcommand;
use serde_json::{Value, json};
use server_api::audit::{Client, Range};

use super::{
    Shared, Usage,
    output::{self, Format, plain},
    sockets,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  writ audit tail -f                        what is recorded, as it happens
  writ audit verify                         recompute all of the server's log
  writ audit key                            what checkpoints are verified with; keep it elsewhere
  writ audit export DIR                     the log as files that other tools can verify (C2SP tlog-tiles)
  writ audit verify --export DIR --key KEY  verify such files, without any server
  writ audit erase 4711                     erase the personal payload of entry 4711; every proof holds on";

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Recompute a whole log; the first thing that is wrong is named
    Verify {
        /// Files that `writ audit export` wrote; without it, the server's log.
        #[arg(long, value_name = "DIR")]
        export: Option<PathBuf>,
        /// The key that signs its checkpoints, as `writ audit key` shows it; without it, the one that comes
        /// with the log is believed.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Write the whole log as files that other tools can verify
    Export {
        /// A directory that is not there yet, or is empty.
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Show the newest entries
    Tail {
        /// So many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        lines: u64,
        /// Go on with what comes.
        #[arg(short, long)]
        follow: bool,
    },
    /// Show the key that checkpoints are verified with, and the newest checkpoint
    Key,
    /// Erase the personal payload of an entry
    Erase {
        /// The entry's index.
        index: u64,
    },
}

pub(crate) async fn run(verb: AuditVerb, shared: &Shared) -> Result<ExitCode> {
    match verb {
        AuditVerb::Verify { export: Some(from), key } => verify_files(&from, key.as_deref(), shared.output)?,
        AuditVerb::Verify { export: None, key } => {
            let here = tempfile::tempdir().context("there is no place for a copy of the log")?;
            export(&mut connect(shared).await?, here.path()).await?;
            verify_files(here.path(), key.as_deref(), shared.output)?;
        }
        AuditVerb::Export { to } => {
            let size = export(&mut connect(shared).await?, &to).await?;
            let text = format!("{size} entries are in {}", to.display());
            output::show(shared.output, &json!({ "entries": size, "directory": to }), |_| text)?;
        }
        AuditVerb::Tail { lines, follow } => tail(shared, lines, follow).await?,
        AuditVerb::Key => {
            let newest = connect(shared).await?.checkpoint().await?;
            let shown = json!({
                "key": newest.key.to_string(),
                "origin": newest.checkpoint.origin,
                "size": newest.checkpoint.size,
                "root": newest.checkpoint.root,
                "checkpoint": newest.note,
            });
            output::show(shared.output, &shown, |_| format!("{}\n\n{}", newest.key, newest.note))?;
        }
        AuditVerb::Erase { index } => {
            connect(shared).await?.erase(index).await?;
            let text = format!("the personal payload of entry {index} is erased; that it was is on record");
            output::show(shared.output, &json!({ "erased": index }), |_| text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect(shared: &Shared) -> Result<Client> {
    let socket = shared.sockets.server()?;
    let connected = Client::connect(&socket).await;
    connected.map_err(|error| anyhow!("{error}; {}", sockets::way_out(&socket, "server")))
}

/// Writes every file; what comes from the server may not lead out of the directory.
async fn export(server: &mut Client, to: &Path) -> Result<u64> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    if fs::read_dir(to)?.next().is_some() {
        return Err(Usage(format!("{} is not empty; name another directory", to.display())).into());
    }
    let newest = server.checkpoint().await?;
    fs::write(to.join(KEY_FILE), format!("{}\n", newest.key))?;
    let mut files = server.export().await?;
    let mut note = None;
    while let Some((path, content)) = files.next().await? {
        let is_ours = path == CHECKPOINT
            || path
                .strip_prefix("tile/")
                .is_some_and(|rest| rest.split('/').all(|part| !part.starts_with('.') && !part.is_empty()));
        if !is_ours {
            bail!("the server sent a file {path:?}, which no log has");
        }
        let file = to.join(&path);
        fs::create_dir_all(file.parent().unwrap_or(to))?;
        fs::write(&file, &content).with_context(|| format!("cannot write {}", file.display()))?;
        note = Some((path, content)).filter(|(path, _)| path == CHECKPOINT);
    }
    let (_, note) = note.context("the export was cut; make it again")?;
    let note = String::from_utf8(note.to_vec()).context("the checkpoint is no text")?;
    Ok(audit::tree::Checkpoint::open(&note, &newest.key)?.size)
}

fn verify_files(from: &Path, key: Option<&str>, format: Format) -> Result<()> {
    let kept = from.join(KEY_FILE);
    let key: VerifierKey = match key {
        Some(key) => key.parse().map_err(|error: audit::tree::NoteError| Usage(error.to_string()))?,
        None => fs::read_to_string(&kept)
            .with_context(|| format!("cannot read {}; name the key with --key", kept.display()))?
            .trim_end()
            .parse()?,
    };
    let mut shown = 0;
    let verified = verify::verify(&Directory(from), &key, |done| {
        if io::stderr().is_terminal() && done >= shown + PROGRESS {
            shown = done;
            output::remark(&format!("{done} entries are verified so far"));
        }
    });
    let Verified { checkpoint, nodes, alarms } = verified?;
    let value = json!({
        "verified": true,
        "origin": checkpoint.origin,
        "entries": checkpoint.size,
        "root": checkpoint.root,
        "nodes": nodes.iter().map(|(node, records)| json!({ "node": node, "records": records })).collect::<Vec<_>>(),
        "alarms": alarms,
        "key": key.to_string(),
    });
    output::show(format, &value, |_| {
        let mut text =
            format!("{} entries are as they were signed\nroot {}\n", checkpoint.size, checkpoint.root);
        for (node, records) in &nodes {
            text.push_str(&format!("{records} records of {} follow each other\n", plain(node)));
        }
        if alarms > 0 {
            text.push_str(&format!("{alarms} alarms are on record; look for audit.alarm\n"));
        }
        text
    })?;
    Ok(())
}

async fn tail(shared: &Shared, lines: u64, follow: bool) -> Result<()> {
    let range = Range { last: lines.max(1), follow, ..Range::default() };
    let mut entries = connect(shared).await?.entries(range).await?;
    while let Some((first, leaves)) = entries.next().await? {
        for (index, leaf) in (first..).zip(leaves) {
            let record: Value = serde_json::from_slice(&leaf).unwrap_or_default();
            match shared.output {
                Format::Json => output::line(&json!({ "index": index, "record": record }).to_string())?,
                Format::Text => output::line(&text(index, &record))?,
            }
        }
    }
    Ok(())
}

/// One line for people; strangers may have chosen what stands in it.
fn text(index: u64, record: &Value) -> String {
    let member = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut line = format!("{index:>8}  {:<24}  {:<16}", member("time"), member("kind"));
    for name in ["decision", "outcome", "tool", "resource", "actor", "spiffe_id", "task", "node", "reason"] {
        let value = member(name);
        if !value.is_empty() {
            line.push_str(&format!("  {name}={value}"));
        }
    }
    if let Some(facts) = record.get("facts").filter(|facts| !facts.is_null()) {
        line.push_str(&format!("  {facts}"));
    }
    plain(&line)
}

/// An export on disk.
struct Directory<'a>(&'a Path);

impl Files for Directory<'_> {
    type Error = io::Error;
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const CHECKPOINT: &str = "checkpoint";
/// Not of the standard: the key that came with the files.
const KEY_FILE: &str = "key";
const PROGRESS: u64 = 1_000_000;
