//! The second spelling of an ECDSA signature: (r, n - s) is as good as (r, s), for n the order of the
//! curve (SEC 1, section 4.1.4). No other algorithm here has two signatures that can be made from each other.

use rustls_pki_types::alg_id;
use x509_parser::asn1_rs::{Any, FromDer};

use super::{Certificate, Key};
use crate::spki::{BIT_STRING, SEQUENCE, integer, tagged};

/// The certificate with the other spelling of its signature by the key `issuer`.
pub(super) fn of(der: &[u8], certificate: &Certificate<'_>, issuer: Key<'_>) -> Option<Vec<u8>> {
    let order = order(issuer)?;
    let (_, _, signature) = certificate.signed();
    let (_, pair) = Any::from_der(signature).ok()?;
    let (after_r, _) = Any::from_der(pair.data).ok()?;
    let (_, s) = Any::from_der(after_r).ok()?;
    let r = &pair.data[..pair.data.len() - after_r.len()];
    let other = minus(order, s.data)?;
    let signature = tagged(SEQUENCE, &[r, &integer(&other)].concat());

    let (_, whole) = Any::from_der(der).ok()?;
    let (after_signed, _) = Any::from_der(whole.data).ok()?;
    let (after_algorithm, _) = Any::from_der(after_signed).ok()?;
    let kept = &whole.data[..whole.data.len() - after_algorithm.len()];
    let no_unused_bits = [&[0], signature.as_slice()].concat();
    Some(tagged(SEQUENCE, &[kept, &tagged(BIT_STRING, &no_unused_bits)].concat()))
}

/// `order - s`, without leading zeros.
fn minus(order: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let s: Vec<u8> = s.iter().copied().skip_while(|byte| *byte == 0).collect();
    let missing = order.len().checked_sub(s.len())?;
    let padded = std::iter::repeat_n(0, missing).chain(s);
    let mut borrow = false;
    let mut digits: Vec<u8> = Vec::with_capacity(order.len());
    for (from, take) in order.iter().rev().zip(padded.collect::<Vec<_>>().iter().rev()) {
        let (digit, under) = from.overflowing_sub(*take);
        let (digit, under_again) = digit.overflowing_sub(u8::from(borrow));
        borrow = under || under_again;
        digits.push(digit);
    }
    let difference: Vec<u8> = digits.into_iter().rev().skip_while(|byte| *byte == 0).collect();
    (!borrow && !difference.is_empty()).then_some(difference)
}

/// The order of the curve's base point (SEC 2, sections 2.4.2, 2.5.1 and 2.6.1).
fn order(key: Key<'_>) -> Option<&'static [u8]> {
    let known: [(&[u8], &'static [u8]); 3] =
        [(&alg_id::ECDSA_P256, &P256), (&alg_id::ECDSA_P384, &P384), (&alg_id::ECDSA_P521, &P521)];
    known.into_iter().find(|(algorithm, _)| *algorithm == key.algorithm).map(|(_, order)| order)
}

const P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const P384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a,
    0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];
const P521: [u8; 66] = [
    0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa,
    0x51, 0x86, 0x87, 0x83, 0xbf, 0x2f, 0x96, 0x6b, 0x7f, 0xcc, 0x01, 0x48, 0xf7, 0x09, 0xa5, 0xd0, 0x3b,
    0xb5, 0xc9, 0xb8, 0x89, 0x9c, 0x47, 0xae, 0xbb, 0x6f, 0xb7, 0x1e, 0x91, 0x38, 0x64, 0x09,
];
