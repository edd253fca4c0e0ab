//! The view on disk: a file with the whole of it, and a journal of what changed since.
//!
//! Writing everything at every change would cost too much, and writing it a second later would bring
//! back, after a crash, an entry that had been taken away. So each change is appended to the journal
//! before it is acted on. The journal is not synced: it is there for a killed process. A machine that
//! stops loses the workloads' keys as well, and nothing is served then before the server was asked.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use daemon::{DiskError, disk, read_private, write_private};
use parking_lot::Mutex;
use registry::{Delta, Key, LogId, Object, Revision, Snapshot, Stored};
use serde::{Deserialize, Serialize, de::Error as _};
use serde_json::value::RawValue;

/// The view and its journal.
#[derive(Debug)]
pub(crate) struct ViewFile {
    dir: PathBuf,
    journal: Mutex<Option<File>>,
}

/// A view as it was kept.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct KeptView {
    /// The whole view at some revision.
    pub(crate) snapshot: Option<Snapshot>,
    /// What changed after it, in order.
    pub(crate) deltas: Vec<Delta>,
}

impl ViewFile {
    /// The view in this directory.
    pub(crate) fn under(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), journal: Mutex::default() }
    }

    /// What was kept. What cannot be read is left out: the server is asked for it again.
    pub(crate) fn load(&self) -> Result<KeptView, DiskError> {
        let path = self.path(VIEW);
        let Some(bytes) = read_private(&path, MOST_BYTES)? else { return Ok(KeptView::default()) };
        let read = serde_json::from_slice::<SnapshotOnDisk>(&bytes).map_err(|error| error.to_string());
        let snapshot = match read.and_then(SnapshotOnDisk::read) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "ignored a view that cannot be read");
                return Ok(KeptView::default());
            }
        };
        let mut deltas = Vec::new();
        for name in [JOURNAL_BEFORE, JOURNAL] {
            let lines = read_private(&self.path(name), MOST_BYTES)?.unwrap_or_default();
            // Only the last line of a journal can be torn.
            let whole = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
            let read = whole.map_while(|line| serde_json::from_slice::<DeltaOnDisk>(line).ok()?.read().ok());
            deltas.extend(read.filter(|delta| delta.to > snapshot.at));
        }
        Ok(KeptView { snapshot: Some(snapshot), deltas })
    }

    /// Notes a change before it is acted on.
    pub(crate) fn append(&self, delta: &Delta) -> Result<(), DiskError> {
        let path = self.path(JOURNAL);
        let mut line = DeltaOnDisk::of(delta)
            .and_then(|delta| serde_json::to_vec(&delta))
            .map_err(|error| unwritable(&path, error.into()))?;
        line.push(b'\n');
        let mut journal = self.journal.lock();
        let file = match journal.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&path)
                .map_err(|source| unwritable(&path, source))?,
        };
        journal.insert(file).write_all(&line).map_err(|source| unwritable(&path, source))
    }

    /// A snapshot is about to be taken: what is appended from now on comes after it.
    pub(crate) fn begin(&self) {
        let mut journal = self.journal.lock();
        let before = self.path(JOURNAL_BEFORE);
        // If the last save failed, both journals are still needed, and lines that a snapshot has already
        // are passed over when they are read.
        if !before.exists() && std::fs::rename(self.path(JOURNAL), before).is_ok() {
            *journal = None;
        }
    }

    /// Keeps the snapshot that was taken after `begin`.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> Result<(), DiskError> {
        let path = self.path(VIEW);
        let json = SnapshotOnDisk::of(snapshot).and_then(|snapshot| serde_json::to_vec(&snapshot));
        write_private(&path, &json.map_err(|error| unwritable(&path, error.into()))?)?;
        disk::remove(&self.path(JOURNAL_BEFORE))
    }

    /// There is no view any more.
    pub(crate) fn clear(&self) -> Result<(), DiskError> {
        *self.journal.lock() = None;
        [VIEW, JOURNAL_BEFORE, JOURNAL].into_iter().try_for_each(|name| disk::remove(&self.path(name)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn unwritable(path: &Path, source: io::Error) -> DiskError {
    DiskError::Io { action: "write", path: path.to_owned(), source }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SnapshotOnDisk {
    log: LogId,
    revision: Revision,
    objects: Vec<ObjectOnDisk>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct DeltaOnDisk {
    log: LogId,
    from: Revision,
    to: Revision,
    put: Vec<ObjectOnDisk>,
    gone: Vec<Key>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ObjectOnDisk {
    key: Key,
    version: u64,
    body: Box<RawValue>,
}

impl SnapshotOnDisk {
    fn of(snapshot: &Snapshot) -> serde_json::Result<Self> {
        let objects = snapshot.objects.iter().map(ObjectOnDisk::of).collect::<Result<_, _>>()?;
        Ok(Self { log: snapshot.log.clone(), revision: snapshot.at, objects })
    }

    fn read(self) -> Result<Snapshot, String> {
        let objects = self.objects.into_iter().map(ObjectOnDisk::read).collect::<Result<_, _>>()?;
        Ok(Snapshot { log: self.log, at: self.revision, objects })
    }
}

impl DeltaOnDisk {
    fn of(delta: &Delta) -> serde_json::Result<Self> {
        let put = delta.put.iter().map(ObjectOnDisk::of).collect::<Result<_, _>>()?;
        Ok(Self { log: delta.log.clone(), from: delta.from, to: delta.to, put, gone: delta.gone.clone() })
    }

    fn read(self) -> Result<Delta, String> {
        let put = self.put.into_iter().map(ObjectOnDisk::read).collect::<Result<_, _>>()?;
        Ok(Delta { log: self.log, from: self.from, to: self.to, put, gone: self.gone })
    }
}

impl ObjectOnDisk {
    fn of(stored: &Stored) -> serde_json::Result<Self> {
        let body = String::from_utf8(stored.object.to_json()).map_err(serde_json::Error::custom)?;
        let body = RawValue::from_string(body)?;
        Ok(Self { key: stored.object.key(), version: stored.version, body })
    }

    fn read(self) -> Result<Stored, String> {
        let object = Object::from_json(&self.key, self.body.get().as_bytes());
        Ok(Stored { version: self.version, object: object.map_err(|error| error.to_string())? })
    }
}

const VIEW: &str = "view.json";
const JOURNAL: &str = "view.journal";
const JOURNAL_BEFORE: &str = "view.journal.before";
const MOST_BYTES: u64 = 1024 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::entry;

    fn stored(id: &str) -> Stored {
        Stored { version: 1, object: Object::Entry(entry(id, "/a", &["unix:uid:1"])) }
    }

    fn snapshot(at: u64, ids: &[&str]) -> Snapshot {
        let objects = ids.iter().map(|id| stored(id)).collect();
        Snapshot { log: LogId("a".into()), at: Revision(at), objects }
    }

    fn delta(from: u64, put: &[&str], gone: &[&str]) -> Delta {
        let put = put.iter().map(|id| stored(id)).collect();
        let gone = gone.iter().map(|id| format!("entry/{id}").parse().unwrap()).collect();
        Delta { log: LogId("a".into()), from: Revision(from), to: Revision(from + 1), put, gone }
    }

    #[test]
    fn a_killed_agent_knows_its_last_change() {
        let dir = tempfile::tempdir().unwrap();
        let view = ViewFile::under(dir.path());
        assert_eq!(view.load().unwrap(), KeptView::default());
        view.begin();
        view.save(&snapshot(7, &["e1"])).unwrap();
        let deltas = [delta(7, &["e2"], &[]), delta(8, &[], &["e1"])];
        deltas.iter().for_each(|delta| view.append(delta).unwrap());
        // A process that is killed closes nothing in order.
        let kept = ViewFile::under(dir.path()).load().unwrap();
        assert_eq!(kept, KeptView { snapshot: Some(snapshot(7, &["e1"])), deltas: deltas.to_vec() });
    }

    #[test]
    fn a_snapshot_takes_the_place_of_what_was_noted_before_it_and_of_nothing_after() {
        let dir = tempfile::tempdir().unwrap();
        let view = ViewFile::under(dir.path());
        view.save(&snapshot(7, &[])).unwrap();
        view.append(&delta(7, &["e1"], &[])).unwrap();
        view.begin();
        view.append(&delta(8, &["e2"], &[])).unwrap();
        // Killed before the snapshot was written, and after.
        assert_eq!(view.load().unwrap().deltas.len(), 2);
        view.save(&snapshot(8, &["e1"])).unwrap();
        let kept = KeptView { snapshot: Some(snapshot(8, &["e1"])), deltas: vec![delta(8, &["e2"], &[])] };
        assert_eq!(view.load().unwrap(), kept);
        view.clear().unwrap();
        assert_eq!(view.load().unwrap(), KeptView::default());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_line_is_no_change_and_a_torn_view_no_view() {
        let dir = tempfile::tempdir().unwrap();
        let view = ViewFile::under(dir.path());
        view.save(&snapshot(7, &["e1"])).unwrap();
        view.append(&delta(7, &["e2"], &[])).unwrap();
        let whole = fs::read(dir.path().join(JOURNAL)).unwrap();
        for end in 0..whole.len() {
            write_private(&dir.path().join(JOURNAL), &whole[..end]).unwrap();
            assert_eq!(view.load().unwrap().deltas, [], "cut at {end}");
        }
        let whole = fs::read(dir.path().join(VIEW)).unwrap();
        for end in [0, 1, whole.len() / 2, whole.len() - 1] {
            write_private(&dir.path().join(VIEW), &whole[..end]).unwrap();
            assert_eq!(view.load().unwrap(), KeptView::default(), "cut at {end}");
        }
    }

    #[test]
    fn an_object_that_is_not_what_its_key_says_spoils_the_view() {
        let mut kept = SnapshotOnDisk::of(&snapshot(1, &["e1"])).unwrap();
        kept.objects[0].key = "entry/e2".parse().unwrap();
        assert!(kept.read().is_err());
    }
}
