use rcgen::{CertificateParams, DnType, IsCa, KeyPair};

use super::*;
use crate::test_pki::{Authority, NOW, bundle};

/// A machine's certificate as infrastructures outside issue it.
fn machine(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::CommonName, "web-1");
    params.subject_alt_names = vec![];
    params.extended_key_usages = vec![];
}

#[test]
fn what_an_authority_outside_vouches_for_says_who_did() {
    let root = Authority::root("root", |_| {});
    let below = root.intermediate("below", |_| {});
    let leaf = below.leaf("spiffe://acme.example/x", machine);
    let authorities = Authorities::external(vec![root.der.clone()]).unwrap();
    let chain = [leaf.der.clone(), below.der.clone()];
    let vouched = authorities.vouch(&chain, NOW).unwrap();
    assert_eq!(vouched.issuers, [&below.der, &root.der]);
    assert!(authorities.vouch(&chain[..1], NOW).unwrap_err().to_string().contains("no path"));
    let other = Authorities::external(vec![Authority::root("root", |_| {}).der]).unwrap();
    assert!(other.vouch(&chain, NOW).is_err(), "only the name is the same");
}

#[test]
fn what_is_no_authority_vouches_for_nobody() {
    let root = Authority::root("root", |_| {});
    let leaf = root.leaf("spiffe://acme.example/x", machine);
    assert!(Authorities::external(vec![leaf.der.clone()]).is_err());
    assert!(Authorities::external(vec![]).is_err());
    let no_authority = Authority::root("root", |params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(Authorities::external(vec![root.der, no_authority.der]).is_err());
    let nobody = Authorities::of_trust_domain(&bundle("acme.example", &[]));
    assert!(nobody.vouch(&[leaf.der], NOW).is_err());
}

#[test]
fn the_twin_of_a_certificate_verifies_too_and_its_twin_is_the_first() {
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512]
    {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let root = Authority::root_with_key("root", key, |_| {});
        let authorities = Authorities::external(vec![root.der.clone()]).unwrap();
        for _ in 0..20 {
            let chain = [root.leaf("spiffe://acme.example/x", machine).der];
            let twin = authorities.vouch(&chain, NOW).unwrap().twin.expect("it has one");
            assert_ne!(twin, chain[0].as_ref());
            let chain_of_twin = [CertificateDer::from(twin)];
            let again = authorities.vouch(&chain_of_twin, NOW).expect("it is as good").twin;
            assert_eq!(again.as_deref(), Some(chain[0].as_ref()), "{algorithm:?}");
        }
    }
}

#[test]
fn a_certificate_signed_with_rsa_or_ed25519_has_no_twin() {
    let keys = [
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
    ];
    for key in keys {
        let root = Authority::root_with_key("root", key, |_| {});
        let authorities = Authorities::external(vec![root.der.clone()]).unwrap();
        let chain = [root.leaf("spiffe://acme.example/x", machine).der];
        assert_eq!(authorities.vouch(&chain, NOW).unwrap().twin, None);
    }
}

#[test]
fn every_changed_bit_of_a_certificate_is_refused() {
    let root = Authority::root("root", |_| {});
    let authorities = Authorities::external(vec![root.der.clone()]).unwrap();
    let leaf = root.leaf("spiffe://acme.example/x", machine).der;
    for bit in 0..leaf.len() * 8 {
        let mut changed = leaf.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(authorities.vouch(&[changed.into()], NOW).is_err(), "bit {bit} counts for nothing");
    }
}
