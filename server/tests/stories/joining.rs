//! How nodes join.

use registry::objects::{Token, TokenState};
use server_api::{CallError, wire::status::Reason};
use spiffe::PrivateKey;
use tonic::Code;

use crate::support::{Host, View};

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn is_denied(error: &CallError) -> bool {
    matches!(error, CallError::Refused { code: Code::PermissionDenied, .. })
}

async fn token_state(host: &Host, node: &str) -> TokenState {
    let listed = host.admin().await.list("token", vec![node.to_owned()]).await.unwrap();
    serde_json::from_slice::<Token>(&listed[0].body).unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_with_a_token_and_is_named_by_it() {
    let host = Host::start().await;
    let made = host.admin().await.create_token("web-1", 0).await.unwrap();
    assert_eq!(made.node, "web-1");
    assert_eq!(made.pin, host.serving.pin.to_string());
    assert_eq!(made.server_address, host.serving.address.to_string());
    assert!(made.warnings[0].contains("only this machine"), "{:?}", made.warnings);
    let agent = host.join(&made.token, key()).await.unwrap();
    assert_eq!(agent.id().as_str(), "spiffe://acme.example/spire/agent/join_token/web-1");
    View::follow(&agent, None).await.unwrap().step().await.unwrap().unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_agents_with_one_token_exactly_one_joins() {
    let host = std::sync::Arc::new(Host::start().await);
    let token = host.token("contested").await;
    let tries: Vec<_> = (0..64)
        .map(|_| {
            let (host, token) = (host.clone(), token.clone());
            tokio::spawn(async move { host.join(&token, key()).await })
        })
        .collect();
    let mut joined = 0;
    for attempt in tries {
        match attempt.await.unwrap() {
            Ok(_) => joined += 1,
            Err(error) => assert!(is_denied(&error), "{error:?}"),
        }
    }
    assert_eq!(joined, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_costs_nothing_and_the_first_call_spends_the_token() {
    let host = Host::start().await;
    let (token, mine) = (host.token("n").await, key());
    host.join(&token, mine.clone()).await.unwrap();
    assert!(matches!(token_state(&host, "n").await, TokenState::Bound { .. }));
    let agent = host.join(&token, mine.clone()).await.unwrap(); // the same key may repeat
    assert!(is_denied(&host.join(&token, key()).await.err().unwrap()), "any other key may not");

    View::follow(&agent, None).await.unwrap().step().await.unwrap();
    assert!(matches!(token_state(&host, "n").await, TokenState::Spent { .. }));
    assert!(is_denied(&host.join(&token, mine).await.err().unwrap()), "a spent token is worth nothing");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_can_be_freed_for_another_key() {
    let host = Host::start().await;
    let token = host.token("n").await;
    let first = host.join(&token, key()).await.unwrap();
    host.admin().await.reset_token("n").await.unwrap();
    let second = host.join(&token, key()).await.unwrap();
    View::follow(&second, None).await.unwrap().step().await.unwrap();
    let mut ousted = View::follow(&first, None).await;
    let error = match &mut ousted {
        Ok(view) => view.until_end().await,
        Err(_) => ousted.err().unwrap(),
    };
    assert!(matches!(error, CallError::Agent { reason: Reason::AgentNotActive, .. }), "{error:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_made_does_not_join_and_does_not_fill_the_log() {
    let host = Host::start().await;
    let token = host.token("n").await;
    let revision =
        |json: bytes::Bytes| serde_json::from_slice::<serde_json::Value>(&json).unwrap()["revision"].clone();
    let before = revision(host.admin().await.status().await.unwrap());
    let (node, secret) = token.rsplit_once('.').unwrap();
    let other_secret: String = secret.chars().rev().collect();
    let huge = "x".repeat(10_000);
    for wrong in [
        "",
        "n",
        "n.",
        &format!("{node}.{other_secret}"),
        &format!("m.{secret}"),
        &format!("{token}x"),
        &huge,
    ] {
        assert!(is_denied(&host.join(wrong, key()).await.err().unwrap()), "{wrong:?}");
    }
    assert_eq!(revision(host.admin().await.status().await.unwrap()), before);
    assert!(host.join(&token, key()).await.is_ok(), "the real one still counts");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_counts_from_its_first_use_and_the_old_one_no_more() {
    let host = Host::start().await;
    let old = host.agent("n").await;
    let mut following = View::follow(&old, None).await.unwrap();
    following.step().await.unwrap();
    let new = old.renewed().await.unwrap();
    assert!(old.sign(&[]).await.is_ok(), "a renewal whose reply may be lost takes nothing away");
    assert!(new.sign(&[]).await.is_ok());
    for error in [old.sign(&[]).await.unwrap_err(), following.until_end().await] {
        assert!(matches!(error, CallError::Agent { reason: Reason::AgentNotActive, .. }), "{error:?}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_node_is_cut_off_at_once_and_stays_out() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut following = View::follow(&agent, None).await.unwrap();
    following.step().await.unwrap();
    host.admin().await.ban_node("n").await.unwrap();
    for error in [following.until_end().await, agent.sign(&[]).await.unwrap_err()] {
        assert!(matches!(error, CallError::Agent { reason: Reason::AgentBanned, .. }), "{error:?}");
    }
    let error = host.admin().await.create_token("n", 0).await.err().unwrap();
    assert!(error.to_string().contains("banned"), "{error}");
    host.admin().await.evict_node("n").await.unwrap();
    host.agent("n").await.sign(&[]).await.unwrap();
    host.stop().await;
}
