//! What is in a backup: a tar archive whose first file says what the others are.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use registry::{LogId, Revision};
use serde::{Deserialize, Serialize};
use spiffe::{Timestamp, TrustDomain};
use tar::{Archive, Builder, EntryType, Header};
use zeroize::Zeroizing;

/// What a backup says of itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the archive; 1.
    pub format: u32,
    /// The version of writ that made it.
    pub writ: String,
    /// What was copied.
    #[serde(flatten)]
    pub content: Content,
    /// The files that follow, and how long each is.
    pub files: BTreeMap<String, u64>,
}

/// Which state of which server a backup holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Content {
    /// Whose server it is.
    pub trust_domain: TrustDomain,
    /// The log.
    pub log: LogId,
    /// The last revision in it.
    pub revision: Revision,
    /// When it was copied.
    pub at: Timestamp,
    /// Where the server listened for agents.
    pub listen: String,
    /// How many entries there are in it.
    pub entries: usize,
    /// How many nodes.
    pub nodes: usize,
}

/// Small files, all of them secret, by their names.
pub(super) type Secrets = BTreeMap<String, Zeroizing<Vec<u8>>>;

pub(super) const FORMAT: u32 = 1;
pub(super) const LOG: &str = "log.db";
pub(super) const MAC_KEY: &str = "mac.key";
pub(super) const PIN_KEY: &str = "pin.key";
pub(super) const AUDIT_LOG: &str = crate::audit::DATABASE;
pub(super) const AUDIT_KEY: &str = crate::audit::KEY;
pub(super) const KEYS: &str = "keys";
const MANIFEST: &str = "manifest.json";
const MOST_MANIFEST: u64 = 1024 * 1024;
/// Of a key file.
pub(super) const MOST_SECRET: u64 = 64 * 1024;
/// Authorities are a handful; more than this is no backup of ours.
const MOST_FILES: usize = 1024;

/// Writes the archive; the databases are read to their ends.
pub(super) fn write<W: Write>(
    out: W,
    manifest: &Manifest,
    secrets: &Secrets,
    databases: &[(&str, &File)],
) -> io::Result<W> {
    let mut archive = Builder::new(out);
    let at = u64::try_from(manifest.content.at.unix_seconds()).unwrap_or(0);
    let mut append = |name: &str, size: u64, content: &mut dyn Read| {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(at);
        header.set_size(size);
        archive.append_data(&mut header, name, content)
    };
    let json = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    append(MANIFEST, json.len() as u64, &mut json.as_slice())?;
    for (name, secret) in secrets {
        append(name, secret.len() as u64, &mut secret.as_slice())?;
    }
    for (name, database) in databases {
        append(name, database.metadata()?.len(), &mut &**database)?;
    }
    archive.into_inner()
}

/// Unpacks an archive into `into`, an empty directory of ours: exactly the files that the manifest
/// names, each of its length, readable by their owner alone and durable. Nothing else may be in it.
pub(super) fn read(input: impl Read, into: &Path) -> Result<Manifest, ArchiveError> {
    let mut archive = Archive::new(input);
    let mut manifest: Option<Manifest> = None;
    let mut missing = BTreeMap::new();
    for file in archive.entries()? {
        let mut file = file?;
        let name = file.path()?.to_str().ok_or_else(foreign)?.to_owned();
        if file.header().entry_type() != EntryType::Regular {
            return Err(foreign());
        }
        match &manifest {
            None if name == MANIFEST => {
                let mut json = Vec::new();
                (&mut file).take(MOST_MANIFEST).read_to_end(&mut json)?;
                let read = parse(&json)?;
                missing.clone_from(&read.files);
                manifest = Some(read);
            }
            None => return Err(foreign()),
            Some(_) if missing.remove(&name) != Some(file.size()) => return Err(foreign()),
            Some(_) => unpack(&mut file, &into.join(&name))?,
        }
    }
    // What has been opened is whole only when its end has been seen.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    match manifest {
        Some(manifest) if missing.is_empty() => Ok(manifest),
        _ => Err(ArchiveError::Incomplete),
    }
}

/// An archive that is not a whole backup of ours.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be read, or its files cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something in it does not belong there.
    #[error("it was opened, but what is in it is not a backup of writ")]
    Foreign,
    /// A newer version made it.
    #[error("it has format {0}, and this version of writ knows format {FORMAT}; run the newer writ")]
    Newer(u32),
    /// Files are missing.
    #[error("it ends before all of its files have come; take another copy")]
    Incomplete,
}

