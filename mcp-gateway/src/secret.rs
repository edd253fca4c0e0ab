//! Secrets of upstreams: read from files, given to the upstream, and to nobody else.

use std::{collections::BTreeMap, fmt, fs, io::Read as _, path::Path};

use zeroize::Zeroizing;

use crate::config::BadConfig;

/// A text that prints as nothing and is wiped when dropped.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

/// A secret is a line of text; what is longer is some other file.
const LONGEST: u64 = 64 * 1024;

impl Secret {
    /// The content of a file, without the line's end.
    pub(crate) fn read(path: &Path) -> Result<Self, BadConfig> {
        let failed = |why: String| BadConfig::File { path: path.to_owned(), why };
        let file = fs::File::open(path).map_err(|error| failed(error.to_string()))?;
        let mut text = Zeroizing::new(String::new());
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > LONGEST {
            return Err(failed(format!(
                "it is longer than {LONGEST} bytes; name the file that holds the secret"
            )));
        }
        if text.trim_end_matches(['\r', '\n']).is_empty() {
            return Err(failed("it is empty; name the file that holds the secret".to_owned()));
        }
        while text.ends_with(['\r', '\n']) {
            text.pop();
        }
        Ok(Self(text))
    }

    /// All of these, by name.
    pub(crate) fn read_all<P: AsRef<Path>>(
        files: &BTreeMap<String, P>,
    ) -> Result<BTreeMap<String, Self>, BadConfig> {
        files.iter().map(|(name, path)| Ok((name.clone(), Self::read(path.as_ref())?))).collect()
    }

    /// For the upstream alone.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_file_without_the_last_line_end_and_prints_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "s3cret\n").unwrap();
        let secret = Secret::read(&file).unwrap();
        assert_eq!(secret.reveal(), "s3cret");
        assert_eq!(format!("{secret:?}"), "Secret");
        fs::write(&file, "\n").unwrap();
        assert!(Secret::read(&file).unwrap_err().to_string().contains("it is empty"));
        fs::write(&file, vec![b'a'; 70_000]).unwrap();
        assert!(Secret::read(&file).is_err());
    }
}
