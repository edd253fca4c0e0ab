//! A join token makes one node, whoever races for it.

use std::env;

use integration_tests::{Writ, node};
use rcgen::KeyPair;
use tonic::Code;

const RACERS: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_four_agents_that_race_for_one_token_exactly_one_wins() {
    let tokens = if env::var("CI").as_deref() == Ok("true") { 100 } else { 10 };
    let writ = Writ::up();
    for round in 0..tokens {
        let token = writ.ask(&["token", "create", "--node", &format!("raced-{round}")]);
        let token = token["token"].as_str().expect("a token").to_owned();
        let racers: Vec<_> = (0..RACERS)
            .map(|_| {
                let (address, token) = (writ.ready.server_address.clone(), token.clone());
                tokio::spawn(async move { node::join(&address, &token).await })
            })
            .collect();
        let mut won = 0;
        for racer in racers {
            match racer.await.expect("no racer panics") {
                Ok(_) => won += 1,
                Err(status) => {
                    assert_eq!(status.code(), Code::PermissionDenied, "round {round}: {status}");
                    assert!(!status.message().contains("raced"), "strangers learn nothing: {status}");
                }
            }
        }
        assert_eq!(won, 1, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_may_repeat_itself_until_it_has_called_and_another_key_may_not() {
    let writ = Writ::up();
    let token = writ.ask(&["token", "create", "--node", "patient"]);
    let token = token["token"].as_str().expect("a token");
    let key = KeyPair::generate().expect("keys can be made");
    let address = &writ.ready.server_address;
    node::join_with(address, token, &key).await.expect("the first use");
    node::join_with(address, token, &key).await.expect("the reply may have been lost");
    let stranger = node::join(address, token).await.expect_err("another key");
    assert_eq!(stranger.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_an_unknown_and_an_overlong_token_are_refused_alike() {
    let writ = Writ::up();
    let token = writ.ask(&["token", "create", "--node", "real"]);
    let token = token["token"].as_str().expect("a token");
    let mut told = Vec::new();
    for wrong in
        [format!("{token}x"), "real.guess".into(), "never.made".into(), String::new(), "x".repeat(40_000)]
    {
        let status = node::join(&writ.ready.server_address, &wrong).await.expect_err("it is wrong");
        assert!(matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument), "{status}");
        if status.code() == Code::PermissionDenied {
            told.push(status.message().to_owned());
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "a stranger cannot tell a known name from an unknown one: {told:?}");
}

#[test]
fn the_secret_of_a_token_is_in_no_file() {
    let writ = Writ::up();
    let token = writ.ask(&["token", "create", "--node", "quiet"]);
    let secret = token["token"]
        .as_str()
        .and_then(|token| token.rsplit_once('.'))
        .expect("name and secret")
        .1
        .to_owned();
    let log = writ.log();
    let (_folder, data) = writ.down();
    for file in ["log.db", "log.db-wal"] {
        let bytes = std::fs::read(data.join("state/server").join(file)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "it is in {file}");
    }
    assert!(!log.contains(&secret), "it is in the log");
}
