//! Questions about entries, as SPIRE's API asks them.

use std::collections::BTreeSet;

use proto::spire::{
    server::entry::v1::{count_entries_request, list_entries_request},
    types::{FederatesWithMatch, SelectorMatch, Spiffeid},
};
use registry::objects::Entry;
use spiffe::{Selector, SpiffeId, TrustDomain};

use super::{
    WireError, id,
    selector::{Match, federation_question, question},
};

/// Which entries are meant: those for which everything that is asked holds.
#[derive(Clone, Debug, Default)]
pub struct EntryFilter {
    /// They give this ID.
    pub spiffe_id: Option<SpiffeId>,
    /// They have this parent.
    pub parent_id: Option<SpiffeId>,
    /// Their selectors.
    pub selectors: Option<(BTreeSet<Selector>, Match)>,
    /// The trust domains that they federate with.
    pub federates_with: Option<(BTreeSet<TrustDomain>, Match)>,
    /// They have this hint.
    pub hint: Option<String>,
    /// Whether they are downstream. SPIRE's command line always says `false` where it does not ask.
    pub downstream: bool,
}

impl EntryFilter {
    /// Whether `entry` is meant.
    pub fn is_about(&self, entry: &Entry) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| entry.spiffe_id == *id)
            && self.parent_id.as_ref().is_none_or(|id| entry.parent_id == *id)
            && self.selectors.as_ref().is_none_or(|(asked, how)| how.holds(asked, &entry.selectors))
            && self.federates_with.as_ref().is_none_or(|(asked, how)| how.holds(asked, &entry.federates_with))
            && self.hint.as_ref().is_none_or(|hint| entry.hint == *hint)
            && (!self.downstream || entry.downstream)
    }

    /// The filter of a ListEntries.
    pub fn of_list(filter: Option<list_entries_request::Filter>) -> Result<Self, WireError> {
        let Some(f) = filter else { return Ok(Self::default()) };
        let filter =
            Self { hint: f.by_hint, downstream: f.by_downstream.unwrap_or_default(), ..Self::default() };
        filter.and(f.by_spiffe_id, f.by_parent_id, f.by_selectors, f.by_federates_with)
    }

    /// The filter of a CountEntries.
    pub fn of_count(filter: Option<count_entries_request::Filter>) -> Result<Self, WireError> {
        let Some(f) = filter else { return Ok(Self::default()) };
        let filter =
            Self { hint: f.by_hint, downstream: f.by_downstream.unwrap_or_default(), ..Self::default() };
        filter.and(f.by_spiffe_id, f.by_parent_id, f.by_selectors, f.by_federates_with)
    }

    fn and(
        self,
        spiffe_id: Option<Spiffeid>,
        parent_id: Option<Spiffeid>,
        selectors: Option<SelectorMatch>,
        federates_with: Option<FederatesWithMatch>,
    ) -> Result<Self, WireError> {
        Ok(Self {
            spiffe_id: spiffe_id.map(|asked| id::from_wire("by_spiffe_id", Some(asked))).transpose()?,
            parent_id: parent_id.map(|asked| id::from_wire("by_parent_id", Some(asked))).transpose()?,
            selectors: selectors.map(question).transpose()?,
            federates_with: federates_with.map(federation_question).transpose()?,
            ..self
        })
    }
}
