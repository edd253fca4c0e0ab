//! How a node's view follows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server_api::{admin::Mode, wire::delta::Change};

use crate::support::{Host, View};

fn entry(id: &str, parent: &str) -> Value {
    json!({ "id": id, "spiffe_id": format!("/{id}"), "parent": parent, "selectors": ["unix:uid:1000"] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_begins_with_a_snapshot_and_follows_every_change() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.entry(entry("a", "n")).await;
    let mut view = View::follow(&agent, None).await.unwrap();
    let first = view.step().await.unwrap().unwrap();
    assert!(matches!(first.change, Change::Snapshot(_)));
    assert_eq!(view.entries(), ["a"]);
    assert!(view.bundle.is_some(), "a snapshot brings the signed bundle");

    let began = Instant::now();
    host.entry(entry("b", "any-node")).await;
    view.until_entries(&["a", "b"]).await;
    assert!(began.elapsed() < Duration::from_secs(5), "pushed, not polled: {:?}", began.elapsed());
    host.apply(Mode::Delete, json!("a")).await;
    view.until_entries(&["b"]).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reconnection_a_view_goes_on_where_it_was() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.entry(entry("a", "n")).await;
    let mut view = View::follow(&agent, None).await.unwrap();
    view.step().await.unwrap();
    let (log, at) = (view.log.clone(), view.at);
    drop(view);
    host.apply(Mode::Delete, json!("a")).await;
    host.entry(entry("b", "n")).await;

    let mut resumed = View::follow(&agent, Some((&log, at))).await.unwrap();
    let step = resumed.step().await.unwrap().unwrap();
    let Change::Delta(delta) = step.change else { panic!("a delta would do: {step:?}") };
    assert_eq!(delta.gone.iter().map(ToString::to_string).collect::<Vec<_>>(), ["entry/a"]);
    assert_eq!(resumed.entries(), ["b"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_of_another_log_or_of_the_future_is_answered_by_a_snapshot() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut view = View::follow(&agent, None).await.unwrap();
    view.step().await.unwrap();
    let (log, at) = (view.log.clone(), view.at);
    let other = registry::LogId("another log".to_owned());
    for known in [(&other, at), (&log, registry::Revision(at.0 + 1000))] {
        let mut again = View::follow(&agent, Some(known)).await.unwrap();
        let step = again.step().await.unwrap().unwrap();
        assert!(matches!(step.change, Change::Snapshot(_)), "{step:?}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_sees_nothing_of_what_is_another_nodes() {
    let host = Host::start().await;
    let (mine, other) = (host.agent("mine").await, host.agent("other").await);
    let mut view = View::follow(&mine, None).await.unwrap();
    view.step().await.unwrap();
    host.entry(entry("theirs", "other")).await;
    host.entry(entry("own", "mine")).await;
    view.until_entries(&["own"]).await;
    let keys: Vec<_> = view.objects.iter().map(|stored| stored.object.key().to_string()).collect();
    assert!(!keys.iter().any(|key| key.contains("other") || key.contains("theirs")), "{keys:?}");
    let mut theirs = View::follow(&other, None).await.unwrap();
    theirs.until_entries(&["theirs"]).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_ends_leaves_the_view_by_itself() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut body = entry("brief", "n");
    body["expires_at"] = json!(crate::support::now() + Duration::from_millis(1500));
    host.entry(body).await;
    let mut view = View::follow(&agent, None).await.unwrap();
    view.until_entries(&["brief"]).await;
    view.until_entries(&[]).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_view_arrives_whole() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let bodies: Vec<bytes::Bytes> = (0..3000)
        .map(|n| {
            let mut body = entry(&format!("e{n:04}"), "n");
            body["hint"] = json!(format!("{n}-{}", "h".repeat(900)));
            body.to_string().into()
        })
        .collect();
    for part in bodies.chunks(500) {
        let applied = host.admin().await.apply(Mode::Create, "entry", part.to_vec()).await.unwrap();
        assert!(applied.iter().all(|one| one.refused().is_none()));
    }
    let mut view = View::follow(&agent, None).await.unwrap();
    view.step().await.unwrap();
    assert_eq!(view.entries().len(), 3000);
    host.stop().await;
}
