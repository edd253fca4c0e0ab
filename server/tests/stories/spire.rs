//! SPIRE's API as its agents and its command line use it, by the wire.

use std::collections::{BTreeMap, BTreeSet};

use proto::spire::{
    server::{
        bundle::v1::{
            BatchCreateFederatedBundleRequest, BatchDeleteFederatedBundleRequest, GetBundleRequest,
            GetFederatedBundleRequest, ListFederatedBundlesRequest, bundle_client::BundleClient,
        },
        debug::v1::{GetInfoRequest, debug_client::DebugClient},
        entry::v1::{
            BatchCreateEntryRequest, GetAuthorizedEntriesRequest, SyncAuthorizedEntriesRequest,
            SyncAuthorizedEntriesResponse, entry_client::EntryClient,
        },
        svid::v1::{
            BatchNewX509svidRequest, MintJwtsvidRequest, MintX509svidRequest, NewJwtsvidRequest,
            NewX509svidParams, svid_client::SvidClient,
        },
    },
    types::{Bundle, Entry, EntryMask, Selector, Spiffeid},
};
use rcgen::{CertificateParams, KeyPair, SanType};
use server_api::connect::connect_private;
use spiffe::x509::svid;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    foreign::Foreign,
    support::{Agent, Host, ders, now},
};

fn id(path: &str) -> Option<Spiffeid> {
    Some(Spiffeid { trust_domain: "acme.example".into(), path: path.into() })
}