fn foreign() -> ArchiveError {
    ArchiveError::Foreign
}

fn parse(json: &[u8]) -> Result<Manifest, ArchiveError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(json).map_err(|_| foreign())?;
    if format != FORMAT {
        return Err(ArchiveError::Newer(format));
    }
    let manifest: Manifest = serde_json::from_slice(json).map_err(|_| foreign())?;
    let required = [LOG, MAC_KEY, PIN_KEY].iter().all(|name| manifest.files.contains_key(*name));
    let known = manifest.files.iter().all(|(name, size)| is_ours(name, *size));
    match required && known && manifest.files.len() <= MOST_FILES {
        true => Ok(manifest),
        false => Err(foreign()),
    }
}

/// Whether a file of this name belongs into a state directory. Nothing leads out of it.
fn is_ours(name: &str, size: u64) -> bool {
    let is_plain = |name: &str| {
        !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match name.split_once('/') {
        None if [LOG, AUDIT_LOG].contains(&name) => true,
        None => [MAC_KEY, PIN_KEY, AUDIT_KEY].contains(&name) && size <= MOST_SECRET,
        Some((KEYS, key)) => is_plain(key) && key.ends_with(".key") && size <= MOST_SECRET,
        Some(_) => false,
    }
}

fn unpack(file: &mut impl Read, to: &Path) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    out.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    io::copy(file, &mut out)?;
    out.sync_all()
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        let content = Content {
            trust_domain: "acme.example".parse().unwrap(),
            log: LogId("l".into()),
            revision: Revision(7),
            at: Timestamp::from_unix_seconds(1_795_000_000),
            listen: "127.0.0.1:1".into(),
            entries: 1,
            nodes: 2,
        };
        let files = files.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        Manifest { format: FORMAT, writ: "0".into(), content, files }
    }

    const WHOLE: [(&str, u64); 4] = [("keys/a.key", 3), (LOG, 4), (MAC_KEY, 3), (PIN_KEY, 3)];

    /// An archive of these files after a manifest that names `named`.
    fn archive(named: &[(&str, u64)], files: &[(&str, EntryType)]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let json = serde_json::to_vec(&manifest(named)).unwrap();
        for (name, kind, content) in [(MANIFEST, EntryType::Regular, json.as_slice())].into_iter().chain(
            files.iter().map(|(name, kind)| (*name, *kind, if *name == LOG { &b"logs"[..] } else { b"key" })),
        ) {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            archive.append(&header, content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn unpacked(archive: &[u8]) -> Result<Manifest, ArchiveError> {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join(KEYS)).unwrap();
        read(archive, directory.path())
    }

    #[test]
    fn what_was_packed_comes_back_and_half_of_it_does_not() {
        let regular = |name| (name, EntryType::Regular);
        let whole = archive(&WHOLE, &WHOLE.map(|(name, _)| regular(name)));
        assert_eq!(unpacked(&whole).unwrap(), manifest(&WHOLE));
        let less = archive(&WHOLE, &[regular(LOG), regular(MAC_KEY)]);
        assert!(matches!(unpacked(&less), Err(ArchiveError::Incomplete)));
        for end in (0..whole.len() - 1024).step_by(100) {
            assert!(unpacked(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn nothing_that_is_not_ours_is_unpacked() {
        for name in ["../x", "/etc/x", "keys/../../x.key", "keys/.key", "keys/a/b.key", "lock", "keys"] {
            let named = [&WHOLE[..], &[(name, 3)]].concat();
            let files: Vec<_> = named.iter().map(|(name, _)| (*name, EntryType::Regular)).collect();
            assert!(matches!(unpacked(&archive(&named, &files)), Err(ArchiveError::Foreign)), "{name}");
        }
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Directory, EntryType::Char] {
            assert!(unpacked(&archive(&WHOLE, &[(MAC_KEY, kind)])).is_err(), "{kind:?}");
        }
        let unnamed = archive(&WHOLE[1..], &[("keys/a.key", EntryType::Regular)]);
        assert!(matches!(unpacked(&unnamed), Err(ArchiveError::Foreign)), "the manifest names all");
    }
}
