//! What vouches for the server where its pin does not: a trust bundle that the operator put there by
//! other means.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use spiffe::{Bundle, TrustDomain};

use super::Trouble;

/// Where the operator's bundle is.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    /// A SPIFFE bundle document. It is read again whenever it is needed.
    pub(crate) file: PathBuf,
}

impl Anchor {
    /// The bundle as it is now.
    pub(super) fn bundle(&self, trust_domain: &TrustDomain) -> Result<Bundle, Trouble> {
        let shown = self.file.display();
        let document = read(&self.file)
            .map_err(|error| Trouble::Unreachable(format!("cannot take bundle_file {shown}: {error}")))?;
        Bundle::parse(trust_domain.clone(), &document)
            .map_err(|error| Trouble::Unreachable(format!("bundle_file {shown} is no trust bundle: {error}")))
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

    #[test]
    fn a_bundle_that_others_may_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = Anchor { file: dir.path().join("bundle.json") };
        let trust_domain: TrustDomain = "acme.example".parse().unwrap();
        assert!(anchor.bundle(&trust_domain).is_err(), "it is not there");
        fs::write(&anchor.file, r#"{"keys":[]}"#).unwrap();
        for (mode, believed) in [(0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&anchor.file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(anchor.bundle(&trust_domain).is_ok(), believed, "{mode:o}");
        }
        fs::set_permissions(&anchor.file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&anchor.file, "nonsense").unwrap();
        assert!(anchor.bundle(&trust_domain).is_err());
    }
}
