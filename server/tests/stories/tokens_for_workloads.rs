//! The JWT-SVIDs that the server signs, and for whom.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use server_api::{
    admin::Mode,
    node::{Token, Unsigned},
};
use spiffe::{
    Bundles,
    jwt::{Compact, svid::validate},
};
use tonic::Code;

use crate::support::{Agent, Host, now};

/// What the codes of a batch are, `None` where a token came that verifies for `api`.
async fn codes(agent: &Agent, orders: &[(&str, &[&str])]) -> Vec<Option<Code>> {
    let signed = agent.sign_jwt(orders).await.unwrap();
    let code = |result: &Result<Token, Unsigned>| match result {
        Ok(token) => {
            let valid = validate(&token.token, &["api"], &agent.bundles, now()).unwrap();
            assert_eq!(valid.expires_at, token.expires_at);
            None
        }
        Err(refused) => Some(refused.code),
    };
    signed.iter().map(code).collect()
}

fn body(id: &str, parent: &str) -> Value {
    json!({ "id": id, "spiffe_id": format!("/{id}"), "parent": parent, "selectors": ["unix:uid:1"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_tokens_for_its_own_entries_and_for_no_other() {
    let host = Host::start().await;
    let mine = host.agent("mine").await;
    host.agent("other").await;
    host.entry(body("mine-1", "mine")).await;
    host.entry(body("other-1", "other")).await;
    let mut stored = body("stored", "mine");
    stored["store_svid"] = true.into();
    stored["selectors"] = json!(["disk:secretname:x"]);
    host.entry(stored).await;
    let orders: [(&str, &[&str]); 6] = [
        ("other-1", &["api"]),
        ("mine-1", &["api"]),
        ("no-such-entry", &["api"]),
        ("mine-1", &["db", "api"]),
        ("stored", &["api"]),
        ("mine-1", &[]),
    ];
    let denied = Some(Code::PermissionDenied);
    let expected = [denied, None, denied, None, denied, Some(Code::InvalidArgument)];
    assert_eq!(codes(&mine, &orders).await, expected, "results in the order of the orders");
    host.apply(Mode::Delete, json!("mine-1")).await;
    assert_eq!(codes(&mine, &[("mine-1", &["api"])]).await, [denied]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_its_entry_says_and_never_longer_than_that() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.entry(body("plain", "n")).await;
    let mut short = body("short", "n");
    (short["jwt_svid_ttl"], short["jwt_svid_include_jti"]) = (60.into(), true.into());
    host.entry(short).await;
    let mut ending = body("ending", "n");
    let end = now() + Duration::from_secs(20);
    ending["expires_at"] = json!(end);
    host.entry(ending).await;
    let orders: [(&str, &[&str]); 3] = [("plain", &["api"]), ("short", &["api"]), ("ending", &["api"])];
    let mut signed = Vec::new();
    for token in agent.sign_jwt(&orders).await.unwrap() {
        let token = token.unwrap();
        let claims = validate(&token.token, &["api"], &agent.bundles, now()).unwrap().claims;
        signed.push((token.expires_at.since(token.issued_at).as_secs(), claims, token.expires_at));
    }
    assert_eq!((signed[0].0, signed[1].0), (300, 60));
    assert!(!signed[0].1.contains_key("jti") && signed[1].1.contains_key("jti"));
    assert!(signed[2].2 <= end);
    let names: Vec<_> = signed[0].1.keys().map(String::as_str).collect();
    assert_eq!(names, ["aud", "exp", "iat", "sub"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audiences_of_a_token_are_few_and_short() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.entry(body("e", "n")).await;
    let many: Vec<String> = (0..33).map(|n| format!("a{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(2049);
    let orders: [(&str, &[&str]); 3] = [("e", &many), ("e", &[&long]), ("e", &["a\u{7}"])];
    assert_eq!(codes(&agent, &orders).await, [Some(Code::InvalidArgument); 3]);
    host.stop().await;
}

/// With a ca_ttl of 12 s an authority is prepared after 6 s and takes over after 10 s; tokens live 2 s.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_verify_across_a_turn() {
    let host = Host::start_with(|config| config.ca_ttl = Duration::from_secs(12)).await;
    host.entry(body("e", "any-node")).await;
    let (mut agent, mut kids) = (host.agent("n").await, BTreeSet::new());
    let began = Instant::now();
    while kids.len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "only {kids:?} signed");
        let bundles: Bundles = [host.bundle(&host.serving.pin).await].into_iter().collect();
        agent.bundles = Arc::new(bundles);
        if let Ok(mut signed) = agent.sign_jwt(&[("e", &["api"])]).await {
            let token = signed.remove(0).unwrap().token;
            let bundles = [host.bundle(&host.serving.pin).await].into_iter().collect();
            validate(&token, &["api"], &bundles, now()).unwrap();
            kids.extend(Compact::parse(&token).unwrap().kid);
        }
        // Its certificate lives 2 s too; on a busy machine that can be over before a call is made.
        agent = match agent.renewed().await {
            Ok(renewed) => renewed,
            Err(_) => host.agent("n").await,
        };
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    host.stop().await;
}
