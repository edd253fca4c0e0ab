//! Tokens: who gets which, and which are believed.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use std::time::{Duration, Instant};

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use prost_types::value::Kind;
use proto::workload::{JwtBundlesRequest, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest};
use serde_json::Value;
use spiffe::{Bundle, Bundles, Jwk, JwtAuthority, Timestamp, jwt};
use support::{Api, Client, TokensAre, entitled, entitled_with, holding, next, secure};
use tonic::{Code, Status};
use workload_api::Standing;

async fn fetch(client: &mut Client, audiences: &[&str], id: &str) -> Result<JwtsvidResponse, Status> {
    let audience = audiences.iter().map(|&audience| audience.into()).collect();
    let request = JwtsvidRequest { audience, spiffe_id: id.into() };
    Ok(client.fetch_jwtsvid(secure(request)).await?.into_inner())
}

fn tokens(answer: &JwtsvidResponse) -> Vec<(&str, &str)> {
    answer.svids.iter().map(|svid| (svid.svid.as_str(), svid.hint.as_str())).collect()
}

#[tokio::test]
async fn there_is_a_token_for_each_identity_or_for_the_one_that_is_asked_for() {
    let api = Api::start(holding(&["/x"]));
    let mut client = api.client().await;
    api.source.entitled.send_replace(entitled(&[("/a", "h"), ("/b", "h"), ("/c", ""), ("/d", "")]));
    for from in [TokensAre::AtHand, TokensAre::AtTheServer] {
        *api.source.tokens.lock() = from;
        let all = fetch(&mut client, &["y", "x", "y"], "").await.unwrap();
        // Of two with one hint, the first counts; audiences are a set.
        assert_eq!(tokens(&all), [("/a for x and y", "h"), ("/c for x and y", ""), ("/d for x and y", "")]);
        let one = fetch(&mut client, &["x"], "spiffe://acme.example/c").await.unwrap();
        assert_eq!(tokens(&one), [("/c for x", "")]);
    }
}

#[tokio::test]
async fn what_is_not_ones_own_and_what_is_no_question_is_refused() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let long = "x".repeat(2049);
    let many: Vec<_> = (0..33).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let cases: [(&[&str], &str, Code); 8] = [
        (&[], "", Code::InvalidArgument),
        (&[""], "", Code::InvalidArgument),
        (&["a", ""], "", Code::InvalidArgument),
        (&[&long], "", Code::InvalidArgument),
        (&many, "", Code::InvalidArgument),
        (&["a"], "acme.example/a", Code::InvalidArgument),
        (&["a"], "spiffe://acme.example/other", Code::PermissionDenied),
        (&["a"], "spiffe://other.example/a", Code::PermissionDenied),
    ];
    for (audiences, id, code) in cases {
        let refused = fetch(&mut client, audiences, id).await.unwrap_err();
        assert_eq!(refused.code(), code, "{audiences:?} {id} {refused}");
        if code == Code::PermissionDenied {
            assert!(refused.message().starts_with("no identity issued"), "{refused}");
        }
    }
    api.now(Standing::Nothing);
    let refused = fetch(&mut client, &["a"], "").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().starts_with("no identity issued"), "{refused}");
}

#[tokio::test]
async fn without_the_server_a_new_token_is_unavailable_at_once_and_none_is_awaited_past_a_deadline() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    *api.source.tokens.lock() = TokensAre::Nowhere;
    assert_eq!(fetch(&mut client, &["a"], "").await.unwrap_err().code(), Code::Unavailable);
    *api.source.tokens.lock() = TokensAre::Awaited;
    let mut request = secure(JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() });
    request.set_timeout(Duration::from_millis(300));
    let since = Instant::now();
    let refused = client.fetch_jwtsvid(request).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::Cancelled), "{refused}");
    assert!(since.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_caller_that_loses_its_entry_while_it_waits_gets_no_token() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    *api.source.tokens.lock() = TokensAre::AtTheServer;
    assert!(fetch(&mut client, &["a"], "").await.is_ok());
    api.source.entitled.send_replace(entitled(&[("/b", "")]));
    let refused = fetch(&mut client, &["a"], "spiffe://acme.example/a").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// A signing key, and the bundle that it makes of a trust domain.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn bundle(&self, trust_domain: &str) -> Bundle {
        let spki = self.0.public_key().as_der().unwrap();
        let key = Jwk::from_public_key(spki.as_ref()).unwrap();
        let mut bundle = Bundle::empty(trust_domain.parse().unwrap());
        bundle.x509_authorities = vec![b"not looked at".to_vec().into()];
        bundle.jwt_authorities = vec![JwtAuthority { kid: "k".into(), key }];
        bundle
    }

    fn token(&self, id: &str, audience: &str) -> String {
        let now = Timestamp::from_unix_seconds(1_795_000_000);
        let claims = jwt::Claims {
            sub: id.parse().unwrap(),
            aud: vec![audience.into()],
            iat: now,
            exp: now + Duration::from_secs(60),
            jti: Some("one".into()),
        };
        let sign = |message: &[u8]| {
            self.0.sign(&SystemRandom::new(), message).map(|signature| signature.as_ref().to_vec())
        };
        jwt::sign(&claims, "k", sign).unwrap()
    }
}

