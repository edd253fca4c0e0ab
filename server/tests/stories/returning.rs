//! Nodes that come back by their key, those that only say so, and two that have the same one.

use std::time::{Duration, Instant};

use proto::writ::node::v1::{
    ReturnParams, ReturnRequest, node_client::NodeClient, return_request::Step as Said,
    return_response::Step as Answered,
};
use server_api::{CallError, attest, connect::connect, node, wire::status::Reason};
use spiffe::{PrivateKey, SpiffeId, returning::Challenge};
use tonic::{Code, Status, transport::Channel};

use crate::support::{Agent, Host, View, csr, ders, tls};

/// Nobody's connection, to the right server.
async fn stranger(agent: &Agent) -> Channel {
    connect(&agent.address, tls(&agent.bundles, None)).await.unwrap()
}

async fn come_back(agent: &Agent, id: &SpiffeId, key: &PrivateKey) -> Result<Agent, CallError> {
    let request = csr(key);
    let sign = |nonce: &_| Challenge { node: id, nonce, request: &request }.sign(key);
    let chain = node::Client::new(stranger(agent).await).come_back(id, &request, sign).await?;
    Ok(Agent { chain: ders(chain.into_iter().map(Vec::from).collect()), key: key.clone(), ..agent.clone() })
}

/// The same agent with its next certificate, for the same key as Writ's agents have it.
async fn renewed(agent: &Agent) -> Agent {
    let chain = attest::Client::new(agent.channel().await).renew(&csr(&agent.key)).await.unwrap();
    Agent { chain: ders(chain), ..agent.clone() }
}

async fn first_step(agent: &Agent) -> Result<View, CallError> {
    let mut view = View::follow(agent, None).await?;
    view.step().await?;
    Ok(view)
}

fn reason(error: &CallError) -> Option<Reason> {
    match error {
        CallError::Agent { reason, .. } => Some(*reason),
        _ => None,
    }
}

/// What a second agent hears. While a request of the first one's former connection could still be under
/// way, it is told to try again, and does.
async fn found_out(agent: &Agent) -> CallError {
    let begun = Instant::now();
    loop {
        match first_step(agent).await.err().unwrap() {
            CallError::Unavailable(_) if begun.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            error => return error,
        }
    }
}

