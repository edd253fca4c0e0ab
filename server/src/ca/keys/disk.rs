//! Keys in files that only their owner can read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use daemon::{DiskError, disk, private_dir, read_private, write_private};
use registry::objects::AuthorityId;
use spiffe::{KeyError, PrivateKey};

use super::{AuthorityKey, KeyStore, KeyStoreError};

/// A directory with one file for each key, `<authority>.key`, PKCS#8.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
}

const EXTENSION: &str = "key";
const MAX_KEY_FILE: u64 = 8 * 1024;

impl Disk {
    /// Opens the directory; it is made where it is missing, and one that others may enter is refused.
    pub(crate) fn open(directory: &Path) -> Result<Self, KeyStoreError> {
        private_dir(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    fn path(&self, id: &AuthorityId) -> PathBuf {
        self.directory.join(format!("{id}.{EXTENSION}"))
    }

    fn list(&self) -> Result<Vec<(PathBuf, Option<AuthorityId>)>, KeyStoreError> {
        let failed = |source| DiskError::Io { action: "list", path: self.directory.clone(), source };
        let mut files = Vec::new();
        for file in fs::read_dir(&self.directory).map_err(failed)? {
            let path = file.map_err(failed)?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                files.push((path, id));
            }
        }
        Ok(files)
    }
}

impl KeyStore for Disk {
    fn make(&self) -> Result<AuthorityKey, KeyStoreError> {
        let failed = |source| KeyStoreError::Key { what: "cannot make a key".to_owned(), source };
        let private = PrivateKey::generate().map_err(failed)?;
        let key = AuthorityKey::new(&private).map_err(failed)?;
        write_private(&self.path(key.id()), private.pkcs8())?;
        Ok(key)
    }

    fn find(&self, id: &AuthorityId) -> Result<Option<AuthorityKey>, KeyStoreError> {
        let path = self.path(id);
        let Some(bytes) = read_private(&path, MAX_KEY_FILE)? else { return Ok(None) };
        let failed = |source| KeyStoreError::Key { what: format!("cannot use {}", path.display()), source };
        let key = PrivateKey::from_pkcs8(bytes).and_then(|key| AuthorityKey::new(&key)).map_err(failed)?;
        match key.id() == id {
            true => Ok(Some(key)),
            // A file that was exchanged for another one must not sign in this authority's name.
            false => Err(failed(KeyError::Form)),
        }
    }

    fn destroy(&self, id: &AuthorityId) -> Result<(), KeyStoreError> {
        Ok(disk::remove(&self.path(id))?)
    }

    fn keep_only(&self, ids: &[AuthorityId]) -> Result<(), KeyStoreError> {
        for (path, id) in self.list()? {
            if id.is_some_and(|id| !ids.contains(&id)) {
                disk::remove(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn store() -> (tempfile::TempDir, Disk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(&directory.path().join("keys")).unwrap();
        (directory, disk)
    }

    #[test]
    fn a_key_is_found_again_until_it_is_not_kept() {
        let (_directory, disk) = store();
        let (first, second) = (disk.make().unwrap(), disk.make().unwrap());
        assert_eq!(disk.find(first.id()).unwrap().unwrap().id(), first.id());
        disk.keep_only(&[second.id().clone()]).unwrap();
        assert!(disk.find(first.id()).unwrap().is_none());
        assert!(disk.find(second.id()).unwrap().is_some());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let (_directory, disk) = store();
        let key = disk.make().unwrap();
        let path = disk.path(key.id());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = disk.find(key.id()).unwrap_err().to_string();
        assert!(error.contains("0640") && error.contains("chmod"), "{error}");
    }

    #[test]
    fn a_key_under_another_authoritys_name_is_refused() {
        let (_directory, disk) = store();
        let (first, second) = (disk.make().unwrap(), disk.make().unwrap());
        fs::copy(disk.path(first.id()), disk.path(second.id())).unwrap();
        assert!(disk.find(second.id()).is_err());
    }
}
