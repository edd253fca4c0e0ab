//! The state directory: `log.db`, `mac.key`, `pin.key` and `keys/`, for one server at a time.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use daemon::{DirLock, DiskError, lock_dir, private_dir, read_private, write_private};
use registry::Registry;
use spiffe::{KeyError, PinError, PinKey, PrivateKey, TrustDomain};
use store::{Log as _, MacKey, Sqlite, StoreError};

use crate::config::Config;

/// What lies in the state directory, opened and checked.
pub(crate) struct State {
    /// Keeps other servers out for as long as it lives.
    pub(crate) lock: DirLock,
    pub(crate) log: Sqlite,
    pub(crate) registry: Registry,
    pub(crate) pin_key: PinKey,
    /// Where the authorities' keys are.
    pub(crate) keys: PathBuf,
}

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system, or another server in the directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key of the log's seals is gone, so nothing in it can be trusted.
    #[error("{} is missing, and without it nothing in the log can be trusted; put it back, or run, with the server's --data or --config: writ backup restore FILE --replace", path.display())]
    NoMacKey {
        /// The key file.
        path: PathBuf,
    },
    /// A key file holds something else.
    #[error("{} cannot be used: {why}; put the right file back", path.display())]
    BadKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The directory is another trust domain's.
    #[error("{} holds the state of another trust domain than {trust_domain}; name another state_dir, or the right trust_domain", path.display())]
    OtherTrustDomain {
        /// The state directory.
        path: PathBuf,
        /// What the configuration says.
        trust_domain: TrustDomain,
    },
    /// No randomness.
    #[error("the operating system gives no randomness, so no keys can be made")]
    Randomness,
}

impl State {
    /// Opens the directory; what is missing on a first start is made.
    pub(crate) fn open(config: &Config) -> Result<Self, StateError> {
        let directory = &config.state_dir;
        private_dir(directory)?;
        let lock = lock_dir(directory)?;
        let path = directory.join("log.db");
        let mac_key = mac_key(&directory.join("mac.key"), &path)?;
        let mut log = Sqlite::open(&path, mac_key)?;
        let loaded = log.load()?;
        let (id, settings) = (log.id().clone(), config.settings());
        let registry = Registry::restore(settings, id, loaded.revision, loaded.objects);
        let has_other_bundle =
            registry.authorities().len() > 0 && registry.bundle(&config.trust_domain).is_none();
        if has_other_bundle {
            let trust_domain = config.trust_domain.clone();
            return Err(StateError::OtherTrustDomain { path: directory.clone(), trust_domain });
        }
        let pin_key = pin_key(&directory.join("pin.key"))?;
        Ok(Self { lock, log, registry, pin_key, keys: directory.join("keys") })
    }
}

const MAC_KEY_BYTES: usize = 32;
const MAX_PIN_KEY: u64 = 8 * 1024;

/// The key of the log's seals: made together with the log, never later.
fn mac_key(path: &Path, log: &Path) -> Result<MacKey, StateError> {
    let bytes = match read_private(path, MAC_KEY_BYTES as u64)? {
        Some(bytes) => bytes,
        None if log.exists() => return Err(StateError::NoMacKey { path: path.to_owned() }),
        None => {
            let mut fresh = vec![0; MAC_KEY_BYTES];
            SystemRandom::new().fill(&mut fresh).map_err(|_| StateError::Randomness)?;
            write_private(path, &fresh)?;
            fresh
        }
    };
    let why = || format!("it has {} bytes instead of {MAC_KEY_BYTES}", bytes.len());
    let bytes = bytes.as_slice().try_into().map_err(|_| bad(path, why()))?;
    Ok(MacKey::new(bytes))
}

/// The key that agents pin: made once, and the same for the life of the installation.
fn pin_key(path: &Path) -> Result<PinKey, StateError> {
    let key = match read_private(path, MAX_PIN_KEY)? {
        Some(bytes) => PrivateKey::from_pkcs8(bytes).map_err(|error| bad(path, error.to_string()))?,
        None => {
            let fresh = PrivateKey::generate().map_err(|_: KeyError| StateError::Randomness)?;
            write_private(path, fresh.pkcs8())?;
            fresh
        }
    };
    PinKey::new(&key).map_err(|error: PinError| bad(path, error.to_string()))
}

fn bad(path: &Path, why: String) -> StateError {
    StateError::BadKey { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn config() -> (tempfile::TempDir, Config) {
        let directory = tempfile::tempdir().unwrap();
        let (state, private) = (directory.path().join("state"), directory.path().join("private"));
        (directory, Config::new("acme.example".parse().unwrap(), state, private))
    }

    fn refusal(config: &Config) -> String {
        State::open(config).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_second_start_finds_the_same_log_and_the_same_pin() {
        let (_directory, config) = config();
        let first = State::open(&config).unwrap();
        let (log, pin) = (first.registry.log().clone(), first.pin_key.pin());
        drop(first);
        let second = State::open(&config).unwrap();
        assert_eq!((second.registry.log(), second.pin_key.pin()), (&log, pin));
    }

    #[test]
    fn two_servers_never_share_a_state_directory() {
        let (_directory, config) = config();
        let _first = State::open(&config).unwrap();
        assert!(refusal(&config).contains("state"), "{}", refusal(&config));
    }

    #[test]
    fn a_key_that_others_may_read_stops_the_start() {
        for name in ["mac.key", "pin.key"] {
            let (_directory, config) = config();
            drop(State::open(&config).unwrap());
            let path = config.state_dir.join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            assert!(refusal(&config).contains("0644"), "{}", refusal(&config));
        }
    }

    #[test]
    fn a_log_without_its_mac_key_is_not_given_a_new_one() {
        let (_directory, config) = config();
        drop(State::open(&config).unwrap());
        fs::remove_file(config.state_dir.join("mac.key")).unwrap();
        assert!(refusal(&config).contains("backup restore"), "{}", refusal(&config));
        assert!(!config.state_dir.join("mac.key").exists());
    }
}
