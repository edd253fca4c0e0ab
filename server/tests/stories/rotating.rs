//! How authorities turn while everything goes on.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use registry::objects::Use;
use serde_json::{Value, json};
use server_api::{CallError, authority, wire::status::Reason};
use spiffe::{Bundle, Bundles, x509::svid};

use crate::support::{Agent, Host, View, eventually, now, order};

async fn authorities(host: &Host) -> Vec<Value> {
    let status: Value = serde_json::from_slice(&host.admin().await.status().await.unwrap()).unwrap();
    status["authorities"].as_array().unwrap().clone()
}

/// With a ca_ttl of 12 s an authority is prepared after 6 s and takes over after 10 s; certificates live 2 s.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_sees_every_turn_and_always_gets_svids_that_verify() {
    let host = Host::start_with(|config| config.ca_ttl = Duration::from_secs(12)).await;
    host.entry(json!({ "id": "e", "spiffe_id": "/e", "parent": "any-node", "selectors": ["unix:uid:1"] }))
        .await;
    let first = authorities(&host).await[0]["id"].clone();
    let mut agent = host.agent("n").await;
    let (mut published, mut signers) = (BTreeSet::new(), BTreeSet::new());
    let began = Instant::now();
    while published.len() < 3 || signers.len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} published", published.len());
        let bundle = host.bundle(&host.serving.pin).await;
        published.extend(bundle.x509_authorities.iter().map(|der| der.to_vec()));
        agent.bundles = Arc::new([bundle].into_iter().collect());
        match sign_and_renew(&agent, &host).await {
            Ok((renewed, signer)) => {
                agent = renewed;
                signers.insert(signer);
            }
            // On a busy machine two seconds can be over before a call is made.
            Err(CallError::Agent { reason: Reason::AgentExpired, .. } | CallError::Unavailable(_)) => {
                agent = host.agent("n").await;
            }
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    eventually("the first authority is published no more", || async {
        authorities(&host).await.iter().all(|authority| authority["id"] != first)
    })
    .await;
    let keys = std::fs::read_dir(host.config.state_dir.join("keys")).unwrap().count();
    assert!(keys <= 4, "keys that will not sign again are destroyed; {keys} are there");
    host.stop().await;
}

/// Gets an SVID that verifies against what is published, and says which authority signed it.
async fn sign_and_renew(agent: &Agent, host: &Host) -> Result<(Agent, Vec<u8>), CallError> {
    let signed = agent.sign(&["e"]).await?.remove(0).unwrap();
    let chain: Vec<_> = signed.iter().map(|der| der.to_vec().into()).collect();
    let bundle = host.bundle(&host.serving.pin).await;
    let alone = |der: &rustls::pki_types::CertificateDer<'static>| {
        let x509_authorities = vec![der.clone()];
        [Bundle { x509_authorities, ..bundle.clone() }].into_iter().collect::<Bundles>()
    };
    let signer = bundle.x509_authorities.iter().find(|der| svid::verify(&chain, &alone(der), now()).is_ok());
    let signer = signer.expect("an authority that is published signed it").to_vec();
    Ok((agent.renewed().await?, signer))
}

/// A handshake asks whether the authority counts; a connection that was made before must not outlive it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_rests_on_is_gone_when_its_authority_is_revoked() {
    let host = Host::start().await;
    host.entry(json!({ "id": "e", "spiffe_id": "/e", "parent": "any-node", "selectors": ["unix:uid:1"] }))
        .await;
    let agent = host.agent("n").await;
    let mut view = View::follow(&agent, None).await.unwrap();
    let mut open = agent.node().await;
    view.until_entries(&["e"]).await;
    open.sign(&[order("e")]).await.unwrap().remove(0).unwrap();

    let mut authority = authority::Client::connect(&host.serving.socket).await.unwrap();
    let old = authorities(&host).await.iter().find(|known| known["use"] == "x509").unwrap()["id"].clone();
    let old = old.as_str().unwrap().parse().unwrap();
    let new = authority.prepare(Use::X509).await.unwrap().id;
    authority.activate(Use::X509, &new).await.unwrap();
    authority.taint(Use::X509, &old).await.unwrap();
    open.sign(&[order("e")]).await.unwrap().remove(0).expect("it may renew first");
    authority.revoke(Use::X509, &old).await.unwrap();

    for error in [view.until_end().await, open.sign(&[order("e")]).await.unwrap_err()] {
        assert!(matches!(error, CallError::Agent { reason: Reason::AgentNotActive, .. }), "{error}");
    }
    host.stop().await;
}
