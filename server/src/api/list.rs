//! Lists of entries, in pages.

use registry::{
    Registry, Versioned,
    objects::{Entry, EntryId},
};
use server_api::wire::filter::EntryFilter;

/// One page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Versioned<Entry>>,
    /// The name of the last one, if more follow.
    pub(crate) next: Option<EntryId>,
}

/// The entries that `filter` is about and whose names come after `after`, as many as fit on a page.
pub(crate) fn entries(
    registry: &Registry,
    filter: &EntryFilter,
    after: Option<&EntryId>,
    most: usize,
) -> Page {
    let mut found = candidates(registry, filter, after).filter(|entry| filter.is_about(entry));
    let entries: Vec<_> = found.by_ref().take(most).cloned().collect();
    let next = match found.next() {
        Some(_) => entries.last().map(|entry| entry.id.clone()),
        None => None,
    };
    Page { entries, next }
}

/// How many entries `filter` is about.
pub(crate) fn count(registry: &Registry, filter: &EntryFilter) -> usize {
    candidates(registry, filter, None).filter(|entry| filter.is_about(entry)).count()
}

/// Entries that may be meant, by name: found by an index where there is one.
fn candidates<'a>(
    registry: &'a Registry,
    filter: &'a EntryFilter,
    after: Option<&EntryId>,
) -> Box<dyn Iterator<Item = &'a Versioned<Entry>> + 'a> {
    let indexed: Option<Vec<&'a Versioned<Entry>>> = match (&filter.parent_id, &filter.spiffe_id) {
        (Some(parent), _) => Some(registry.children(parent).collect()),
        (None, Some(id)) => Some(registry.givers(id).collect()),
        (None, None) => None,
    };
    match (indexed, after.cloned()) {
        (Some(indexed), after) => {
            let follows =
                move |entry: &&Versioned<Entry>| after.as_ref().is_none_or(|after| entry.id > *after);
            Box::new(indexed.into_iter().filter(follows))
        }
        (None, Some(after)) => Box::new(registry.entries_after(&after).collect::<Vec<_>>().into_iter()),
        (None, None) => Box::new(registry.entries()),
    }
}
