//! Going on from a backup, or from an older copy of the log that was put in its place.
//!
//! A backup is unpacked and checked in a directory beside the state directory; only then the two change
//! places. Until that moment a failure leaves everything as it was.

use std::{
    fs::{self, DirBuilder},
    io::{self, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use daemon::{DirLock, DiskError, lock_dir, now_unix_millis, private_dir, read_private};
pub use registry::decide::backup::Begun;
use registry::{
    Author, Command as _, Decision, Moment, Refusal, Registry, Revision, Settings, decide::backup::BeginAnew,
};
use serde::Serialize;
use spiffe::{PrivateKey, Timestamp, TrustDomain};
use store::{Log as _, MacKey, Sqlite, StoreError};

use super::{
    Content,
    age::{Opened, With},
    archive::{self, ArchiveError, KEYS, LOG, MAC_KEY, MOST_SECRET, PIN_KEY},
};

/// What to go on from, and where.
pub struct Restore<'a> {
    /// The state directory.
    pub state_dir: &'a Path,
    /// Of which trust domain it must be, if that is known.
    pub trust_domain: Option<&'a TrustDomain>,
    /// Whether what is in the state directory may be moved aside.
    pub replace: bool,
    /// Whether all nodes but the banned ones are forgotten.
    pub evict_nodes: bool,
}

/// What the server goes on from.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// What was copied, when.
    #[serde(flatten)]
    pub content: Content,
    /// The first revision of the new log.
    pub begins_at: Revision,
    /// What does not count any more.
    #[serde(flatten)]
    pub begun: Begun,
    /// Where the former state lies now.
    pub moved_to: Option<PathBuf>,
}

/// What became of a log that was put back.
#[derive(Clone, Debug, Serialize)]
pub struct Accepted {
    /// The first revision of the new log.
    pub begins_at: Revision,
    /// What does not count any more.
    #[serde(flatten)]
    pub begun: Begun,
}

/// Why nothing was restored; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not readable, or not whole.
    #[error("the backup cannot be used: {0}")]
    Backup(#[from] ArchiveError),
    /// A file or directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log in it, or the one to go on from.
    #[error("the log cannot be used: {0}")]
    Log(#[from] StoreError),
    /// A key in it.
    #[error("{0} in the backup is no key; take another copy")]
    Key(String),
    /// It says something else of itself than its log does.
    #[error("the backup says that it is at revision {says}, and its log is at {is}; take another copy", says = .says.0, is = .is.0)]
    Other {
        /// The manifest.
        says: Revision,
        /// The log.
        is: Revision,
    },
    /// It is of another trust domain.
    #[error(
        "the backup is of trust domain {backup}, and this server is of {server}; restore it where it belongs"
    )]
    TrustDomain {
        /// The backup's.
        backup: TrustDomain,
        /// The server's.
        server: TrustDomain,
    },
    /// There is something already.
    #[error("{} is not empty; to move aside what is in it, add --replace", path.display())]
    NotEmpty {
        /// The state directory.
        path: PathBuf,
    },
    /// There is no log.
    #[error("there is no log in {}; name the server's data directory or configuration", path.display())]
    Nothing {
        /// The state directory.
        path: PathBuf,
    },
    /// The registry does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Opens a backup, checks all of it, and makes it the state of a server that is not running.
pub fn restore(backup: impl io::Read, with: &With, restore: &Restore<'_>) -> Result<Restored, RestoreError> {
    let place = Place::take(restore)?;
    let staging = Staging::beside(restore.state_dir)?;
    let opened = Opened::new(BufReader::new(backup), with).map_err(ArchiveError::Io)?;
    DirBuilder::new().mode(0o700).create(staging.path.join(KEYS)).map_err(failed("create", &staging.path))?;
    let manifest = archive::read(opened, &staging.path)?;
    let content = manifest.content;
    if let Some(server) = restore.trust_domain.filter(|server| **server != content.trust_domain) {
        return Err(RestoreError::TrustDomain { backup: content.trust_domain, server: server.clone() });
    }
    for name in manifest.files.keys().filter(|name| *name == PIN_KEY || name.starts_with(KEYS)) {
        let key = read_private(&staging.path.join(name), MOST_SECRET)?.map(PrivateKey::from_pkcs8);
        key.and_then(Result::ok).ok_or_else(|| RestoreError::Key(name.clone()))?;
    }
    let mut log = Sqlite::open(&staging.path.join(LOG), mac_key(&staging.path)?)?;
    let is = log.load()?.revision;
    if (log.id(), is) != (&content.log, content.revision) {
        return Err(RestoreError::Other { says: content.revision, is });
    }
    let (begun, begins_at) = begin_anew(&mut log, &content.trust_domain, restore.evict_nodes)?;
    drop(log);
    for path in [staging.path.join(LOG), staging.path.join(KEYS), staging.path.clone()] {
        archive::sync(&path).map_err(failed("sync", &path))?;
    }
    let moved_to = place.exchange(staging)?;
    Ok(Restored { content, begins_at, begun, moved_to })
}

