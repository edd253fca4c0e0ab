//! What a rogue node says was recorded: only ever its own, in its own name, in one history.

use proto::writ::audit::v1::upload_request::Step as Say;
use proto::writ::audit::v1::upload_response::Step as Heard;
use proto::writ::audit::v1::{
    Batch, Record, SignedHead, TenantKeyRequest, UploadBegin, UploadRequest, UploadResponse,
};
use tonic::Streaming;

use super::*;

/// An upload of one spool, from its first record.
async fn upload(rogue: &Rogue, spool: u8, steps: Vec<Say>) -> Result<Vec<Heard>, Status> {
    let begin = Say::Begin(UploadBegin { spool: vec![spool; 16].into(), oldest: 1, newest: 9 });
    let words: Vec<_> =
        [begin].into_iter().chain(steps).map(|step| UploadRequest { step: Some(step) }).collect();
    let mut heard: Streaming<UploadResponse> =
        RecorderClient::new(rogue.channel.clone()).upload(tokio_stream::iter(words)).await?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = heard.message().await? {
        all.extend(answer.step);
    }
    Ok(all)
}

fn batch(leaves: &[String]) -> Say {
    let record = |leaf: &String| Record { leaf: leaf.clone().into_bytes().into(), sealed: Vec::new().into() };
    Say::Batch(Batch { records: leaves.iter().map(record).collect() })
}

/// A record in canonical form; the one before it has this hash.
fn leaf(node: &str, seq: u64, more: &str, before: &str) -> String {
    format!(
        r#"{{"decision":"allow","kind":"decision"{more},"node":"{node}","prev_hash":"{before}","seq":{seq},"time":"2026-01-01T00:00:00Z"}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_node_records_nothing_in_the_name_of_others() {
    let scene = Scene::set("").await;
    let rogue = &scene.rogue;
    let honest = "spiffe://writ.local/spire/agent/join_token/node";
    let none = "0".repeat(64);
    let of = |node: &str, more: &str| leaf(node, 1, more, &none);

    let first = upload(rogue, 1, vec![batch(&[of(&rogue.id, "")])]).await.expect("its own record is taken");
    assert_eq!(first.last(), Some(&Heard::Acknowledged(1)), "{first:?}");

    // In another's name: a contradiction, and an alarm that names the rogue.
    let heard = upload(rogue, 2, vec![batch(&[of(honest, "")])]).await.expect("it is told");
    assert!(
        matches!(heard.last(), Some(Heard::Begun(begun)) if !begun.contradiction.is_empty()),
        "{heard:?}"
    );
    let nobodys = of(&rogue.id, "").replace(&format!(r#","node":"{}""#, rogue.id), "");
    let heard = upload(rogue, 5, vec![batch(&[nobodys])]).await.expect("it is told");
    assert!(
        matches!(heard.last(), Some(Heard::Begun(begun)) if !begun.contradiction.is_empty()),
        "{heard:?}"
    );
    // Another history of what was acknowledged: it is asked for what follows, and that must follow.
    let heard =
        upload(rogue, 1, vec![batch(&[leaf(&rogue.id, 2, "", &"1".repeat(64))])]).await.expect("it is told");
    assert!(
        matches!(heard.last(), Some(Heard::Begun(begun)) if !begun.contradiction.is_empty()),
        "{heard:?}"
    );
    let alarms = scene.ground.recorded("audit.alarm");
    assert!(
        alarms.len() >= 2 && alarms.iter().all(|alarm| alarm.to_string().contains(&rogue.id)),
        "{alarms:?}"
    );

    // What is no record of a node's is not taken at all.
    for (what, text) in [
        ("two nodes'", of(&rogue.id, &format!(r#","node":"{honest}""#))),
        ("the server's too", format!(r#"{{"author":{{"admin":"root"}},{}"#, &of(&rogue.id, "")[1..])),
        ("read in two ways", of(&rogue.id, r#","kind":"task.end""#)),
        ("not canonical", of(&rogue.id, "").replace("\":", "\": ")),
        ("not JSON", "{".to_owned()),
        ("too long", of(&rogue.id, &format!(r#","x":"{}""#, "x".repeat(1 << 20)))),
        ("the tenth", leaf(&rogue.id, 10, "", &none)),
    ] {
        let refused = upload(rogue, 3, vec![batch(&[text])]).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
    }
    let head = SignedHead {
        spool: vec![4; 16].into(),
        seq: 5,
        hash: vec![7; 32].into(),
        at: 1,
        signature: vec![1; 70].into(),
        public_key: KeyPair::generate().expect("a key").subject_public_key_info().into(),
    };
    let refused = upload(rogue, 4, vec![Say::Head(head)]).await.expect_err("another key's signature");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    let recorded = scene.ground.recorded("decision");
    assert!(recorded.iter().all(|record| record["node"] != honest), "{recorded:?}");
    assert_eq!(recorded.iter().filter(|record| record["node"] == *rogue.id).count(), 1, "{recorded:?}");
    let mut recorder = RecorderClient::new(rogue.channel.clone());
    let mut key =
        async |tenant: &str| recorder.tenant_key(TenantKeyRequest { tenant: tenant.into() }).await.map(drop);
    key("shop").await.expect("the tenant of its own actor");
    for tenant in ["acme", "nobody"] {
        assert_eq!(key(tenant).await.expect_err("none of its business").code(), Code::PermissionDenied);
    }
    let _ = scene.ground.server.run(&["audit", "verify"]).done();
}
