//! What an agent gives a process: SVIDs with their keys, and the bundles to judge others by.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use spiffe::{
    Bundles, PrivateKey, SpiffeId, Timestamp,
    x509::{Certificate, svid},
};

/// One X509-SVID, verified as a stranger's would be.
#[derive(Clone, Debug)]
pub(crate) struct Svid {
    /// Whom it names.
    pub(crate) id: SpiffeId,
    /// Leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub(crate) key: PrivateKey,
    /// Tells several identities apart; may be empty.
    pub(crate) hint: String,
    /// First moment of the leaf's validity.
    pub(crate) not_before: Timestamp,
    /// Last moment of the leaf's validity.
    pub(crate) not_after: Timestamp,
}

/// All that the agent said at one time.
#[derive(Clone, Debug)]
pub(crate) struct Identities {
    /// The first one is the default.
    pub(crate) svids: Vec<Svid>,
    /// Of the own trust domains and of federated ones.
    pub(crate) bundles: Arc<Bundles>,
}

impl Svid {
    /// Takes an SVID whose chain leads to one of `bundles` now, and that is whose the agent says.
    pub(crate) fn verified(
        named: &str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        hint: String,
        bundles: &Bundles,
        now: Timestamp,
    ) -> Result<Self> {
        let id = svid::verify(&chain, bundles, now)
            .with_context(|| format!("the agent's SVID for {named:?} cannot be verified"))?;
        ensure!(id.as_str() == named, "the agent's SVID for {named:?} is {id}'s");
        let Some(leaf) = chain.first() else { bail!("the agent's SVID for {id} is empty") };
        let leaf = Certificate::parse(leaf).with_context(|| format!("the agent's SVID for {id}"))?;
        let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
        Ok(Self { id, not_before, not_after, chain, key, hint })
    }
}

impl Identities {
    /// The identity to use where none is chosen.
    pub(crate) fn default(&self) -> Option<&Svid> {
        self.svids.first()
    }
}

/// An identity without its key, to be shown.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    spiffe_id: &'a SpiffeId,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
    not_before: Timestamp,
    not_after: Timestamp,
    x509_svid: Vec<String>,
}

impl<'a> From<&'a Svid> for Shown<'a> {
    fn from(svid: &'a Svid) -> Self {
        Self {
            spiffe_id: &svid.id,
            hint: &svid.hint,
            not_before: svid.not_before,
            not_after: svid.not_after,
            x509_svid: svid.chain.iter().map(|der| pem("CERTIFICATE", der)).collect(),
        }
    }
}

/// RFC 7468 text of `der`.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64() {
        let text = pem("CERTIFICATE", &[0xff; 50]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1].len(), 64);
        assert_eq!((lines[0], lines[3]), ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"));
    }
}
