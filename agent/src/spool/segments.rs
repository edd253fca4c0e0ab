//! The files of a spool. Each has its full length from the start, and two are always kept ahead: the next
//! one, and one that only endings may use.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

/// Segments that lie ready: the next one and the reserve.
pub(super) const SPARES: usize = 2;

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

/// The segments that hold records, oldest first, for whoever reads them.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Vec<Held>>);

/// A segment and its first record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) first: u64,
}

impl Segment {
    /// Makes the segment of this number, with its room taken and its name durable.
    pub(super) fn make(dir: &Path, number: u64, bytes: u32) -> io::Result<Self> {
        let path = dir.join(name(number));
        let made = Self::fill(&path, bytes);
        if made.is_err() {
            let _ = fs::remove_file(&path); // half a segment is none
        }
        made.map(|file| Self { file, path })
    }

    fn fill(path: &Path, bytes: u32) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Written, not only reserved: then later writes change no metadata, and a copy-on-write file
        // system has said no already.
        let zeros = [0; 64 * 1024];
        let mut at = 0;
        while at < u64::from(bytes) {
            let rest = usize::try_from(u64::from(bytes) - at).unwrap_or(usize::MAX);
            file.write_all_at(&zeros[..zeros.len().min(rest)], at)?;
            at += zeros.len() as u64;
        }
        file.sync_all()?;
        sync_dir(path)?;
        Ok(file)
    }

    /// Opens one that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes and makes durable.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.file.sync_data()
    }
}

impl Shelf {
    pub(super) fn put(&self, path: PathBuf, first: u64) {
        self.0.lock().push(Held { path, first });
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The segment with this record, or the oldest one if it is gone.
    pub(super) fn with(&self, seq: u64) -> Option<Held> {
        let held = self.0.lock();
        held.iter().rev().find(|held| held.first <= seq).or(held.first()).cloned()
    }

    /// The one behind it.
    pub(super) fn behind(&self, first: u64) -> Option<Held> {
        self.0.lock().iter().find(|held| held.first > first).cloned()
    }

    /// The number of the oldest record, or of the next one where there is none.
    pub(super) fn oldest(&self) -> u64 {
        self.0.lock().first().map_or(1, |held| held.first)
    }

    /// Takes out the segments all of whose records are up to `seq`; the newest one stays.
    pub(super) fn take_upto(&self, seq: u64) -> Vec<PathBuf> {
        let mut held = self.0.lock();
        let gone = held.windows(2).take_while(|pair| pair[1].first <= seq.saturating_add(1)).count();
        held.drain(..gone).map(|held| held.path).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// The segments in a directory, by their numbers.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(SUFFIX))
            .and_then(|number| number.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

/// Makes changes of names in the directory of `path` durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn name(number: u64) -> String {
    format!("{number:012}{SUFFIX}")
}

const SUFFIX: &str = ".segment";
