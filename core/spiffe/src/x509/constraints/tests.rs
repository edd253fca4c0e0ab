//! RFC 5280 section 4.2.1.10, kind by kind. Whole chains are in the tests of `svid` and `path`.

use proptest::prelude::*;

use super::*;
use crate::test_pki::der;

const DNS: u8 = 0x82;
const EMAIL: u8 = 0x81;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// Constraints with one permitted name space.
fn permitting(tag: u8, base: &[u8]) -> Option<Constraints> {
    Constraints::parse(&der(0x30, &[&der(0xa0, &[&der(0x30, &[&der(tag, &[base])])])]))
}

/// Constraints with one excluded name space.
fn excluding(tag: u8, base: &[u8]) -> Option<Constraints> {
    Constraints::parse(&der(0x30, &[&der(0xa1, &[&der(0x30, &[&der(tag, &[base])])])]))
}

fn allows(constraints: Option<Constraints>, name: Name<'_>) -> bool {
    constraints.unwrap().allow_name(name, &mut 100)
}

#[test]
fn a_domain_holds_itself_and_what_is_below_it() {
    for (base, name, inside) in [
        ("acme.example", "acme.example", true),
        ("acme.example", "WEB.Acme.example", true),
        ("ACME.example", "a.b.acme.example.", true),
        ("acme.example", "evilacme.example", false),
        ("acme.example", "acme.example.evil", false),
        ("acme.example", "example", false),
        (".acme.example", "web.acme.example", true),
        (".acme.example", "acme.example", false),
        ("", "anything.at.all", true),
        ("acme.example", "*.acme.example", true),
        ("acme.example", "*.web.acme.example", true),
        ("web.acme.example", "*.acme.example", false),
        (".acme.example", "*.acme.example", true),
        ("acme.example", "*", false),
        ("acme.example", "w*b.acme.example", false),
        ("acme.example", "*.*.acme.example", false),
    ] {
        assert_eq!(allows(permitting(DNS, base.as_bytes()), Name::Dns(name)), inside, "{name} in {base}");
    }
}

#[test]
fn a_name_that_could_stand_for_an_excluded_one_is_excluded() {
    for (base, name, allowed) in [
        ("acme.example", "other.example", true),
        ("acme.example", "acme.example", false),
        ("acme.example", "web.acme.example.", false),
        (".acme.example", "acme.example", false),
        ("web.acme.example", "*.acme.example", false),
        ("a.web.acme.example", "*.acme.example", true),
        ("acme.example", "*.example", false),
        ("acme.example", "*.web.acme.example", false),
        ("acme.example", "w*b.other.example", false),
    ] {
        assert_eq!(
            allows(excluding(DNS, base.as_bytes()), Name::Dns(name)),
            allowed,
            "{name} without {base}"
        );
    }
}

#[test]
fn a_uri_is_held_by_its_host() {
    for (base, uri, inside) in [
        ("acme.example", "spiffe://acme.example/web", true),
        ("acme.example", "https://user:secret@ACME.example:8443/?q", true),
        ("acme.example", "spiffe://web.acme.example/x", false),
        (".acme.example", "spiffe://web.acme.example/x", true),
        (".acme.example", "spiffe://acme.example/x", false),
        ("acme.example", "https://evil.example@acme.example.evil/", false),
        ("acme.example", "https://evil.example/@acme.example", false),
        ("acme.example", "https://evil.example?@acme.example", false),
        ("acme.example", "urn:acme.example", false),
        ("acme.example", "spiffe:///acme.example", false),
        ("::1", "https://[::1]/", false),
    ] {
        assert_eq!(allows(permitting(URI, base.as_bytes()), Name::Uri(uri)), inside, "{uri} in {base}");
    }
    for hostless in ["urn:acme", "https://[::1]/", "spiffe://"] {
        assert!(
            !allows(excluding(URI, b"acme.example"), Name::Uri(hostless)),
            "{hostless} cannot be compared"
        );
    }
    assert!(allows(excluding(URI, b"acme.example"), Name::Uri("spiffe://other.example/x")));
}

#[test]
fn a_mail_constraint_is_a_mailbox_a_host_or_a_domain() {
    for (base, address, inside) in [
        ("a@acme.example", "a@ACME.example", true),
        ("a@acme.example", "A@acme.example", false),
        ("acme.example", "a@acme.example", true),
        ("acme.example", "a@web.acme.example", false),
        (".acme.example", "a@web.acme.example", true),
        (".acme.example", "a@acme.example", false),
        ("acme.example", "acme.example", false),
        ("acme.example", "a@b@acme.example", false),
    ] {
        assert_eq!(
            allows(permitting(EMAIL, base.as_bytes()), Name::Email(address)),
            inside,
            "{address} in {base}"
        );
    }
    assert!(!allows(excluding(EMAIL, b"acme.example"), Name::Email("nobody")), "it cannot be compared");
    for malformed in ["a@b@c", "@acme.example", "a@", ""] {
        assert!(permitting(EMAIL, malformed.as_bytes()).is_none(), "{malformed}");
    }
}

