//! Seals: a keyed MAC for each row, and a keyed sum over all of them.
//!
//! SQLite's own check passes a row whose content was altered on disk, so each row carries an HMAC over
//! its table and all its columns. A MAC cannot show that a row is missing or that an older genuine
//! version of it was put back. For that each row also has a secret weight, a second HMAC that is
//! written nowhere, and the sum of the weights of all live rows, modulo 2^256, goes into each event,
//! again only as an HMAC. Changing a row costs one subtraction and one addition; whoever can write
//! the file knows neither weights nor sums, so cannot look for other rows that would add up.
//!
//! What no key can show is the whole file put back as it once was. Agents notice that, because they
//! have seen later revisions.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroize;

/// The key of all seals of one log. It lies beside the database, not in it.
pub struct MacKey {
    rows: hmac::Key,
    weights: hmac::Key,
    sums: hmac::Key,
}

impl MacKey {
    /// The key made of these bytes, which are wiped. Each use has its own key, derived from them.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        bytes.zeroize();
        let derived = |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, label).as_ref());
        Self {
            rows: derived(b"writ rows v1"),
            weights: derived(b"writ weights v1"),
            sums: derived(b"writ sums v1"),
        }
    }

    /// The seal of a row: its table and every column, each with its length before it.
    pub(crate) fn seal(&self, table: &str, columns: &[&[u8]]) -> Seal {
        let mut context = hmac::Context::with_key(&self.rows);
        for part in std::iter::once(table.as_bytes()).chain(columns.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Seal(tag(context))
    }

    /// What the row of this seal adds to the sum.
    pub(crate) fn weight(&self, seal: Seal) -> Weight {
        let mut context = hmac::Context::with_key(&self.weights);
        context.update(&seal.0);
        Weight(tag(context))
    }

    /// The seal of the sum that all live rows have at `revision`.
    pub(crate) fn seal_sum(&self, revision: i64, sum: Sum) -> Seal {
        let mut context = hmac::Context::with_key(&self.sums);
        context.update(&revision.to_be_bytes());
        context.update(&sum.0);
        Seal(tag(context))
    }
}

fn tag(context: hmac::Context) -> [u8; 32] {
    let mut tag = [0; 32];
    tag.copy_from_slice(context.sign().as_ref());
    tag
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

/// The seal of one row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seal(pub(crate) [u8; 32]);

/// What one row adds to the sum; never written down.
#[derive(Clone, Copy)]
pub(crate) struct Weight([u8; 32]);

/// The sum of the weights of all live rows; never written down.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    /// With one more row.
    pub(crate) fn plus(self, Weight(weight): Weight) -> Self {
        let mut out = self.0;
        let mut carry = 0u16;
        for (digit, add) in out.iter_mut().zip(weight) {
            let [low, high] = (u16::from(*digit) + u16::from(add) + carry).to_le_bytes();
            *digit = low;
            carry = u16::from(high);
        }
        Self(out)
    }

    /// With one row less: subtraction is the addition of the two's complement.
    pub(crate) fn minus(self, Weight(weight): Weight) -> Self {
        let mut one = [0; 32];
        one[0] = 1;
        self.plus(Weight(weight.map(|digit| !digit))).plus(Weight(one))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sum")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_added_and_removed_leaves_the_sum_as_it_was() {
        let key = MacKey::new([7; 32]);
        let weight = |name: &[u8]| key.weight(key.seal("objects", &[name]));
        let (a, b) = (weight(b"a"), weight(b"b"));
        let sum = Sum::default().plus(a).plus(b);
        assert_eq!(sum, Sum::default().plus(b).plus(a));
        assert_eq!(sum.minus(a), Sum::default().plus(b));
        assert_eq!(sum.minus(a).minus(b), Sum::default());
    }

    #[test]
    fn columns_cannot_trade_bytes() {
        let key = MacKey::new([7; 32]);
        assert_ne!(key.seal("t", &[b"ab", b"c"]), key.seal("t", &[b"a", b"bc"]));
        assert_ne!(key.seal("t", &[b"a"]), key.seal("u", &[b"a"]));
    }
}