async fn revision(host: &Host) -> u64 {
    let status = host.admin().await.status().await.unwrap();
    serde_json::from_slice::<serde_json::Value>(&status).unwrap()["revision"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_certificate_has_ended_comes_back_by_its_key() {
    let host = Host::start_with(|config| config.agent_ttl = Duration::from_secs(2)).await;
    let agent = host.agent("sleeper").await;
    let mut view = first_step(&agent).await.unwrap();
    assert_eq!(reason(&view.until_end().await), Some(Reason::AgentExpired));
    let back = come_back(&agent, &agent_id("sleeper"), &agent.key).await.unwrap();
    assert_eq!(back.id(), agent_id("sleeper"));
    first_step(&back).await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_window_lets_nobody_back_and_says_what_does() {
    let host = Host::start_with(|config| {
        (config.agent_ttl, config.return_window) = (Duration::from_secs(2), Duration::ZERO);
    })
    .await;
    let agent = host.agent("late").await;
    let mut view = first_step(&agent).await.unwrap();
    view.until_end().await;
    let error = come_back(&agent, &agent_id("late"), &agent.key).await.err().unwrap();
    assert_eq!(reason(&error), Some(Reason::AgentExpired));
    assert!(error.to_string().contains("writ token create"), "{error}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hear_the_same_whether_there_is_such_a_node_or_not_and_leave_no_trace() {
    let host = Host::start().await;
    let agent = host.agent("real").await;
    first_step(&agent).await.unwrap();
    let before = revision(&host).await;
    let other = PrivateKey::generate().unwrap();
    let mut heard = Vec::new();
    for name in ["real", "unreal", "web/../real"] {
        let id = format!("spiffe://acme.example/spire/agent/join_token/{name}");
        heard.push(say(&agent, &id, &csr(&other), Some(&other)).await.unwrap_err());
        // The node's own request, overheard, does not help without its key.
        heard.push(say(&agent, &id, &csr(&agent.key), Some(&other)).await.unwrap_err());
        heard.push(say(&agent, &id, &csr(&agent.key), None).await.unwrap_err());
    }
    for status in &heard {
        assert_eq!(
            (status.code(), status.message(), status.details()),
            (Code::PermissionDenied, heard[0].message(), heard[0].details())
        );
    }
    assert_eq!(revision(&host).await, before, "the log does not grow by what strangers do");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_in_the_wrong_order_and_words_too_long_are_refused_before_anything_is_looked_up() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let id = agent_id("n").to_string();
    let long_id = say(&agent, &format!("{id}{}", "x".repeat(4096)), &csr(&agent.key), None).await;
    let long_csr = say(&agent, &id, &vec![0x30; 20_000], None).await;
    let no_csr = say(&agent, &id, b"garbage", Some(&agent.key)).await;
    let signature = ReturnRequest { step: Some(Said::Signature(vec![1; 70].into())) };
    let signature_first =
        NodeClient::new(stranger(&agent).await).r#return(tokio_stream::iter([signature])).await.map(|_| ());
    let silence = NodeClient::new(stranger(&agent).await).r#return(tokio_stream::empty()).await.map(|_| ());
    for refused in [long_id, long_csr, no_csr, signature_first, silence] {
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
    first_step(&agent).await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn banned_and_evicted_nodes_do_not_come_back() {
    let host = Host::start().await;
    for (name, told) in [("banned", Reason::AgentBanned), ("evicted", Reason::AgentNotAttested)] {
        let agent = host.agent(name).await;
        first_step(&agent).await.unwrap();
        let id = agent_id(name);
        match told {
            Reason::AgentBanned => host.admin().await.ban_node(id.as_str()).await.unwrap(),
            _ => host.admin().await.evict_node(id.as_str()).await.unwrap(),
        }
        let error = come_back(&agent, &id, &agent.key).await.err().unwrap();
        assert_eq!(reason(&error), Some(told), "{error}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_with_one_state_directory_neither_goes_on_once_one_has_renewed() {
    let host = Host::start().await;
    let original = host.agent("copied").await;
    let copy = original.clone();
    let mut seen_by_copy = first_step(&copy).await.unwrap();
    first_step(&original).await.unwrap();

    let original = renewed(&original).await;
    let mut seen_by_original = first_step(&original).await.unwrap();
    assert_eq!(reason(&seen_by_copy.until_end().await), Some(Reason::AgentNotActive));
    let error = found_out(&copy).await;
    assert_eq!(reason(&error), Some(Reason::AgentMustReattest), "{error}");
    assert_eq!(reason(&seen_by_original.until_end().await), Some(Reason::AgentMustReattest));
    let error = come_back(&copy, &agent_id("copied"), &copy.key).await.err().unwrap();
    assert_eq!(reason(&error), Some(Reason::AgentMustReattest), "its key is burnt: {error}");

    let token = host.token("copied").await;
    assert!(host.join(&token, copy.key.clone()).await.is_err(), "also with a token");
    let anew = host.join(&token, PrivateKey::generate().unwrap()).await.unwrap();
    first_step(&anew).await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_came_back_by_the_key_is_noticed_when_the_agent_shows_its_own_certificate() {
    let host = Host::start().await;
    let original = host.agent("copied").await;
    let mut view = first_step(&original).await.unwrap();
    let copy = come_back(&original, &agent_id("copied"), &original.key).await.unwrap();
    let mut seen_by_copy = first_step(&copy).await.unwrap();
    assert_eq!(reason(&view.until_end().await), Some(Reason::AgentNotActive));
    let error = found_out(&original).await;
    assert_eq!(reason(&error), Some(Reason::AgentMustReattest), "{error}");
    assert_eq!(reason(&seen_by_copy.until_end().await), Some(Reason::AgentMustReattest));
    host.stop().await;
}

/// Says both words by hand; without a key, the signature is noise.
async fn say(agent: &Agent, id: &str, csr: &[u8], key: Option<&PrivateKey>) -> Result<(), Status> {
    let (words, said) = tokio::sync::mpsc::channel(2);
    let params = ReturnParams { spiffe_id: id.to_owned(), csr: csr.to_vec().into() };
    words.send(ReturnRequest { step: Some(Said::Params(params)) }).await.unwrap();
    let mut client = NodeClient::new(stranger(agent).await);
    let said = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut answers = client.r#return(said).await?.into_inner();
    let Some(Answered::Nonce(nonce)) = answers.message().await?.and_then(|answer| answer.step) else {
        panic!("a nonce comes first");
    };
    let nonce: [u8; 32] = nonce.as_ref().try_into().unwrap();
    let node = id.parse().unwrap_or_else(|_| agent_id("real"));
    let signature = match key {
        Some(key) => Challenge { node: &node, nonce: &nonce, request: csr }.sign(key).unwrap(),
        None => vec![0x30; 70],
    };
    words.send(ReturnRequest { step: Some(Said::Signature(signature.into())) }).await.unwrap();
    answers.message().await.map(|_| ())
}

fn agent_id(name: &str) -> SpiffeId {
    format!("spiffe://acme.example/spire/agent/join_token/{name}").parse().unwrap()
}