#[test]
fn an_address_is_held_by_its_prefix() {
    let ten = || permitting(IP, &[10, 0, 0, 0, 255, 0, 0, 0]);
    assert!(allows(ten(), Name::Ip(&[10, 1, 2, 3])));
    assert!(!allows(ten(), Name::Ip(&[11, 1, 2, 3])));
    assert!(!allows(ten(), Name::Ip(&[0; 16])), "the other family");
    assert!(allows(permitting(IP, &[0; 32]), Name::Ip(&[7; 16])));
    assert!(
        !allows(excluding(IP, &[10, 0, 0, 0, 255, 0, 0, 0]), Name::Ip(&[10, 0, 0])),
        "it cannot be compared"
    );
    for malformed in [&[][..], &[10, 0, 0, 0], &[10, 0, 0, 0, 255, 0, 255, 0], &[10, 0, 0, 0, 253, 0, 0, 0]] {
        assert!(permitting(IP, malformed).is_none(), "{malformed:?}");
    }
}

#[test]
fn constraints_on_one_kind_leave_the_others_alone() {
    assert!(allows(permitting(DNS, b"acme.example"), Name::Uri("spiffe://other.example/x")));
    assert!(allows(excluding(URI, b"acme.example"), Name::Dns("acme.example")));
}

#[test]
fn a_kind_that_is_not_compared_here_is_refused_where_it_is_constrained() {
    const REGISTERED_ID: u8 = 0x88;
    assert!(!allows(permitting(REGISTERED_ID, &[42]), Name::Other(8)));
    assert!(!allows(excluding(REGISTERED_ID, &[42]), Name::Other(8)));
    assert!(allows(permitting(REGISTERED_ID, &[42]), Name::Other(0)));
}

#[test]
fn malformed_constraints_are_no_constraints_to_rely_on() {
    let subtree = der(0x30, &[&der(DNS, &[b"a"])]);
    let with_minimum = der(0x30, &[&der(DNS, &[b"a"]), &der(0x80, &[&[1]])]);
    for (what, value) in [
        ("nothing", der(0x30, &[])),
        ("no subtrees", der(0x30, &[&der(0xa0, &[])])),
        ("both empty", der(0x30, &[&der(0xa0, &[]), &der(0xa1, &[])])),
        ("the wrong order", der(0x30, &[&der(0xa1, &[&subtree]), &der(0xa0, &[&subtree])])),
        ("the same twice", der(0x30, &[&der(0xa0, &[&subtree]), &der(0xa0, &[&subtree])])),
        ("a third list", der(0x30, &[&der(0xa0, &[&subtree]), &der(0xa2, &[&subtree])])),
        ("a minimum", der(0x30, &[&der(0xa0, &[&with_minimum])])),
        ("bytes behind", [der(0x30, &[&der(0xa0, &[&subtree])]), vec![0]].concat()),
        ("no sequence", der(0x31, &[&der(0xa0, &[&subtree])])),
        ("no bytes", Vec::new()),
    ] {
        assert!(Constraints::parse(&value).is_none(), "{what}");
    }
    assert!(Constraints::parse(&der(0x30, &[&der(0xa0, &[&subtree]), &der(0xa1, &[&subtree])])).is_some());
}

#[test]
fn comparing_ends_with_its_budget() {
    let constraints = permitting(DNS, b"acme.example").unwrap();
    let mut budget = 3;
    assert!(constraints.allow_name(Name::Dns("acme.example"), &mut budget));
    assert!(!constraints.allow_name(Name::Dns("acme.example"), &mut budget));
}

proptest! {
    /// Whatever is inside a name space is refused when that name space is excluded.
    #[test]
    fn nothing_is_inside_an_excluded_name_space(base in "\\.?[ab]{1,2}(\\.[ab]){0,2}", name in "(\\*\\.)?[abAB.]{1,8}") {
        let inside = allows(permitting(DNS, base.as_bytes()), Name::Dns(&name));
        let allowed = allows(excluding(DNS, base.as_bytes()), Name::Dns(&name));
        prop_assert!(!(inside && allowed));
    }

    #[test]
    fn no_bytes_make_parsing_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), tag in 0x80_u8..0x90) {
        let _ = Constraints::parse(&bytes);
        let _ = permitting(tag, &bytes).map(|constraints| constraints.allow_name(Name::Dns("a"), &mut 9));
    }
}
