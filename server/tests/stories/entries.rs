//! Entries over SPIRE's API and over Writ's own.

use proto::spire::{
    server::{
        agent::v1::{CreateJoinTokenRequest, ListAgentsRequest, agent_client::AgentClient},
        entry::v1::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, CountEntriesRequest,
            ListEntriesRequest, entry_client::EntryClient, list_entries_request,
        },
    },
    types::{Entry, EntryMask, Selector, SelectorMatch, Spiffeid},
};
use serde_json::json;
use server_api::{
    admin::{Effect, Mode},
    connect::connect_private,
};
use spiffe::PrivateKey;
use tonic::{Code, transport::Channel};

use crate::support::{Host, View};

fn id(path: &str) -> Option<Spiffeid> {
    Some(Spiffeid { trust_domain: "acme.example".into(), path: path.into() })
}

fn uid(uid: u32) -> Selector {
    Selector { r#type: "unix".into(), value: format!("uid:{uid}") }
}

fn entry(path: &str, uids: &[u32]) -> Entry {
    let selectors = uids.iter().map(|n| uid(*n)).collect();
    Entry { spiffe_id: id(path), parent_id: id("/spire/agent/join_token/n"), selectors, ..Entry::default() }
}

async fn client(host: &Host) -> EntryClient<Channel> {
    EntryClient::new(connect_private(&host.serving.socket).await.unwrap())
}

async fn create(client: &mut EntryClient<Channel>, entries: Vec<Entry>) -> Vec<(i32, Option<Entry>)> {
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    let results = client.batch_create_entry(request).await.unwrap().into_inner().results;
    results.into_iter().map(|result| (result.status.unwrap().code, result.entry)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_of_a_batch_succeeds_or_fails_by_itself() {
    let host = Host::start().await;
    let mut client = client(&host).await;
    let mut foreign = entry("/c", &[3]);
    foreign.spiffe_id = Some(Spiffeid { trust_domain: "other.example".into(), path: "/c".into() });
    let mut chosen = entry("/d", &[4]);
    chosen.id = "chosen".into();
    let batch = vec![
        entry("/a", &[1]),
        entry("/a", &[1]),
        Entry::default(),
        foreign,
        chosen,
        entry("/spire/x", &[1]),
    ];
    let results = create(&mut client, batch).await;
    let codes: Vec<_> = results.iter().map(|(code, _)| Code::from_i32(*code)).collect();
    let invalid = Code::InvalidArgument;
    assert_eq!(codes, [Code::Ok, Code::AlreadyExists, invalid, invalid, Code::Ok, invalid]);
    let first = results[0].1.clone().unwrap();
    assert_eq!(results[1].1.as_ref(), Some(&first), "with AlreadyExists comes the entry in the way");
    assert_eq!(first.id.len(), 36);
    assert!(first.created_at > 0 && first.revision_number == 0);
    assert_eq!(results[4].1.as_ref().unwrap().id, "chosen");

    let ids = vec!["chosen".to_owned(), "no such id!".to_owned(), "missing".to_owned()];
    let deleted = client.batch_delete_entry(BatchDeleteEntryRequest { ids: ids.clone() }).await.unwrap();
    let deleted = deleted.into_inner().results;
    let codes: Vec<_> = deleted.iter().map(|r| Code::from_i32(r.status.as_ref().unwrap().code)).collect();
    assert_eq!(codes, [Code::Ok, invalid, Code::NotFound]);
    assert_eq!(deleted.into_iter().map(|result| result.id).collect::<Vec<_>>(), ids);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_masked_and_paged() {
    let host = Host::start().await;
    let mut client = client(&host).await;
    let batch = (0..25).map(|n| entry(&format!("/e{n}"), if n % 5 == 0 { &[1, 2] } else { &[1] })).collect();
    create(&mut client, batch).await;
    let count = client.count_entries(CountEntriesRequest::default()).await.unwrap().into_inner().count;
    assert_eq!(count, 25);

    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let mask = EntryMask { spiffe_id: true, ..EntryMask::default() };
        let request = ListEntriesRequest {
            page_size: 10,
            page_token,
            output_mask: Some(mask),
            ..ListEntriesRequest::default()
        };
        let page = client.list_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 10);
        assert!(page.entries.iter().all(|entry| entry.selectors.is_empty() && entry.parent_id.is_none()));
        names.extend(page.entries.into_iter().map(|entry| entry.spiffe_id.unwrap().path));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 25, "each is on one page");

    for (uids, how, expected) in
        [(&[1, 2][..], 0, 5), (&[1], 1, 20), (&[2], 2, 5), (&[2, 9], 3, 5), (&[9], 3, 0)]
    {
        let selectors = uids.iter().map(|n| uid(*n)).collect();
        let asked = SelectorMatch { selectors, r#match: how };
        let filter = list_entries_request::Filter { by_selectors: Some(asked), ..Default::default() };
        let request = ListEntriesRequest { filter: Some(filter), ..ListEntriesRequest::default() };
        let found = client.list_entries(request).await.unwrap().into_inner().entries.len();
        assert_eq!(found, expected, "{uids:?} by {how}");
    }
    let huge = ListEntriesRequest { page_size: i32::MAX, ..ListEntriesRequest::default() };
    assert_eq!(client.list_entries(huge).await.unwrap().into_inner().entries.len(), 25);
    for (page_size, page_token) in [(-1, ""), (1, "not/an/id")] {
        let request = ListEntriesRequest { page_size, page_token: page_token.into(), ..Default::default() };
        assert_eq!(client.list_entries(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names() {
    let host = Host::start().await;
    let mut client = client(&host).await;
    let before = create(&mut client, vec![entry("/a", &[1])]).await.remove(0).1.unwrap();
    let wanted = Entry { id: before.id.clone(), hint: "new".into(), admin: true, ..Entry::default() };
    let request = BatchUpdateEntryRequest {
        entries: vec![wanted],
        input_mask: Some(EntryMask { hint: true, ..EntryMask::default() }),
        output_mask: None,
    };
    let after = client.batch_update_entry(request).await.unwrap().into_inner().results.remove(0);
    let expected = Entry { hint: "new".into(), revision_number: 1, ..before };
    assert_eq!(after.entry, Some(expected));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_over_spires_api_joins_and_names_its_node() {
    let host = Host::start().await;
    let mut agents = AgentClient::new(connect_private(&host.serving.socket).await.unwrap());
    let request = CreateJoinTokenRequest { ttl: 60, token: String::new(), agent_id: id("/rack/7") };
    let token = agents.create_join_token(request).await.unwrap().into_inner().value;
    let agent = host.join(&token, PrivateKey::generate().unwrap()).await.unwrap();
    // Scripts build the parent from the whole token; the secret is not kept.
    let parent = format!("/spire/agent/join_token/{token}");
    let mut by_token = entry("/by-token", &[1]);
    by_token.parent_id = id(&parent);
    let mut by_name = entry("/by-name", &[2]);
    by_name.parent_id = id("/rack/7");
    by_name.id = "by-name".into();
    let results = create(&mut client(&host).await, vec![by_token, by_name]).await;
    let kept = results[0].1.as_ref().unwrap().parent_id.as_ref().unwrap().path.clone();
    assert!(parent.starts_with(&kept) && kept.len() < parent.len(), "{kept}");
    assert!(agent.sign(&["by-name"]).await.unwrap()[0].is_ok());
    let listed = agents.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(listed.len(), 1);
    assert!(!listed[0].x509svid_serial_number.is_empty() && !listed[0].banned);
    let no_ttl = CreateJoinTokenRequest::default();
    assert_eq!(agents.create_join_token(no_ttl).await.unwrap_err().code(), Code::InvalidArgument);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writs_own_users_are_told_of_selectors_that_nothing_has_and_spires_api_takes_any() {
    let host = Host::start().await;
    for (selector, says) in [
        ("gpu:model:a", "other_selector_kinds"),
        ("unix:usr:web", "did you mean unix:user:web?"),
        ("unix:uid:-1", "a uid is a number"),
        ("x509pop:subject:cn:web", "a fact about nodes"),
    ] {
        let body = json!({ "spiffe_id": "/a", "parent": "n", "selectors": [selector] });
        for mode in [Mode::Create, Mode::Upsert, Mode::DryRun] {
            let applied = host.apply(mode, body.clone()).await;
            assert_eq!(applied.code, Code::InvalidArgument, "{selector}");
            assert!(applied.message.contains(says), "{}", applied.message);
        }
    }
    let node = json!({ "spiffe_id": "/a", "parent": "unix:uid:1", "selectors": ["unix:uid:1"] });
    assert!(host.apply(Mode::Create, node).await.message.contains("no node has it"));

    let mut foreign = entry("/plugin", &[]);
    foreign.id = "plugin".into();
    foreign.selectors = vec![Selector { r#type: "gpu".into(), value: "model:a".into() }];
    assert_eq!(create(&mut client(&host).await, vec![foreign]).await[0].0, 0);
    // What it has already it may keep when a file is applied over it, and nothing else of the kind.
    let listed = host.admin().await.list("entry", vec![]).await.unwrap();
    let mut stored: serde_json::Value = serde_json::from_slice(&listed[0].body).unwrap();
    stored["hint"] = json!("kept");
    assert_eq!(host.apply(Mode::Upsert, stored.clone()).await.effect, Effect::Updated);
    stored["selectors"] = json!(["gpu:model:b"]);
    assert_eq!(host.apply(Mode::Upsert, stored).await.code, Code::InvalidArgument);
    let update = json!({ "id": "plugin", "selectors": ["gpu:model:b"] });
    assert_eq!(host.apply(Mode::Update, update).await.code, Code::InvalidArgument);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_is_idempotent_and_a_dry_run_changes_nothing() {
    let host = Host::start().await;
    let body = json!({ "spiffe_id": "/a", "parent": ["aws_iid:az:a", "aws_iid:tag:role:web"], "selectors": ["unix:path:/bin/sh"] });
    let dry = host.apply(Mode::DryRun, body.clone()).await;
    assert_eq!(dry.effect, Effect::Created);
    assert!(host.admin().await.list("entry", vec![]).await.unwrap().is_empty());
    let first = host.apply(Mode::Upsert, body.clone()).await;
    assert_eq!((first.effect, first.code), (Effect::Created, Code::Ok));
    assert!(first.warnings.iter().any(|warning| warning.contains("path or sha256")), "{:?}", first.warnings);
    let entries = host.admin().await.list("entry", vec![]).await.unwrap();
    assert_eq!(entries.len(), 2, "the entry, and the alias for nodes with these selectors");
    assert_eq!(host.apply(Mode::Upsert, body.clone()).await.effect, Effect::Unchanged);
    let mut changed = body;
    changed["hint"] = json!("h");
    assert_eq!(host.apply(Mode::DryRun, changed.clone()).await.effect, Effect::Updated);
    assert_eq!(host.apply(Mode::Upsert, changed).await.effect, Effect::Updated);
    assert_eq!(host.admin().await.list("entry", vec![]).await.unwrap().len(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_by_json_changes_the_fields_that_are_written() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let body =
        json!({ "id": "e", "spiffe_id": "/a", "parent": "n", "selectors": ["unix:uid:1"], "hint": "h" });
    host.entry(body).await;
    let applied = host.apply(Mode::Update, json!({ "id": "e", "admin": true })).await;
    let after: serde_json::Value = serde_json::from_slice(&applied.body).unwrap();
    assert_eq!(
        (applied.effect, &after["hint"], &after["admin"]),
        (Effect::Updated, &json!("h"), &json!(true))
    );
    for (mode, body, code) in [
        (Mode::Update, json!({ "id": "missing", "admin": true }), Code::NotFound),
        (Mode::Update, json!({ "admin": true }), Code::InvalidArgument),
        (
            Mode::Create,
            json!({ "id": "e", "spiffe_id": "/b", "parent": "n", "selectors": ["unix:uid:7"] }),
            Code::AlreadyExists,
        ),
        (Mode::Delete, json!({ "id": "e" }), Code::InvalidArgument),
        (Mode::Delete, json!("missing"), Code::NotFound),
    ] {
        assert_eq!(host.apply(mode, body.clone()).await.code, code, "{body}");
    }
    let mut view = View::follow(&agent, None).await.unwrap();
    view.until_entries(&["e"]).await;
    host.stop().await;
}
