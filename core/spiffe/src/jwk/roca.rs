//! The mark of a broken key generator, whose moduli can be factored (ROCA, CVE-2017-15361).
//!
//! Its primes are powers of 65537 modulo the product of the first primes, so for each of these the
//! modulus is a power of 65537 too. By chance that happens to
//! one key in two hundred million.

/// Whether the RSA modulus `n` (big-endian) carries the mark.
pub(super) fn is_marked(n: &[u8]) -> bool {
    PRIMES.iter().all(|prime| is_power(remainder(n, *prime), *prime))
}

fn remainder(n: &[u8], prime: u32) -> u32 {
    n.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

/// Whether `value` is a power of 65537 modulo `prime`; the powers return to 1 after less than `prime` steps.
fn is_power(value: u32, prime: u32) -> bool {
    std::iter::successors(Some(1), |power| Some(power * (65_537 % prime) % prime))
        .take(prime as usize)
        .any(|power| power == value)
}

/// The primes up to 167, which divide the product for keys of every size.
const PRIMES: [u32; 39] = [
    2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{Algorithm, testing::Signer};

    #[test]
    fn a_modulus_of_the_broken_generator_is_recognised_and_another_is_not() {
        // A power of 65537 modulo the product of the primes, as the generator makes them.
        let mut power = vec![0_u8; 256];
        power[255] = 1;
        for _ in 0..100 {
            let mut carry = 0_u32;
            for byte in power.iter_mut().rev() {
                let product = u32::from(*byte) * 65_537 + carry;
                *byte = product.to_le_bytes()[0];
                carry = product >> 8;
            }
        }
        assert!(is_marked(&power));
        power[255] ^= 2;
        assert!(!is_marked(&power));
        let crate::Jwk::Rsa { n, .. } = Signer::new(Algorithm::RS256).key() else { panic!("an RSA key") };
        assert!(!is_marked(&n));
    }
}