async fn validate(client: &mut Client, audience: &str, svid: &str) -> Result<Vec<String>, Status> {
    let request = ValidateJwtsvidRequest { audience: audience.into(), svid: svid.into() };
    let valid = client.validate_jwtsvid(secure(request)).await?.into_inner();
    let claims = valid.claims.unwrap().fields;
    assert_eq!(claims["sub"].kind, Some(Kind::StringValue(valid.spiffe_id.clone())));
    Ok([valid.spiffe_id].into_iter().chain(claims.into_keys()).collect())
}

#[tokio::test]
async fn a_token_is_judged_by_the_bundles_that_the_callers_entries_name_and_no_others() {
    let (own, partner) = (Signer::new(), Signer::new());
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let bundles = Bundles::from_iter([own.bundle("acme.example"), partner.bundle("partner.example")]);
    api.source.entitled.send_replace(entitled_with(&[("/a", "")], bundles));

    let mine = own.token("spiffe://acme.example/b", "db");
    let named = ["spiffe://acme.example/b", "aud", "exp", "iat", "jti", "sub"];
    assert_eq!(validate(&mut client, "db", &mine).await.unwrap(), named);
    let theirs = partner.token("spiffe://partner.example/b", "db");
    assert_eq!(validate(&mut client, "db", &theirs).await.unwrap()[0], "spiffe://partner.example/b");

    let lie = partner.token("spiffe://acme.example/b", "db");
    let stranger = own.token("spiffe://third.example/b", "db");
    let long = "x".repeat(16 * 1024 + 1);
    for (audience, token) in [
        ("web", mine.as_str()),
        ("", &mine),
        ("db", ""),
        ("db", &lie),
        ("db", &stranger),
        ("db", &mine[..mine.len() - 1]),
        ("db", "a.b.c"),
        ("db", "\u{0}"),
        ("db", &long),
    ] {
        let refused = validate(&mut client, audience, token).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(!refused.message().contains("::") && refused.message().len() < 200, "{refused}");
    }
}

#[tokio::test]
async fn a_process_without_identity_may_judge_tokens_of_its_own_trust_domain() {
    let api = Api::start(Standing::Nothing);
    let mut client = api.client().await;
    let other = Signer::new().token("spiffe://acme.example/b", "db");
    let refused = validate(&mut client, "db", &other).await.unwrap_err();
    // It has been judged, by a bundle in which there is no such key.
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn bundles_for_tokens_hold_their_keys_alone_and_changes_are_pushed() {
    let (own, partner) = (Signer::new(), Signer::new());
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let only_own = Bundles::from_iter([own.bundle("acme.example")]);
    let both = Bundles::from_iter([own.bundle("acme.example"), partner.bundle("partner.example")]);
    api.source.entitled.send_replace(entitled_with(&[("/a", "")], only_own));
    let mut stream = client.fetch_jwt_bundles(secure(JwtBundlesRequest {})).await.unwrap().into_inner();
    let first = next(&mut stream).await.unwrap().bundles;
    assert_eq!(first.keys().collect::<Vec<_>>(), ["spiffe://acme.example"]);
    let document: Value = serde_json::from_slice(&first["spiffe://acme.example"]).unwrap();
    let keys = document["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["kid"], &keys[0]["use"]), (1, &"k".into(), &"jwt-svid".into()));

    api.source.entitled.send_replace(entitled_with(&[("/a", "")], both));
    let second = next(&mut stream).await.unwrap().bundles;
    assert_eq!(second.keys().collect::<Vec<_>>(), ["spiffe://acme.example", "spiffe://partner.example"]);

    api.source.entitled.send_replace(Standing::Nothing);
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::PermissionDenied);
    let refused = client.fetch_jwt_bundles(secure(JwtBundlesRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "bundles are for those who have an identity");
}
