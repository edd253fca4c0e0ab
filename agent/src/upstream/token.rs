//! The join token: as the operator gave it, or in a file that may be filled later.

use std::path::PathBuf;

use daemon::{DiskError, read_private};
use zeroize::Zeroizing;

use crate::config::{Config, Secret};

/// Where the join token comes from, if it is needed.
pub(crate) struct TokenSource {
    given: Option<Secret>,
    file: Option<PathBuf>,
}

impl TokenSource {
    /// As the configuration says.
    pub(crate) fn of(config: &Config) -> Self {
        Self { given: config.token.clone(), file: config.token_file.clone() }
    }

    /// The token as it is now: who was evicted joins again with what is in the file by then.
    pub(crate) fn read(&self) -> Result<Option<Secret>, DiskError> {
        if self.given.is_some() {
            return Ok(self.given.clone());
        }
        let Some(path) = &self.file else { return Ok(None) };
        let bytes = read_private(path, MOST_BYTES)?.map(Zeroizing::new);
        let token = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(token.filter(|token| !token.is_empty()).map(Secret::from))
    }
}

const MOST_BYTES: u64 = 4096;
