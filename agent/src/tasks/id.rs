//! A task's name: a ULID, chosen where the task begins.

use registry::objects::TaskId;
use spiffe::Timestamp;

/// A new ULID: 48 bits of time, 80 of randomness, in Crockford's base 32.
pub(super) fn new(now: Timestamp) -> TaskId {
    of(now, rand::random())
}

fn of(now: Timestamp, random: u128) -> TaskId {
    let time = u128::from(now.unix_millis().unsigned_abs()) & ((1 << 48) - 1);
    let number = time << 80 | random >> 48;
    let digit = |n: u32| char::from(DIGITS[(number >> (5 * n) & 31) as usize]);
    let text: String = (0..26).rev().map(digit).collect();
    text.parse().expect("26 digits of the alphabet are a ULID")
}

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_begins_with_its_time() {
        // The example of the ULID specification.
        let at = Timestamp::from_unix_millis(1_469_918_176_385);
        assert!(of(at, 0).as_str().starts_with("01ARYZ6S41"));
        assert_eq!(of(at, u128::MAX).as_str(), "01ARYZ6S41ZZZZZZZZZZZZZZZZ");
    }
}
