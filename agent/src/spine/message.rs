//! What the spine is told, and what it says is to be done.

use std::sync::Arc;

use registry::{
    Delta, LogId, Revision, Snapshot,
    objects::{Entry, EntryId},
};
use spiffe::Bundles;

use crate::{
    publication::{Held, Publication},
    taint::Certified,
    view_file::KeptView,
};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// The agent starts, with what it kept.
    Start(Kept),
    /// A connection to the server is open, verified on both sides, and follows this node's view.
    Connected,
    /// There is no connection: it broke, or none could be made.
    Lost,
    /// The server knows this node no longer, or has banned it.
    Expelled,
    /// The view goes on.
    Delta(Delta),
    /// The view begins anew.
    Snapshot(Snapshot),
    /// The trust bundles changed; they have been verified.
    Bundles(Arc<Bundles>),
    /// SVIDs were made, signed, verified and kept.
    Issued(Vec<(EntryId, Held)>),
    /// SVIDs could not be made.
    NotIssued(Vec<EntryId>),
    /// These SVIDs do not verify any more.
    Distrusted(Vec<EntryId>),
    /// A caller needs the SVID of this entry.
    Asked(EntryId),
    /// The agent has its own certificate, or has renewed it.
    Certified(Certified),
    /// The agent's certificate could not be renewed.
    NotRenewed,
    /// Time has passed.
    Tick,
}

/// What a start finds on disk and in memory that outlived the last process.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The view.
    pub(crate) view: KeptView,
    /// The bundles.
    pub(crate) bundles: Option<Arc<Bundles>>,
    /// SVIDs with their keys.
    pub(crate) svids: Vec<(EntryId, Held)>,
    /// The agent's own certificate.
    pub(crate) certificate: Option<Certified>,
}

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Open a connection in the place of any other, and follow the view from here, or from the beginning.
    Connect(Option<(LogId, Revision)>),
    /// Have an SVID made for each of these entries.
    Issue(Vec<Arc<Entry>>),
    /// Renew the agent's own certificate.
    Renew,
    /// Keep these SVIDs with their keys where keys may be kept.
    Keep(Vec<(EntryId, Held)>),
    /// Make this visible to callers.
    Publish(Publication),
    /// Wipe the keys of these entries.
    Wipe(Vec<EntryId>),
    /// Find out which SVIDs still verify.
    VerifyHeld,
    /// Note on disk that the view goes on like this.
    Append(Delta),
    /// Keep the whole view on disk, soon.
    Save,
}
