//! What vouches for the server where its pin does not: a trust bundle that the operator put there by
//! other means.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use attestors::https;
use spiffe::{Bundle, TrustDomain};

use super::Trouble;
use crate::config::Config;

/// Where the operator's bundle is: a SPIFFE bundle document, read again whenever it is needed.
#[derive(Clone, Debug)]
pub(crate) enum Anchor {
    /// In a file.
    File(PathBuf),
    /// At an HTTPS address.
    Url {
        /// The address.
        url: String,
        /// Who vouches for its host, if not those whom the system trusts.
        ca_file: Option<PathBuf>,
    },
}

impl Anchor {
    /// What the configuration names.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let file = config.bundle_file.clone().map(Self::File);
        let ca_file = config.bundle_url_ca_file.clone();
        file.or_else(|| config.bundle_url.clone().map(|url| Self::Url { url, ca_file }))
    }

    /// What the configuration calls it.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "bundle_file",
            Self::Url { .. } => "bundle_url",
        }
    }

    /// The bundle as it is now.
    pub(super) async fn bundle(&self, trust_domain: &TrustDomain) -> Result<Bundle, Trouble> {
        let (shown, document) = match self {
            Self::File(path) => (path.display().to_string(), read(path).map_err(|error| error.to_string())),
            Self::Url { url, ca_file } => {
                let document = https::document(url, ca_file.as_deref()).await;
                (url.clone(), document.map_err(|error| error.to_string()))
            }
        };
        let trouble = |says| Trouble::Unreachable(format!("{} {shown} {says}", self.key()));
        let document = document.map_err(|error| trouble(format!("cannot be taken: {error}")))?;
        Bundle::parse(trust_domain.clone(), &document)
            .map_err(|error| trouble(format!("is no trust bundle: {error}")))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    let own = nix::unistd::geteuid().as_raw();
    // Whoever may write it decides whom this node trusts.
    if about.mode() & 0o022 != 0 || ![0, own].contains(&about.uid()) {
        return Err(io::Error::other(
            "others may write it; run: chmod go-w, and chown it to the agent's user",
        ));
    }
    let mut document = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut document)?;
    match document.len() as u64 > MOST_BYTES {
        true => Err(io::Error::other("it is longer than any trust bundle")),
        false => Ok(document),
    }
}

const MOST_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn a_bundle_that_others_may_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bundle.json");
        let anchor = Anchor::File(file.clone());
        let trust_domain: TrustDomain = "acme.example".parse().unwrap();
        assert!(anchor.bundle(&trust_domain).await.is_err(), "it is not there");
        fs::write(&file, r#"{"keys":[]}"#).unwrap();
        for (mode, believed) in [(0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(anchor.bundle(&trust_domain).await.is_ok(), believed, "{mode:o}");
        }
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "nonsense").unwrap();
        assert!(anchor.bundle(&trust_domain).await.is_err());
    }
}
