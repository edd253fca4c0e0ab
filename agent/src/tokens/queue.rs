//! Tokens that are to be had from the server, in the order in which they will be: entries take turns,
//! so that whoever asks for a thousand of one does not delay another's first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use registry::objects::{Entry, EntryId};
use spiffe::Audiences;

/// A token that is to be had.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// For which entry, as it was when the token was ordered.
    pub(super) entry: Arc<Entry>,
    /// For whom.
    pub(super) audiences: Audiences,
}

/// Orders that nobody has carried out yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Entries in turn, each with its orders.
    turns: VecDeque<EntryId>,
    orders: HashMap<EntryId, VecDeque<Order>>,
    length: usize,
}

impl Queue {
    /// Puts an order behind the others of its entry.
    pub(super) fn push(&mut self, order: Order) {
        let orders = self.orders.entry(order.entry.id.clone()).or_default();
        if orders.is_empty() {
            self.turns.push_back(order.entry.id.clone());
        }
        orders.push_back(order);
        self.length += 1;
    }

    /// The next order.
    pub(super) fn pop(&mut self) -> Option<Order> {
        let id = self.turns.pop_front()?;
        let orders = self.orders.get_mut(&id)?;
        let next = orders.pop_front();
        self.length -= 1;
        if orders.is_empty() {
            self.orders.remove(&id);
        } else {
            self.turns.push_back(id);
        }
        next
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::entry;

    #[test]
    fn entries_take_turns() {
        let mut queue = Queue::default();
        let (flood, other) = (entry("flood", "/a", &[]), entry("other", "/b", &[]));
        let order = |entry: &Arc<Entry>, audience: &str| Order {
            entry: entry.clone(),
            audiences: Audiences::new([audience]).unwrap(),
        };
        for n in 0..100 {
            queue.push(order(&flood, &n.to_string()));
        }
        queue.push(order(&other, "x"));
        let turns: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|order| order.entry.id.clone()).collect();
        assert_eq!((turns[0].as_str(), turns[1].as_str(), turns[2].as_str()), ("flood", "other", "flood"));
        assert_eq!((turns.len(), queue.len()), (101, 0));
    }
}