/// Goes on from the log that lies in the state directory, although it is an older copy of itself.
pub fn accept(
    state_dir: &Path,
    trust_domain: &TrustDomain,
    evict_nodes: bool,
) -> Result<Accepted, RestoreError> {
    let path = state_dir.join(LOG);
    if !path.exists() {
        return Err(RestoreError::Nothing { path: state_dir.to_owned() });
    }
    let _alone = lock_dir(state_dir)?;
    let mut log = Sqlite::open_put_back(&path, mac_key(state_dir)?)?;
    let (begun, begins_at) = begin_anew(&mut log, trust_domain, evict_nodes)?;
    Ok(Accepted { begins_at, begun })
}

/// The first commit of the new log, on top of all that the old one had.
fn begin_anew(
    log: &mut Sqlite,
    trust_domain: &TrustDomain,
    evict_nodes: bool,
) -> Result<(Begun, Revision), RestoreError> {
    let loaded = log.load()?;
    let settings = Settings::new(trust_domain.clone());
    let registry = Registry::restore(settings, log.id().clone(), loaded.revision, loaded.objects);
    let now = Timestamp::from_unix_millis(now_unix_millis());
    let moment = Moment { now, author: Author::Server };
    let Decision { proposal, answer } = BeginAnew { evict_nodes }.decide(&registry, &moment);
    let begun = answer?;
    if let Some(first) = proposal.into_commit(&registry, &moment) {
        log.begin_anew(&first)?;
    }
    Ok((begun, loaded.revision.next()))
}

fn mac_key(directory: &Path) -> Result<MacKey, RestoreError> {
    let key = read_private(&directory.join(MAC_KEY), MOST_SECRET)?;
    let key: Option<[u8; 32]> = key.and_then(|key| key.try_into().ok());
    key.map(MacKey::new).ok_or_else(|| RestoreError::Key(MAC_KEY.to_owned()))
}

/// The state directory, which nobody else uses, and whose content may go.
struct Place<'a> {
    path: &'a Path,
    is_empty: bool,
    _alone: Option<DirLock>,
}

impl<'a> Place<'a> {
    fn take(restore: &Restore<'a>) -> Result<Self, RestoreError> {
        let path = restore.state_dir;
        if !path.exists() {
            return Ok(Self { path, is_empty: true, _alone: None });
        }
        private_dir(path)?;
        let alone = lock_dir(path)?;
        let names = fs::read_dir(path).map_err(failed("list", path))?;
        let names: Vec<_> = names
            .map(|name| name.map(|name| name.file_name()))
            .collect::<Result<_, _>>()
            .map_err(failed("list", path))?;
        let is_empty = names.iter().all(|name| name == "lock");
        match is_empty || restore.replace {
            true => Ok(Self { path, is_empty, _alone: Some(alone) }),
            false => Err(RestoreError::NotEmpty { path: path.to_owned() }),
        }
    }

    /// Puts the staged directory here; says where the former one is now.
    fn exchange(self, mut staging: Staging) -> Result<Option<PathBuf>, RestoreError> {
        let mut moved_to = None;
        if self._alone.is_some() && self.is_empty {
            fs::remove_dir_all(self.path).map_err(failed("remove", self.path))?;
        } else if self._alone.is_some() {
            let aside = sibling(self.path, &format!("before-restore-{}", now_unix_millis() / 1000));
            fs::rename(self.path, &aside).map_err(failed("move aside", self.path))?;
            moved_to = Some(aside);
        }
        fs::rename(&staging.path, self.path).map_err(failed("put the backup at", self.path))?;
        staging.is_placed = true;
        let parent =
            self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        archive::sync(parent).map_err(failed("sync", parent))?;
        Ok(moved_to)
    }
}

/// Where a backup is unpacked; gone again unless it came into its place.
struct Staging {
    path: PathBuf,
    is_placed: bool,
}

impl Staging {
    /// On the same file system, so that it can change places in one step.
    fn beside(state_dir: &Path) -> Result<Self, RestoreError> {
        let path = sibling(state_dir, "restoring");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error).into());
            }
            _ => {}
        }
        private_dir(&path)?;
        Ok(Self { path, is_placed: false })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = fs::remove_dir_all(&self.path); // the next restore removes it if this one cannot
        }
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}
