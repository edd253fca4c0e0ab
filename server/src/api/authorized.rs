//! What a node may hand out, as SPIRE's agents ask for it: a list of revisions first where the whole
//! would be long, then the entries that the agent does not have yet.

use registry::{
    Object, Registry, Stored, Versioned,
    objects::{Entry, EntryId},
};
use spiffe::{SpiffeId, Timestamp};

/// SPIRE's page. An agent asks for no more entries at once than the first page of revisions had.
pub(crate) const PAGE: usize = 500;

/// An entry as an agent compares it with its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Revised {
    pub(crate) id: EntryId,
    pub(crate) revision: i64,
    pub(crate) created_at: Timestamp,
}

impl Revised {
    fn of(entry: &Entry, version: u64) -> Self {
        Self { id: entry.id.clone(), revision: revision(entry, version), created_at: entry.created_at }
    }
}

/// Whether an agent of SPIRE's can do anything with the entry: it knows no tasks, so of an actor that is `task_only`
/// it would ask for SVIDs that nobody signs.
fn is_plain(registry: &Registry, entry: &Entry) -> bool {
    !registry.is_task_only(&entry.spiffe_id)
}

/// The entries of a node's view that have not ended.
pub(crate) fn entries(registry: &Registry, node: &SpiffeId, now: Timestamp) -> Vec<Versioned<Entry>> {
    let objects = registry.view(node).map(|view| view.objects).unwrap_or_default();
    let entries = objects.into_iter().filter_map(|Stored { version, object }| match object {
        Object::Entry(value) => Some(Versioned { version, value }),
        _ => None,
    });
    let plain = entries.filter(|entry| is_plain(registry, entry));
    plain.filter(|entry| entry.expires_at.is_none_or(|end| now < end)).collect()
}

/// Those of the entries named that are in the node's view now: one that left it since is left out.
pub(crate) fn named(
    registry: &Registry,
    node: &SpiffeId,
    names: &[String],
    now: Timestamp,
) -> Vec<Versioned<Entry>> {
    let ids = names.iter().filter_map(|name| name.parse().ok());
    let entries = ids.filter_map(|id: EntryId| registry.in_view(node, &id, now));
    entries.filter(|entry| is_plain(registry, entry)).cloned().collect()
}

/// The revisions of entries, in pages.
pub(crate) fn revisions(entries: &[Versioned<Entry>]) -> impl Iterator<Item = Vec<Revised>> {
    entries.chunks(PAGE).map(|page| page.iter().map(|entry| Revised::of(entry, entry.version)).collect())
}

/// The number by which an agent knows that it has the entry as it is. An entry that was deleted and made
/// again under the same name starts anew, and its agents compare its age in whole seconds only: the
/// milliseconds in the upper half tell the two apart.
pub(crate) fn revision(entry: &Entry, version: u64) -> i64 {
    let changes = version.saturating_sub(1) & 0xffff_ffff;
    let fraction = entry.created_at.unix_millis().rem_euclid(1000);
    fraction << 32 | i64::try_from(changes).unwrap_or_default()
}