fn entry(name: &str, node: &str) -> Entry {
    Entry {
        id: name.into(),
        spiffe_id: id(&format!("/{name}")),
        parent_id: id(&format!("/spire/agent/join_token/{node}")),
        selectors: vec![Selector { r#type: "unix".into(), value: format!("user:{name}") }],
        ..Entry::default()
    }
}

async fn private(host: &Host) -> Channel {
    connect_private(&host.serving.socket).await.unwrap()
}

async fn create(host: &Host, entries: Vec<Entry>) -> Vec<Code> {
    let mut client = EntryClient::new(private(host).await);
    let request = BatchCreateEntryRequest { entries, output_mask: None };
    let results = client.batch_create_entry(request).await.unwrap().into_inner().results;
    results.into_iter().map(|result| Code::from_i32(result.status.unwrap().code)).collect()
}

/// The conversation of a SPIRE agent that brings its entries up to date.
struct Sync {
    say: mpsc::Sender<SyncAuthorizedEntriesRequest>,
    answers: Streaming<SyncAuthorizedEntriesResponse>,
}

impl Sync {
    async fn begin(agent: &Agent, mask: Option<EntryMask>) -> Self {
        let (say, said) = mpsc::channel(4);
        say.send(SyncAuthorizedEntriesRequest { output_mask: mask, ids: Vec::new() }).await.unwrap();
        let mut client = EntryClient::new(agent.channel().await);
        let answers = client.sync_authorized_entries(ReceiverStream::new(said)).await.unwrap().into_inner();
        Self { say, answers }
    }

    async fn heard(&mut self) -> SyncAuthorizedEntriesResponse {
        self.answers.next().await.unwrap().unwrap()
    }

    async fn ask(&mut self, ids: &[&str]) -> Vec<Entry> {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        self.say.send(SyncAuthorizedEntriesRequest { output_mask: None, ids }).await.unwrap();
        let mut entries = Vec::new();
        loop {
            let page = self.heard().await;
            entries.extend(page.entries);
            if !page.more {
                return entries;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_entries_come_at_once_and_of_many_the_revisions_first() {
    let host = Host::start().await;
    let (agent, other) = (host.agent("n").await, host.agent("other").await);
    create(&host, (0..500).map(|n| entry(&format!("e{n}"), "n")).collect()).await;
    create(&host, vec![entry("theirs", "other")]).await;
    let mask = EntryMask { revision_number: true, admin: true, ..EntryMask::default() };
    let mut sync = Sync::begin(&agent, Some(mask)).await;
    let all = sync.heard().await;
    assert_eq!((all.entries.len(), all.entry_revisions.len(), all.more), (500, 0, false));
    assert!(all.entries.iter().all(|entry| entry.spiffe_id.is_none() && entry.selectors.is_empty()));

    create(&host, (500..1201).map(|n| entry(&format!("e{n}"), "n")).collect()).await;
    let mut sync = Sync::begin(&agent, None).await;
    let mut revisions = BTreeMap::new();
    let mut pages = Vec::new();
    loop {
        let page = sync.heard().await;
        assert!(page.entries.is_empty());
        pages.push(page.entry_revisions.len());
        revisions.extend(page.entry_revisions.into_iter().map(|r| (r.id.clone(), r)));
        if !page.more {
            break;
        }
    }
    assert_eq!((pages, revisions.len()), (vec![500, 500, 201], 1201));
    let entries = sync.ask(&["e7", "e1200", "theirs", "nobody", "../x"]).await;
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["e7", "e1200"]), "another node's entry is not there");
    for entry in &entries {
        let revision = &revisions[&entry.id];
        assert_eq!(
            (entry.revision_number, entry.created_at),
            (revision.revision_number, revision.created_at)
        );
    }
    let ids: Vec<String> = revisions.keys().cloned().collect();
    assert_eq!(sync.ask(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await.len(), 1201);

    host.admin().await.ban_node("n").await.unwrap();
    let ids = vec!["e7".to_owned()];
    sync.say.send(SyncAuthorizedEntriesRequest { output_mask: None, ids }).await.unwrap();
    let denied = sync.answers.next().await.unwrap().unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "a ban ends a conversation that began before it");
    let mut client = EntryClient::new(other.channel().await);
    let own =
        client.get_authorized_entries(GetAuthorizedEntriesRequest::default()).await.unwrap().into_inner();
    assert_eq!(own.entries.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["theirs"]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_says_who_an_svid_is_for_and_the_request_only_gives_the_key() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    host.agent("other").await;
    let mut mine = entry("mine", "n");
    mine.dns_names = vec!["mine.example".into()];
    create(&host, vec![mine, entry("theirs", "other")]).await;
    let csr = |uri: &str| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let mut forged = csr("spiffe://acme.example/mine");
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let params = [
        ("mine", csr("spiffe://acme.example/spire/server"), Code::Ok),
        ("theirs", csr("spiffe://acme.example/mine"), Code::NotFound),
        ("mine", forged, Code::InvalidArgument),
        ("", csr("spiffe://acme.example/mine"), Code::NotFound),
        ("mine", Vec::new(), Code::InvalidArgument),
        ("mine", csr("spiffe://acme.example/theirs"), Code::Ok),
    ];
    let mut client = SvidClient::new(agent.channel().await);
    let ask = |items: &[(&str, Vec<u8>, Code)]| BatchNewX509svidRequest {
        params: items
            .iter()
            .map(|(entry, csr, _)| NewX509svidParams { entry_id: (*entry).into(), csr: csr.clone().into() })
            .collect(),
    };
    let results = client.batch_new_x509svid(ask(&params)).await.unwrap().into_inner().results;
    for (result, (entry, _, expected)) in results.iter().zip(&params) {
        assert_eq!(Code::from_i32(result.status.as_ref().unwrap().code), *expected, "{entry}");
        assert_eq!(result.svid.is_some(), *expected == Code::Ok);
        if let Some(made) = &result.svid {
            let chain = ders(made.cert_chain.iter().map(|der| der.to_vec()).collect());
            assert_eq!(
                svid::verify(&chain, &agent.bundles, now()).unwrap().as_str(),
                "spiffe://acme.example/mine"
            );
        }
    }
    let none = client.batch_new_x509svid(BatchNewX509svidRequest::default()).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    for (entry, expected) in [("mine", None), ("theirs", Some(Code::NotFound))] {
        let request = NewJwtsvidRequest { entry_id: entry.into(), audience: vec!["a".into()] };
        let answer = client.new_jwtsvid(request).await;
        assert_eq!(answer.as_ref().err().map(tonic::Status::code), expected, "{answer:?}");
        if let Ok(answer) = answer {
            let svid = answer.into_inner().svid.unwrap();
            assert!(svid.issued_at > 0 && svid.expires_at > svid.issued_at);
            assert_eq!((svid.token.split('.').count(), svid.id), (3, id("/mine")));
        }
    }
    host.stop().await;
}

/// One thing checked many times, with another in its place: each item is judged by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_illegal_item_is_refused_wherever_it_stands_in_its_batch() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    create(&host, (0..5).map(|n| entry(&format!("e{n}"), "n")).collect()).await;
    let foreign: Vec<Foreign> = (0..5).map(|n| Foreign::new(&format!("f{n}.example"))).collect();
    let mut svids = SvidClient::new(agent.channel().await);
    let mut bundles = BundleClient::new(private(&host).await);
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    for illegal in 0..5 {
        let only = |n: usize, code: Code| if n == illegal { code } else { Code::Ok };
        let expected = |code: Code| (0..5).map(|n| only(n, code)).collect::<Vec<_>>();
        let mut wanted: Vec<Entry> = (0..5).map(|n| entry(&format!("b{illegal}-{n}"), "n")).collect();
        wanted[illegal].spiffe_id = id("/spire/server");
        assert_eq!(create(&host, wanted).await, expected(Code::InvalidArgument));

        let params = (0..5).map(|n| NewX509svidParams {
            entry_id: if n == illegal { "nobody".into() } else { format!("e{n}") },
            csr: csr.clone().into(),
        });
        let request = BatchNewX509svidRequest { params: params.collect() };
        let results = svids.batch_new_x509svid(request).await.unwrap().into_inner().results;
        let codes = results.iter().map(|r| Code::from_i32(r.status.as_ref().unwrap().code));
        assert_eq!(codes.collect::<Vec<_>>(), expected(Code::NotFound));
        for (n, result) in results.iter().enumerate().filter(|(n, _)| *n != illegal) {
            assert_eq!(result.svid.as_ref().unwrap().id, id(&format!("/e{n}")));
        }

        let mut wanted: Vec<Bundle> = foreign.iter().map(Foreign::bundle).collect();
        wanted[illegal].trust_domain = "acme.example".into();
        let request = BatchCreateFederatedBundleRequest { bundle: wanted, output_mask: None };
        let results = bundles.batch_create_federated_bundle(request).await.unwrap().into_inner().results;
        let codes = results.iter().map(|r| Code::from_i32(r.status.as_ref().unwrap().code));
        assert_eq!(codes.collect::<Vec<_>>(), expected(Code::InvalidArgument));
        let trust_domains = (0..5).map(|n| format!("f{n}.example")).collect();
        let request = BatchDeleteFederatedBundleRequest { trust_domains, mode: 0 };
        let results = bundles.batch_delete_federated_bundle(request).await.unwrap().into_inner().results;
        let codes = results.iter().map(|r| Code::from_i32(r.status.as_ref().unwrap().code));
        assert_eq!(codes.collect::<Vec<_>>(), expected(Code::NotFound));
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_bundle_reaches_the_agents_of_those_who_federate_and_no_other() {
    let host = Host::start().await;
    let (agent, other) = (host.agent("n").await, host.agent("other").await);
    let mut federating = entry("e", "n");
    federating.federates_with = vec!["other.example".into()];
    assert_eq!(create(&host, vec![federating.clone()]).await, [Code::FailedPrecondition]);
    let foreign = Foreign::new("other.example");
    foreign.set(&host).await;
    assert_eq!(create(&host, vec![federating]).await, [Code::Ok]);
    let request = || GetFederatedBundleRequest { trust_domain: "other.example".into(), output_mask: None };
    let seen = BundleClient::new(agent.channel().await).get_federated_bundle(request()).await.unwrap();
    assert_eq!(seen.into_inner(), foreign.bundle());
    let unseen = BundleClient::new(other.channel().await).get_federated_bundle(request()).await;
    assert_eq!(unseen.unwrap_err().code(), Code::NotFound);

    let mut admin = BundleClient::new(private(&host).await);
    let own = admin.get_bundle(GetBundleRequest::default()).await.unwrap().into_inner();
    assert!(!own.x509_authorities.is_empty() && !own.jwt_authorities.is_empty() && own.sequence_number > 0);
    assert!(own.jwt_authorities.iter().all(|key| key.expires_at > 0 && !key.tainted));
    let huge = ListFederatedBundlesRequest { page_size: i32::MAX, ..Default::default() };
    let listed = admin.list_federated_bundles(huge).await.unwrap().into_inner();
    assert_eq!((listed.bundles, listed.next_page_token), (vec![foreign.bundle()], String::new()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_mints_any_workloads_svid_and_nobody_elses() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut client = SvidClient::new(private(&host).await);
    let csr = |uri: &str| {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(uri.try_into().unwrap()), SanType::DnsName("m.example".try_into().unwrap())];
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    for (uri, may) in [
        ("spiffe://acme.example/minted", true),
        ("spiffe://acme.example/spire/server", false),
        ("spiffe://acme.example/spire/agent/join_token/n", false),
        ("spiffe://acme.example/writ/any-node", false),
        ("spiffe://acme.example", false),
        ("spiffe://other.example/minted", false),
    ] {
        let request = MintX509svidRequest { csr: csr(uri).into(), ttl: 60 };
        let answer = client.mint_x509svid(request).await;
        assert_eq!(answer.is_ok(), may, "{uri}: {answer:?}");
        if let Ok(answer) = answer {
            let made = answer.into_inner().svid.unwrap();
            let chain = ders(made.cert_chain.iter().map(|der| der.to_vec()).collect());
            assert_eq!(svid::verify(&chain, &agent.bundles, now()).unwrap().as_str(), uri);
            assert!(made.expires_at <= now().unix_seconds() + 60);
        }
        let parts: spiffe::TrustDomain =
            uri.trim_start_matches("spiffe://").split('/').next().unwrap().parse().unwrap();
        let path = &uri["spiffe://".len() + parts.as_str().len()..];
        let asked = Some(Spiffeid { trust_domain: parts.to_string(), path: path.into() });
        let request = MintJwtsvidRequest { id: asked, audience: vec!["a".into()], ttl: 0 };
        assert_eq!(client.mint_jwtsvid(request).await.is_ok(), may, "{uri}");
    }
    let bare = MintX509svidRequest { csr: crate::support::csr(&agent.key).into(), ttl: 0 };
    assert_eq!(client.mint_x509svid(bare).await.unwrap_err().message(), "CSR URI SAN is required");
    let info = DebugClient::new(private(&host).await).get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.agents_count, info.entries_count, info.federated_bundles_count), (1, 0, 0));
    let chain: Vec<_> = info.svid_chain.into_iter().map(|cert| cert.id).collect();
    assert_eq!(chain, [id("/spire/server"), id("")]);
    host.stop().await;
}
