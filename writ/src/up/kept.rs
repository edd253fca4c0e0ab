//! What a directory of `writ up` remembers: its trust domain, and where its server listens.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail};
use daemon::{Layout, read_private, write_private};
use serde::{Deserialize, Serialize};
use spiffe::TrustDomain;

use crate::cli::Usage;

const LARGEST: u64 = 16 * 1024;

/// The trust domain of a directory and its server's address.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    pub(super) trust_domain: TrustDomain,
    /// Port 0 until the server has found a free one.
    pub(super) listen: SocketAddr,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: TrustDomain,
    listen: SocketAddr,
}

impl Kept {
    /// Whether the directory remembers anything.
    pub(super) fn is_there(layout: &Layout) -> bool {
        path(layout).exists()
    }

    /// What the directory remembers, with what the command line says now.
    pub(super) fn open(
        layout: &Layout,
        trust_domain: Option<TrustDomain>,
        listen: Option<&str>,
    ) -> Result<Self> {
        let path = path(layout);
        let file: Option<File> = match read_private(&path, LARGEST)? {
            Some(bytes) => Some(serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; remove it, and name --trust-domain and --listen once more",
                    path.display()
                )
            })?),
            None => None,
        };
        let remembered = file.as_ref().map(|file| &file.trust_domain);
        let trust_domain = match (remembered, trust_domain) {
            (Some(old), Some(new)) if *old != new => {
                bail!(
                    "{} belongs to trust domain {old}, not {new}; choose another directory with --data",
                    layout.state.display()
                )
            }
            (Some(old), _) => old.clone(),
            (None, Some(new)) => new,
            (None, None) => "writ.local".parse()?,
        };
        let remembered = file.map(|file| file.listen);
        let listen = match listen {
            Some(text) => asked(text, remembered)?,
            None => remembered.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
        };
        Ok(Self { path, trust_domain, listen })
    }

    /// Remembers where the server listens, so that agents find it again after the next start.
    pub(super) fn listened_on(&mut self, address: &str) -> Result<()> {
        self.listen =
            address.parse().with_context(|| format!("the server says that it listens on {address:?}"))?;
        let file = File { trust_domain: self.trust_domain.clone(), listen: self.listen };
        write_private(&self.path, &serde_json::to_vec(&file)?)?;
        Ok(())
    }
}

fn path(layout: &Layout) -> PathBuf {
    layout.state.join("up.json")
}

/// An address from the command line; without a port the remembered one stays.
fn asked(text: &str, remembered: Option<SocketAddr>) -> Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, remembered.map_or(0, |address| address.port()))),
        Err(_) => Err(Usage(format!(
            "--listen {text:?} is not an address; write IP or IP:PORT, for example 10.0.0.5:8081"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(layout: &Layout, trust_domain: Option<&str>, listen: Option<&str>) -> Result<Kept> {
        Kept::open(layout, trust_domain.map(|name| name.parse().unwrap()), listen)
    }

    #[test]
    fn a_directory_keeps_its_trust_domain_and_its_port() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::under(dir.path());
        daemon::private_dir(&layout.state).unwrap();
        let mut first = open(&layout, None, None).unwrap();
        assert_eq!((first.trust_domain.as_str(), first.listen.port()), ("writ.local", 0));
        first.listened_on("127.0.0.1:4711").unwrap();

        assert_eq!(open(&layout, None, None).unwrap().listen.to_string(), "127.0.0.1:4711");
        assert_eq!(open(&layout, None, Some("10.0.0.5")).unwrap().listen.to_string(), "10.0.0.5:4711");
        assert_eq!(open(&layout, None, Some("10.0.0.5:1")).unwrap().listen.to_string(), "10.0.0.5:1");
        let other = open(&layout, Some("other.example"), None).unwrap_err().to_string();
        assert!(other.contains("writ.local") && other.contains("--data"), "{other}");
        assert!(open(&layout, None, Some("somewhere")).unwrap_err().is::<Usage>());
    }
}
