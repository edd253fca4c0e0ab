//! What the server signs, and for whom.

use serde_json::json;
use server_api::CallError;
use spiffe::{Timestamp, tls::peer_svid, x509::svid};
use tonic::Code;

use crate::support::{Agent, Host, ders, now, order};

fn leaf(agent: &Agent, chain: &[bytes::Bytes]) -> spiffe::tls::PeerSvid {
    let chain = ders(chain.iter().map(|der| der.to_vec()).collect());
    svid::verify(&chain, &agent.bundles, now()).unwrap();
    peer_svid(Some(&chain)).unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_svids_for_its_own_entries_and_for_no_other() {
    let host = Host::start().await;
    let (mine, other) = (host.agent("mine").await, host.agent("other").await);
    let body = |id, parent| json!({ "id": id, "spiffe_id": format!("/{id}"), "parent": parent, "selectors": ["unix:uid:1"] });
    host.entry(body("mine-1", "mine")).await;
    host.entry(body("other-1", "other")).await;
    host.entry(body("all-1", "any-node")).await;

    let signed = mine.sign(&["other-1", "mine-1", "no-such-entry", "all-1", "other-1"]).await.unwrap();
    let codes: Vec<_> =
        signed.iter().map(|result| result.as_ref().err().map(|refused| refused.code)).collect();
    let denied = Some(Code::PermissionDenied);
    assert_eq!(codes, [denied, None, denied, None, denied], "results in the order of the orders");
    let id = leaf(&mine, signed[1].as_ref().unwrap()).id;
    assert_eq!(id.as_str(), "spiffe://acme.example/mine-1");
    assert!(other.sign(&["other-1"]).await.unwrap()[0].is_ok());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_entry_is_signed_no_more() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.entry(json!({ "id": "e", "spiffe_id": "/e", "parent": "n", "selectors": ["unix:uid:1"] })).await;
    assert!(agent.sign(&["e"]).await.unwrap()[0].is_ok());
    host.apply(server_api::admin::Mode::Delete, json!("e")).await;
    assert_eq!(agent.sign(&["e"]).await.unwrap()[0].as_ref().unwrap_err().code, Code::PermissionDenied);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_svid_outlives_neither_its_ttl_nor_its_entry_nor_a_sixth_of_the_authority() {
    let host = Host::start_with(|config| config.ca_ttl = std::time::Duration::from_secs(6 * 3600)).await;
    let agent = host.agent("n").await;
    let ends = Timestamp::from_unix_seconds(now().unix_seconds() + 600);
    let body = |id: &str| json!({ "id": id, "spiffe_id": format!("/{id}"), "parent": "n", "selectors": ["unix:uid:1"] });
    let with = |id: &str, field: &str, value: serde_json::Value| {
        let mut body = body(id);
        body[field] = value;
        body
    };
    let capped =
        host.apply(server_api::admin::Mode::Create, with("long", "x509_svid_ttl", json!(86_400))).await;
    assert!(capped.warnings.iter().any(|w| w.contains("a sixth of ca_ttl")), "{:?}", capped.warnings);
    host.entry(with("short", "x509_svid_ttl", json!(60))).await;
    host.entry(with("ending", "expires_at", json!(ends))).await;
    host.entry(body("plain")).await;
    let lives = |chain: &[bytes::Bytes]| leaf(&agent, chain).not_after.since(now()).as_secs();
    let signed = agent.sign(&["long", "short", "ending", "plain"]).await.unwrap();
    let signed: Vec<_> = signed.into_iter().map(Result::unwrap).collect();
    assert!((3590..=3600).contains(&lives(&signed[0])), "{}", lives(&signed[0]));
    assert!((50..=60).contains(&lives(&signed[1])));
    assert!(leaf(&agent, &signed[2]).not_after <= ends);
    assert!((3590..=3600).contains(&lives(&signed[3])));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_spoils_its_own_order_only_and_a_batch_has_an_end() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.entry(json!({ "id": "e", "spiffe_id": "/e", "parent": "n", "selectors": ["unix:uid:1"] })).await;
    let mut orders: Vec<_> = (0..500).map(|_| order("e")).collect();
    orders[7].public_key = b"not a key".to_vec();
    let signed = agent.node().await.sign(&orders).await.unwrap();
    assert_eq!(signed.iter().filter(|result| result.is_err()).count(), 1);
    assert_eq!(signed[7].as_ref().unwrap_err().code, Code::InvalidArgument);
    orders.push(order("e"));
    let error = agent.node().await.sign(&orders).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { code: Code::InvalidArgument, .. }), "{error:?}");
    host.stop().await;
}
