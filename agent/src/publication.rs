//! What becomes visible to callers in one step.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use registry::objects::{Entry, EntryId};
use serde::{Deserialize, Serialize};
use spiffe::{Bundles, SpiffeId, Timestamp};
use workload_api::X509Svid;

use crate::{rotation::Validity, taint::Signers, tasks::governance::Governed};

/// An SVID as it is held for an entry.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The SVID with its key.
    pub(crate) svid: Arc<X509Svid>,
    /// How long it is valid.
    pub(crate) validity: Validity,
    /// Who signed it.
    pub(crate) signers: Signers,
    /// What of the entry is in it.
    pub(crate) made_for: MadeFor,
}

/// What of an entry goes into its SVID: if that changes, a new one is made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct MadeFor {
    spiffe_id: SpiffeId,
    dns_names: Vec<String>,
    x509_svid_ttl: u32,
    expires_at: Option<Timestamp>,
}

impl From<&Entry> for MadeFor {
    fn from(entry: &Entry) -> Self {
        Self {
            spiffe_id: entry.spiffe_id.clone(),
            dns_names: entry.dns_names.clone(),
            x509_svid_ttl: entry.x509_svid_ttl,
            expires_at: entry.expires_at,
        }
    }
}

/// By which keys identities are judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trusted {
    /// The bundle of the agent's own trust domain, as the pin vouches for it.
    pub(crate) own: Arc<Bundles>,
    /// The same, and those of the trust domains that its entries federate with, as the server gave them.
    pub(crate) all: Bundles,
    /// Keys of its own trust domain whose tokens are to be replaced.
    pub(crate) tainted_jwt: BTreeSet<String>,
}

/// What becomes different in one step. It becomes visible as a whole.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    /// Entries that are new or different.
    pub(crate) put: Vec<Arc<Entry>>,
    /// Entries that are gone.
    pub(crate) gone: Vec<EntryId>,
    /// SVIDs that are there now.
    pub(crate) svids: Vec<(EntryId, Held)>,
    /// Entries whose SVID is not to be handed out any more.
    pub(crate) withdrawn: Vec<EntryId>,
    /// Whom to trust, if that changed.
    pub(crate) trusted: Option<Trusted>,
    /// What decisions need that changed.
    pub(crate) governed: Governed,
    /// Whose plain SPIFFE ID is not handed out, if that changed.
    pub(crate) task_only: Option<Arc<HashSet<SpiffeId>>>,
    /// Whether this agent knows its entries now; before, nobody is told that it has no identity.
    pub(crate) view_is_known: bool,
}

impl Publication {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { put, gone, svids, withdrawn, trusted, governed, task_only, view_is_known } = self;
        put.is_empty()
            && gone.is_empty()
            && svids.is_empty()
            && withdrawn.is_empty()
            && trusted.is_none()
            && governed.is_empty()
            && task_only.is_none()
            && !view_is_known
    }
}
