//! `--write DIR`: an identity as files, for programs that do not speak to an agent themselves.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use daemon::disk::{remove as remove_file, replace, write_private};
use spiffe::{Bundle, Bundles};

use crate::{
    identity::{Identities, pem},
    wire::workload::Token,
};

const SVID: &str = "svid.pem";
const KEY: &str = "key.pem";
const BUNDLE: &str = "bundle.pem";
const TOKEN: &str = "svid.jwt";
const KEY_SET: &str = "jwks.json";

/// Writes the default identity. The bundle comes first and the certificate last, so that whoever
/// waits for a new svid.pem finds the others new as well.
pub(crate) fn write(dir: &Path, identities: &Identities) -> Result<()> {
    let Some(svid) = identities.default() else { return remove(dir) };
    make(dir)?;
    if let Some(bundle) = identities.bundles.get(svid.id.trust_domain_name()) {
        replace(&dir.join(BUNDLE), authorities(bundle).as_bytes(), 0o644)?;
    }
    write_private(&dir.join(KEY), pem("PRIVATE KEY", svid.key.pkcs8()).as_bytes())?;
    let chain: String = svid.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    replace(&dir.join(SVID), chain.as_bytes(), 0o644)?;
    Ok(())
}

/// Writes the token of the default identity. Whoever can read it is taken for its subject.
pub(super) fn write_token(dir: &Path, tokens: &[Token]) -> Result<()> {
    let Some(token) = tokens.first() else { return remove_token(dir) };
    make(dir)?;
    write_private(&dir.join(TOKEN), token.token.as_bytes())?;
    Ok(())
}

/// Takes the token away.
pub(super) fn remove_token(dir: &Path) -> Result<()> {
    remove_file(&dir.join(TOKEN))?;
    Ok(())
}

/// Writes bundles alone: two files for each trust domain.
pub(super) fn write_bundles(dir: &Path, bundles: &Bundles, keys: &Bundles) -> Result<()> {
    make(dir)?;
    for bundle in bundles.iter() {
        let name = format!("{}.{BUNDLE}", bundle.trust_domain);
        replace(&dir.join(name), authorities(bundle).as_bytes(), 0o644)?;
    }
    for bundle in keys.iter() {
        let name = format!("{}.{KEY_SET}", bundle.trust_domain);
        replace(&dir.join(name), &bundle.to_document()?, 0o644)?;
    }
    Ok(())
}

/// Takes away what was written; the certificate first, as nobody else has its key.
pub(super) fn remove(dir: &Path) -> Result<()> {
    for name in [SVID, KEY, BUNDLE] {
        remove_file(&dir.join(name))?;
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

fn authorities(bundle: &Bundle) -> String {
    bundle.x509_authorities.iter().map(|der| pem("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use spiffe::{PrivateKey, Timestamp};

    use super::*;
    use crate::identity::Svid;

    #[test]
    fn the_key_is_closed_and_a_lost_identity_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("tls");
        let id: spiffe::SpiffeId = "spiffe://writ.local/a".parse().unwrap();
        let svid = Svid {
            chain: vec![vec![0x30, 0x00].into()],
            key: PrivateKey::generate().unwrap(),
            hint: String::new(),
            not_before: Timestamp::from_unix_seconds(0),
            not_after: Timestamp::from_unix_seconds(1),
            id: id.clone(),
        };
        let bundles: Bundles = [Bundle::empty(id.trust_domain())].into_iter().collect();
        write(&dir, &Identities { svids: vec![svid], bundles: bundles.into() }).unwrap();
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(SVID), mode(KEY), mode(BUNDLE)), (0o644, 0o600, 0o644));
        assert!(fs::read_to_string(dir.join(KEY)).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        remove(&dir).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
