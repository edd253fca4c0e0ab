//! Issuance: nothing changes, but the audit log says which SVIDs were signed.

use serde::Serialize;
use serde_json::json;
use spiffe::{SpiffeId, Timestamp};

use crate::{
    decide::{Command, Decision, Moment, Proposal},
    objects::{AuthorityId, EntryId},
    record::Record,
    registry::Registry,
};

/// Records a batch of signed X509-SVIDs. It wakes nobody.
#[derive(Clone, Debug)]
pub struct RecordIssued {
    /// The authority that signed.
    pub authority: AuthorityId,
    /// What it signed.
    pub items: Vec<Issued>,
}

/// One signed X509-SVID.
#[derive(Clone, Debug, Serialize)]
pub struct Issued {
    /// The entry that it was signed for; `None` for an agent's own, or one that an administrator minted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryId>,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Its serial number, hex.
    pub serial: String,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Command for RecordIssued {
    type Answer = ();
    fn decide(self, _: &Registry, _: &Moment) -> Decision<()> {
        let facts = json!({ "authority": self.authority, "items": self.items });
        let record = Record { kind: "svid.issue", outcome: Ok(()), facts };
        Decision { proposal: Proposal { changes: Vec::new(), record: Some(record) }, answer: () }
    }
}

/// Records a batch of signed JWT-SVIDs. It wakes nobody.
#[derive(Clone, Debug)]
pub struct RecordTokens {
    /// The authority that signed.
    pub authority: AuthorityId,
    /// What it signed.
    pub items: Vec<IssuedToken>,
}

/// One signed JWT-SVID.
#[derive(Clone, Debug, Serialize)]
pub struct IssuedToken {
    /// The entry that it was signed for; `None` for one that an administrator minted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryId>,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// For whom it is.
    pub audience: Vec<String>,
    /// Its `jti`, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Command for RecordTokens {
    type Answer = ();
    fn decide(self, _: &Registry, _: &Moment) -> Decision<()> {
        let facts = json!({ "authority": self.authority, "items": self.items });
        let record = Record { kind: "jwt.issue", outcome: Ok(()), facts };
        Decision { proposal: Proposal { changes: Vec::new(), record: Some(record) }, answer: () }
    }
}
