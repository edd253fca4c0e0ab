//! How much room the records of each tenant take: one that has used up its share is refused, and no other.

use std::collections::{HashMap, HashSet, VecDeque};

/// Bytes that the server does not have yet, by tenant and segment.
#[derive(Debug)]
pub(super) struct Shares {
    /// Of one tenant, at most.
    most: u64,
    /// Oldest first; the last one is being written.
    segments: VecDeque<HashMap<String, u64>>,
    all: HashMap<String, u64>,
    /// Tenants that were refused, and have had no room since.
    refused: HashSet<String>,
}

impl Shares {
    pub(super) fn of(most: u64) -> Self {
        Self { most, segments: VecDeque::new(), all: HashMap::new(), refused: HashSet::new() }
    }

    /// Another segment begins.
    pub(super) fn turn(&mut self) {
        self.segments.push_back(HashMap::new());
    }

    /// A record of this tenant lies in the newest segment.
    pub(super) fn take(&mut self, tenant: Option<&str>, bytes: usize) {
        let (Some(tenant), Some(segment)) = (tenant, self.segments.back_mut()) else { return };
        add(segment, tenant, bytes as u64);
        add(&mut self.all, tenant, bytes as u64);
    }

    /// The oldest segments are gone. Gives back the tenants that were refused and have room again.
    pub(super) fn forget(&mut self, segments: usize) -> Vec<String> {
        for segment in self.segments.drain(..segments.min(self.segments.len())) {
            for (tenant, bytes) in segment {
                if let Some(all) = self.all.get_mut(&tenant) {
                    *all = all.saturating_sub(bytes);
                }
            }
        }
        self.all.retain(|_, bytes| *bytes > 0);
        let (all, most) = (&self.all, self.most);
        self.refused.extract_if(|tenant| all.get(tenant).is_none_or(|bytes| *bytes < most)).collect()
    }

    pub(super) fn is_used_up(&self, tenant: Option<&str>) -> bool {
        tenant.and_then(|tenant| self.all.get(tenant)).is_some_and(|bytes| *bytes >= self.most)
    }

    /// Somebody of it was refused. Gives back whether that is new.
    pub(super) fn refuse(&mut self, tenant: &str) -> bool {
        !self.refused.contains(tenant) && self.refused.insert(tenant.to_owned())
    }
}

fn add(to: &mut HashMap<String, u64>, tenant: &str, bytes: u64) {
    match to.get_mut(tenant) {
        Some(all) => *all += bytes,
        None => drop(to.insert(tenant.to_owned(), bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_share_until_its_oldest_segments_are_gone() {
        let mut shares = Shares::of(100);
        shares.turn();
        shares.take(Some("acme"), 60);
        shares.take(Some("shop"), 60);
        shares.turn();
        shares.take(Some("acme"), 40);
        shares.take(None, 1_000);
        assert!(shares.is_used_up(Some("acme")) && !shares.is_used_up(Some("shop")));
        assert!(!shares.is_used_up(None), "what is nobody's has no share");
        assert!(shares.refuse("acme") && !shares.refuse("acme"), "it is new once");
        assert_eq!(shares.forget(1), ["acme"]);
        assert!(!shares.is_used_up(Some("acme")) && shares.refuse("acme"));
        assert_eq!(shares.all, HashMap::from([("acme".to_owned(), 40)]));
    }
}
