//! Refusals of tasks: the first of each second and node is recorded, the others are counted. An agent that is
//! refused tries again and again, and the log must not grow by it.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use spiffe::{SpiffeId, Timestamp};

/// When each node's last refusal was recorded.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<SpiffeId, Timestamp>>);

const BETWEEN: Duration = Duration::from_secs(1);
/// Beyond that, the oldest say nothing any more.
const MOST: usize = 10_000;

impl Refusals {
    /// Whether this refusal is one to record.
    pub(crate) fn is_recorded(&self, node: &SpiffeId, now: Timestamp) -> bool {
        let mut last = self.0.lock();
        if last.get(node).is_some_and(|last| now < *last + BETWEEN) {
            return false;
        }
        if last.len() >= MOST {
            last.retain(|_, last| now < *last + BETWEEN);
        }
        last.insert(node.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_a_second_and_node_is_recorded() {
        let refusals = Refusals::default();
        let (a, b) = ("spiffe://acme.example/a".parse().unwrap(), "spiffe://acme.example/b".parse().unwrap());
        let at = |millis: i64| Timestamp::from_unix_millis(1_800_000_000_000 + millis);
        let recorded = [(&a, 0), (&a, 1), (&b, 1), (&a, 999), (&a, 1000), (&a, 1001)];
        let recorded = recorded.map(|(node, millis)| refusals.is_recorded(node, at(millis)));
        assert_eq!(recorded, [true, false, true, false, true, false]);
    }
}
