//! The JWT-SVID standard, clause by clause, and what RFC 7519 says of the claims.

use serde_json::json;

use super::*;
use crate::{
    Bundle, JwtAuthority,
    jwt::{
        Algorithm, Claims, sign,
        testing::{Signer, claims},
    },
    test_pki::NOW,
};

const HEADER: &str = r#"{"alg":"ES256","kid":"k"}"#;

fn validated(signer: &Signer, token: &str) -> Result<SpiffeId, JwtError> {
    validate(token, &["db"], &signer.bundles(), NOW).map(|valid| valid.spiffe_id)
}

/// What comes of a token whose claim `name` has this value, or is absent.
fn with(signer: &Signer, name: &str, value: Option<Value>) -> Result<SpiffeId, JwtError> {
    let mut claims = claims();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    validated(signer, &signer.svid(&claims))
}

#[test]
fn a_token_of_each_algorithm_names_its_workload() {
    for algorithm in Algorithm::ALL {
        let signer = Signer::new(algorithm);
        let valid = validate(&signer.svid(&claims()), &["web", "db"], &signer.bundles(), NOW).unwrap();
        assert_eq!(valid.spiffe_id.as_str(), "spiffe://acme.example/web", "{algorithm:?}");
        assert_eq!(valid.expires_at, NOW + Duration::from_secs(300));
        assert_eq!(Value::Object(valid.claims), claims());
    }
}

#[test]
fn a_signed_token_is_valid_and_says_what_was_signed() {
    let signer = Signer::new(Algorithm::ES256);
    let claims = Claims {
        sub: "spiffe://acme.example/web".parse().unwrap(),
        aud: vec!["db".to_owned(), "cache".to_owned()],
        iat: NOW,
        exp: NOW + Duration::from_secs(60),
        jti: Some("01J".to_owned()),
    };
    let token = sign(&claims, "k", |message| Ok::<_, JwtError>(signer.sign(message))).unwrap();
    let valid = validate(&token, &["cache"], &signer.bundles(), NOW).unwrap();
    let second = NOW.unix_seconds();
    let said = json!({ "aud": ["db", "cache"], "exp": second + 60, "iat": second, "jti": "01J",
        "sub": "spiffe://acme.example/web" });
    assert_eq!(Value::Object(valid.claims), said);
    let refused = sign(&claims, "k", |_| Err(JwtError::NoKey));
    assert_eq!(refused, Err(JwtError::NoKey), "a signer that cannot sign gives no token");
}

#[test]
fn a_token_without_end_is_refused() {
    let signer = Signer::new(Algorithm::ES256);
    assert_eq!(with(&signer, "exp", None), Err(JwtError::Claim("exp", "is missing")));
    for value in [json!(null), json!("1900000300"), json!([]), json!(true), json!(1e300), json!(-1e300)] {
        let refused = with(&signer, "exp", Some(value.clone()));
        assert!(matches!(refused, Err(JwtError::Claim("exp", _))), "{value}: {refused:?}");
    }
    assert_eq!(with(&signer, "exp", Some(json!(0))), Err(JwtError::Expired(Timestamp::from_unix_seconds(0))));
}

#[test]
fn clocks_may_differ_by_a_minute_and_no_more() {
    let signer = Signer::new(Algorithm::ES256);
    let at = |seconds: f64| Some(json!(NOW.unix_seconds() as f64 + seconds));
    assert!(with(&signer, "exp", at(-60.0)).is_ok());
    assert!(matches!(with(&signer, "exp", at(-60.5)), Err(JwtError::Expired(_))));
    for name in ["nbf", "iat"] {
        assert!(with(&signer, name, at(60.0)).is_ok(), "{name}");
        assert!(matches!(with(&signer, name, at(60.5)), Err(JwtError::TooEarly(_))), "{name}");
        assert!(matches!(with(&signer, name, Some(json!("0"))), Err(JwtError::Claim(..))), "{name}");
        assert!(with(&signer, name, None).is_ok(), "{name}");
    }
}

#[test]
fn a_token_is_for_those_it_names() {
    let signer = Signer::new(Algorithm::ES256);
    for aud in [json!("db"), json!(["db"]), json!(["a", "db", "db"])] {
        assert!(with(&signer, "aud", Some(aud.clone())).is_ok(), "{aud}");
    }
    for aud in [json!([]), json!(""), json!("DB"), json!(["db "]), json!("d"), json!(["d", "b"])] {
        assert_eq!(with(&signer, "aud", Some(aud.clone())), Err(JwtError::Audience), "{aud}");
    }
    for aud in
        [None, Some(json!(null)), Some(json!({ "db": 1 })), Some(json!(["db", 1])), Some(json!([["db"]]))]
    {
        let refused = with(&signer, "aud", aud.clone());
        assert!(matches!(refused, Err(JwtError::Claim("aud", _))), "{aud:?}: {refused:?}");
    }
    let token = signer.svid(&claims());
    assert_eq!(validate(&token, &[] as &[&str], &signer.bundles(), NOW), Err(JwtError::Audience));
}

