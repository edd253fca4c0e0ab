//! Tokens, from the entry to whoever believes them.

use std::time::{Duration, Instant};

use integration_tests::daemon::{Agent, Server};
use integration_tests::workload::{Token, Workload};
use integration_tests::{Folder, Writ};
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_handed_out_kept_believed_and_gone_with_its_entry() {
    let writ = Writ::up();
    let entry = writ.entry("/caller", &[&own_uid()]);
    let workload = Workload::connect(&writ.workload_socket()).await;

    let token = workload.token("db").await.expect("it is registered");
    assert_eq!(token.id, writ.id("/caller"));
    assert_eq!(workload.validate("db", &token.text).await.expect("it is good"), token.id);
    let other = workload.validate("web", &token.text).await.expect_err("it is for db");
    assert_eq!(other.code(), Code::InvalidArgument, "{other}");
    assert_eq!(workload.token("db").await.expect("it is kept").text, token.text);
    assert_ne!(workload.token("web").await.expect("another audience").text, token.text);

    let bundles = workload.jwt_bundles().await.expect("it has an identity").message().await;
    let bundles = bundles.expect("it answers").expect("there is a first answer").bundles;
    let document = String::from_utf8_lossy(&bundles[&writ.id("")]).into_owned();
    assert!(document.contains(&token.kid) && !document.contains("x5c"), "{document}");

    writ.delete(&entry);
    let refused = until_refused(&workload, "db").await;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_asked_for_renews_itself() {
    let writ = Writ::up();
    writ.entry_with("/caller", &[&own_uid()], &["--jwt-ttl", "8s"]);
    let workload = Workload::connect(&writ.workload_socket()).await;
    let first = workload.token("db").await.expect("it is registered");
    let next = next_token(&workload, &first).await;
    assert!(next.exp > first.exp && next.id == first.id);
    // The first one is good still when the second one comes: nobody is ever without.
    assert_eq!(workload.validate("db", &first.text).await.expect("it overlaps"), first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_changes_takes_its_tokens_with_it_at_once() {
    let writ = Writ::up();
    let entry = writ.entry("/caller", &[&own_uid()]);
    let workload = Workload::connect(&writ.workload_socket()).await;
    let first = workload.token("db").await.expect("it is registered");
    writ.ask(&["entry", "update", &entry, "--spiffe-id", "/other"]);
    assert_eq!(next_token(&workload, &first).await.id, writ.id("/other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_a_kept_token_is_served_and_a_new_one_is_unavailable_at_once() {
    let mut server = Server::start("");
    let agent = Agent::join(&server, "second", Folder::new());
    let entry = ["entry", "create", "--spiffe-id", "/second", "--parent", "second", "--selector", &own_uid()];
    let _ = server.run(&entry).done();
    let workload = Workload::connect(&agent.workload_socket()).await;
    let kept = first_token(&workload).await;

    server.signal(Signal::SIGKILL);
    let since = Instant::now();
    let refused = until_unavailable(&workload).await;
    assert!(since.elapsed() < Duration::from_secs(4), "not after a timeout: {:?}", since.elapsed());
    assert!(refused.message().contains("try again"), "{refused}");
    assert_eq!(workload.token("db").await.expect("it is kept").text, kept.text);
    assert_eq!(workload.validate("db", &kept.text).await.expect("it needs no server"), kept.id);

    server.kill_and_start();
    let back = async {
        while workload.token("after").await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), back).await.expect("new tokens come when the server is back");
}

/// A fresh audience each time, until the agent says that it cannot ask.
async fn until_unavailable(workload: &Workload) -> Status {
    let ask = async {
        for n in 0.. {
            match workload.token(&format!("new-{n}")).await {
                Err(status) if status.code() == Code::Unavailable => return status,
                Err(status) => panic!("it is entitled: {status}"),
                Ok(_) => {} // the server's last breath
            }
        }
        unreachable!("the loop has no end of its own")
    };
    timeout(SOON, ask).await.expect("the agent notices in time")
}

async fn until_refused(workload: &Workload, audience: &str) -> Status {
    let ask = async {
        loop {
            match workload.token(audience).await {
                Err(status) => return status,
                Ok(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(SOON, ask).await.expect("a deleted entry is gone in time")
}

async fn first_token(workload: &Workload) -> Token {
    let ask = async {
        loop {
            if let Ok(token) = workload.token("db").await {
                return token;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, ask).await.expect("the first token comes in time")
}

async fn next_token(workload: &Workload, before: &Token) -> Token {
    let ask = async {
        loop {
            match workload.token("db").await {
                Ok(token) if token.text != before.text => return token,
                Ok(_) => sleep(Duration::from_millis(20)).await,
                Err(status) => panic!("it is never without a token: {status}"),
            }
        }
    };
    timeout(SOON, ask).await.expect("another token comes in time")
}
