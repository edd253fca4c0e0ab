//! Making a backup of the running server: one consistent copy of the log, and the keys beside it, sealed
//! on the way out.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use daemon::{DiskError, disk, read_private};
use registry::{Author, decide::backup::RecordBackup};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{
    Content, Manifest,
    age::{AgeError, Sealed, To},
    archive::{self, AUDIT_KEY, AUDIT_LOG, FORMAT, KEYS, LOG, MAC_KEY, MOST_SECRET, PIN_KEY, Secrets},
};
use crate::{Server, ledger::Unavailable, now};

/// What a backup is made of, part by part.
#[derive(Debug)]
pub(crate) enum Part {
    /// Bytes of the sealed file.
    Data(Bytes),
    /// All of them have come, and this is what they hold.
    Done(Content),
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The log cannot be copied.
    #[error(transparent)]
    Log(#[from] Unavailable),
    /// A key file cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It cannot be sealed or sent.
    #[error("the backup cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Parts that nobody has taken yet.
const AHEAD: usize = 8;
const PART: usize = 256 * 1024;
/// The copy of the log on its way out; it lies where the log itself lies, and only while it is made.
pub(crate) const COPY: &str = ".backup.db";
const AUDIT_COPY: &str = ".backup-audit.db";

/// Records that a backup is made, and makes it. Whoever takes the parts too slowly slows nobody else down.
pub(crate) async fn create(
    server: Arc<Server>,
    to: To,
    author: Author,
) -> Result<mpsc::Receiver<Result<Part, CreateError>>, CreateError> {
    let sealed_for = match &to {
        To::Passphrase(_) => vec!["a passphrase".to_owned()],
        To::Recipients(all) => all.iter().map(ToString::to_string).collect(),
    };
    server.ledger.submit(RecordBackup { sealed_for }, author).await?;
    let state = server.config.state_dir.clone();
    // A key is on disk before the log names it, and for as long as it may sign: with those from before and
    // after the copy none is missing.
    let mut secrets = read_secrets(&state)?;
    let copy = {
        let _one_at_a_time = server.backing_up.lock().await;
        Copy::of(&server, &state).await?
    };
    secrets.append(&mut read_secrets(&state)?);
    let (sender, parts) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let content = copy.content.clone();
        let done = send(&copy, &secrets, &to, sender.clone()).map(|()| Part::Done(content));
        let _ = sender.blocking_send(done.map_err(CreateError::Io)); // whoever asked may have gone
    });
    Ok(parts)
}

/// A copy of the log that has no name any more: it goes with this process.
struct Copy {
    content: Content,
    file: File,
    audit: File,
}

impl Copy {
    async fn of(server: &Server, state: &Path) -> Result<Self, CreateError> {
        // First, so that nothing is merged in it that is not committed in the other; the rest is merged after a
        // restore.
        let path = state.join(AUDIT_COPY);
        disk::remove(&path)?;
        server.audit.back_up(path.clone()).await?;
        let audit = File::open(&path);
        disk::remove(&path)?;
        let path = state.join(COPY);
        disk::remove(&path)?;
        let registry = server.ledger.back_up(path.clone()).await?;
        let file = File::open(&path);
        disk::remove(&path)?;
        let content = Content {
            trust_domain: registry.trust_domain().clone(),
            log: registry.log().clone(),
            revision: registry.revision(),
            at: now(),
            listen: server.listening.to_string(),
            entries: registry.entries().len(),
            nodes: registry.nodes().len(),
        };
        Ok(Self { content, file: file?, audit: audit? })
    }
}

fn read_secrets(state: &Path) -> Result<Secrets, DiskError> {
    let keys = state.join(KEYS);
    let failed = |source| DiskError::Io { action: "list", path: keys.clone(), source };
    let mut names = vec![MAC_KEY.to_owned(), PIN_KEY.to_owned(), AUDIT_KEY.to_owned()];
    for file in fs::read_dir(&keys).into_iter().flatten() {
        let name = file.map_err(failed)?.file_name();
        names
            .extend(name.to_str().filter(|name| name.ends_with(".key")).map(|name| format!("{KEYS}/{name}")));
    }
    let read = |name: String| match read_private(&state.join(&name), MOST_SECRET) {
        Ok(secret) => secret.map(|secret| Ok((name, Zeroizing::new(secret)))),
        Err(error) => Some(Err(error)),
    };
    names.into_iter().filter_map(read).collect()
}

fn send(
    copy: &Copy,
    secrets: &Secrets,
    to: &To,
    sender: mpsc::Sender<Result<Part, CreateError>>,
) -> io::Result<()> {
    let mut files: std::collections::BTreeMap<_, _> =
        secrets.iter().map(|(name, secret)| (name.clone(), secret.len() as u64)).collect();
    files.insert(LOG.to_owned(), copy.file.metadata()?.len());
    files.insert(AUDIT_LOG.to_owned(), copy.audit.metadata()?.len());
    let writ = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { format: FORMAT, writ, content: copy.content.clone(), files };
    let sealed = Sealed::new(Outlet { sender, part: Vec::with_capacity(PART) }, to)?;
    archive::write(sealed, &manifest, secrets, &[(LOG, &copy.file), (AUDIT_LOG, &copy.audit)])?.finish()?;
    Ok(())
}

/// Where sealed bytes leave in parts.
struct Outlet {
    sender: mpsc::Sender<Result<Part, CreateError>>,
    part: Vec<u8>,
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the backup any more");
        self.sender.blocking_send(Ok(Part::Data(part.into()))).map_err(gone)
    }
}

impl From<AgeError> for CreateError {
    fn from(error: AgeError) -> Self {
        Self::Io(error.into())
    }
}