#[test]
fn the_subject_is_a_workloads_spiffe_id() {
    let signer = Signer::new(Algorithm::ES256);
    for sub in [
        None,
        Some(json!(null)),
        Some(json!(7)),
        Some(json!(["spiffe://acme.example/web"])),
        Some(json!("spiffe://acme.example")),
    ] {
        let refused = with(&signer, "sub", sub.clone());
        assert!(matches!(refused, Err(JwtError::Claim("sub", _))), "{sub:?}: {refused:?}");
    }
    for sub in [
        "",
        "web",
        "https://acme.example/web",
        "spiffe://acme.example/a/../web",
        "spiffe://acme.example/%77eb",
        "spiffe://acme.example//web",
        "spiffe://acme.example/web/",
        "spiffe://acme.example/web?a",
    ] {
        assert!(matches!(with(&signer, "sub", Some(json!(sub))), Err(JwtError::Subject(_))), "{sub}");
    }
}

#[test]
fn only_the_subjects_own_trust_domain_vouches_for_it() {
    let (own, foreign) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let bundles = [own.bundle("acme.example"), foreign.bundle("partner.example")].into_iter().collect();
    assert!(validate(&own.svid(&claims()), &["db"], &bundles, NOW).is_ok());
    assert_eq!(validate(&foreign.svid(&claims()), &["db"], &bundles, NOW), Err(JwtError::Signature));
    let unknown = with(&own, "sub", Some(json!("spiffe://other.example/web")));
    assert_eq!(unknown, Err(JwtError::UnknownTrustDomain("other.example".parse().unwrap())));
    let revoked: Bundles = [Bundle::empty("acme.example".parse().unwrap())].into_iter().collect();
    assert_eq!(validate(&own.svid(&claims()), &["db"], &revoked, NOW), Err(JwtError::NoKey));
}

#[test]
fn a_token_names_its_key_or_any_key_of_the_bundle_may_have_signed_it() {
    let (one, two) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let mut bundle = one.bundle("acme.example");
    bundle.jwt_authorities.push(JwtAuthority { kid: "two".to_owned(), key: two.key() });
    let bundles: Bundles = [bundle.clone()].into_iter().collect();
    let judge = |token: &str, bundles| validate(token, &["db"], bundles, NOW).map(drop);
    assert_eq!(judge(&two.svid(&claims()), &bundles), Err(JwtError::Signature), "k is the other key's name");
    let named =
        |kid: Value| two.token(&json!({ "alg": "ES256", "kid": kid }).to_string(), &claims().to_string());
    assert_eq!(judge(&named(json!("two")), &bundles), Ok(()));
    assert_eq!(judge(&named(json!("three")), &bundles), Err(JwtError::NoKey));
    assert_eq!(judge(&named(json!("")), &bundles), Err(JwtError::NoKey));
    assert!(matches!(judge(&named(json!(2)), &bundles), Err(JwtError::Header(_))));
    let unnamed = two.token(r#"{"alg":"ES256"}"#, &claims().to_string());
    assert_eq!(judge(&unnamed, &bundles), Ok(()), "section 2.2: kid is optional");
    let many = (0..15).map(|n| JwtAuthority { kid: n.to_string(), key: one.key() });
    bundle.jwt_authorities.extend(many);
    assert_eq!(judge(&unnamed, &[bundle].into_iter().collect()), Err(JwtError::TooManyKeys));
}

#[test]
fn the_header_has_nothing_but_algorithm_key_and_type() {
    let signer = Signer::new(Algorithm::ES256);
    let judge = |header: &str| validated(&signer, &signer.token(header, &claims().to_string())).map(drop);
    assert_eq!(judge(HEADER), Ok(()));
    for typ in ["JWT", "JOSE"] {
        assert_eq!(judge(&format!(r#"{{"alg":"ES256","kid":"k","typ":"{typ}"}}"#)), Ok(()));
    }
    for more in [
        r#""typ":"jwt""#,
        r#""typ":"at+jwt""#,
        r#""typ":null"#,
        r#""typ":["JWT"]"#,
        r#""cty":"JWT""#,
        r#""x":1"#,
        r#""jwk":{}"#,
        r#""jku":"https://a""#,
        r#""crit":[]"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
    ] {
        let refused = judge(&format!(r#"{{"alg":"ES256","kid":"k",{more}}}"#));
        assert!(matches!(refused, Err(JwtError::Header(_))), "{more}: {refused:?}");
    }
}

#[test]
fn a_claim_named_twice_is_refused() {
    let signer = Signer::new(Algorithm::ES256);
    let claims = claims().to_string();
    let twice = claims.replacen('{', r#"{"sub":"spiffe://acme.example/admin","#, 1);
    assert_eq!(validated(&signer, &signer.token(HEADER, &twice)), Err(JwtError::Json("payload")));
    let nested = claims.replacen('{', r#"{"act":{"sub":"a","sub":"b"},"#, 1);
    assert_eq!(validated(&signer, &signer.token(HEADER, &nested)), Err(JwtError::Json("payload")));
    for payload in ["", "[]", "null", "\"sub\"", "{", &format!("{claims} {{}}"), &format!("\u{feff}{claims}")]
    {
        assert_eq!(
            validated(&signer, &signer.token(HEADER, payload)),
            Err(JwtError::Json("payload")),
            "{payload}"
        );
    }
}

#[test]
fn registered_claims_have_their_types_and_others_are_free() {
    let signer = Signer::new(Algorithm::ES256);
    for name in ["iss", "jti"] {
        assert!(with(&signer, name, Some(json!("a"))).is_ok());
        assert_eq!(with(&signer, name, Some(json!(7))), Err(JwtError::Claim(name, "is not a text")));
    }
    assert!(with(&signer, "groups", Some(json!({ "a": [1, null] }))).is_ok());
}
