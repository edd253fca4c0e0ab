//! Which of the server's tokens are used.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use spiffe::{Bundle, Jwk, JwtAuthority, jwt};

use super::*;
use crate::testing::{at, entry};

fn server() -> (EcdsaKeyPair, Bundles) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let key = Jwk::from_public_key(pair.public_key().as_der().unwrap().as_ref()).unwrap();
    let mut bundle = Bundle::empty("acme.example".parse().unwrap());
    bundle.jwt_authorities = vec![JwtAuthority { kid: "k".to_owned(), key }];
    (pair, Bundles::from_iter([bundle]))
}

fn signed(pair: &EcdsaKeyPair, path: &str, audiences: &[&str], until: i64) -> Signed {
    let claims = jwt::Claims {
        sub: format!("spiffe://acme.example{path}").parse().unwrap(),
        aud: audiences.iter().map(|&aud| aud.to_owned()).collect(),
        iat: at(0),
        exp: at(until),
        jti: None,
    };
    let sign = |message: &[u8]| pair.sign(&SystemRandom::new(), message).map(|it| it.as_ref().to_vec());
    let token = jwt::sign(&claims, "k", sign).unwrap();
    Signed { token, issued_at: at(0), expires_at: at(until) }
}

fn order(audiences: &[&str]) -> Order {
    let mut entry = Entry::clone(&entry("e", "/a", &[]));
    entry.expires_at = Some(at(100));
    Order { entry: Arc::new(entry), audiences: Audiences::new(audiences).unwrap() }
}

#[test]
fn a_token_is_used_only_if_it_says_what_was_ordered_under_a_trusted_key() {
    let ((pair, bundles), (other, _)) = (server(), server());
    let judge = |signed: Signed| judge(&order(&["x", "y"]), signed, &bundles, at(1));
    let good = judge(signed(&pair, "/a", &["y", "x"], 100)).unwrap();
    assert_eq!((good.kid.as_str(), good.validity.until), ("k", at(100)));
    assert!(matches!(judge(signed(&pair, "/b", &["x", "y"], 100)), Err(NotHad::OtherId(_))));
    assert!(matches!(judge(signed(&pair, "/a", &["x"], 100)), Err(NotHad::OtherAudiences)));
    assert!(matches!(judge(signed(&pair, "/a", &["x", "y", "z"], 100)), Err(NotHad::OtherAudiences)));
    assert!(matches!(judge(signed(&pair, "/a", &["x", "y"], 101)), Err(NotHad::TooLong(_))));
    assert!(matches!(judge(signed(&other, "/a", &["x", "y"], 100)), Err(NotHad::Unverified(_))));
}
