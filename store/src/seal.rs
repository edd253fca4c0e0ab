//! Seals: a keyed MAC for each row, and a keyed sum over all of them.
//!
//! SQLite's own check passes a row whose content was altered on disk, so each row carries an HMAC over
//! its table and all its columns. A MAC cannot show that a row is missing or that an older genuine
//! version of it was put back; the sum, modulo 2^256, of the MACs of all live rows can. Changing a row
//! costs one subtraction and one addition. Without the key neither can be made to fit.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroize;

/// The key of all seals of one log. It lies beside the database, not in it.
pub struct MacKey(hmac::Key);

impl MacKey {
    /// The key made of these bytes, which are wiped.
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        bytes.zeroize();
        Self(key)
    }

    /// The seal of a row: its table and every column, each with its length before it.
    pub(crate) fn seal(&self, table: &str, columns: &[&[u8]]) -> Seal {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"writ row v1");
        for part in std::iter::once(table.as_bytes()).chain(columns.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut seal = [0; 32];
        seal.copy_from_slice(context.sign().as_ref());
        Seal(seal)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey")
    }
}

/// The seal of one row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seal(pub(crate) [u8; 32]);

/// The sum of the seals of all live rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sum(pub(crate) [u8; 32]);

impl Sum {
    /// With one more row.
    pub(crate) fn plus(self, seal: Seal) -> Self {
        let mut out = self.0;
        let mut carry = 0u16;
        for (digit, add) in out.iter_mut().zip(seal.0) {
            let total = u16::from(*digit) + u16::from(add) + carry;
            let [low, high] = total.to_le_bytes();
            *digit = low;
            carry = u16::from(high);
        }
        Self(out)
    }

    /// With one row less: subtraction is the addition of the two's complement.
    pub(crate) fn minus(self, seal: Seal) -> Self {
        let mut one = [0; 32];
        one[0] = 1;
        self.plus(Seal(seal.0.map(|digit| !digit))).plus(Seal(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_added_and_removed_leaves_the_sum_as_it_was() {
        let key = MacKey::new([7; 32]);
        let (a, b) = (key.seal("objects", &[b"a"]), key.seal("objects", &[b"b"]));
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
