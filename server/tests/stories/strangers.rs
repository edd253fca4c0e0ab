//! What those get who have no business here.

use std::{sync::Arc, time::Duration};

use registry::objects::well_known;
use server_api::{CallError, admin, connect::connect, node};
use spiffe::{Bundle, Bundles, PrivateKey, Timestamp};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tonic::Code;

use crate::support::{Agent, Host, SOON, View, ders, now, order, tls};

/// A certificate for `id` by an authority of our own making.
fn forged(id: &str, not_after: Timestamp) -> (Vec<rustls::pki_types::CertificateDer<'static>>, PrivateKey) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let issuer = rcgen::Issuer::new(params, authority);
    let key = PrivateKey::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::default();
    leaf.subject_alt_names = vec![rcgen::SanType::URI(id.try_into().unwrap())];
    leaf.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    leaf.not_after = time::OffsetDateTime::from_unix_timestamp(not_after.unix_seconds()).unwrap();
    let public = rcgen::SubjectPublicKeyInfo::from_der(&key.public_key().unwrap()).unwrap();
    (ders(vec![leaf.signed_by(&public, &issuer).unwrap().der().to_vec()]), key)
}

async fn bundles(host: &Host) -> Arc<Bundles> {
    Arc::new([host.bundle(&host.serving.pin).await].into_iter().collect())
}

fn is_cut(error: &CallError) -> bool {
    matches!(error, CallError::Unavailable(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_with_the_right_name_is_refused_in_the_handshake() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let (chain, key) = forged(agent.id().as_str(), now() + Duration::from_secs(600));
    let forger = Agent { chain, key, ..agent.clone() };
    assert!(is_cut(&forger.sign(&[]).await.unwrap_err()));
    agent.sign(&[]).await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_and_ends_what_it_began() {
    let host = Host::start_with(|config| config.agent_ttl = Duration::from_secs(2)).await;
    let agent = host.agent("n").await;
    let mut view = View::follow(&agent, None).await.unwrap();
    view.step().await.unwrap();
    let error = view.until_end().await; // a heartbeat later at the latest
    assert!(matches!(error, CallError::Agent { .. }), "{error:?}");
    assert!(is_cut(&agent.sign(&[]).await.unwrap_err()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nothing_but_joining_and_the_signed_bundle_is_served() {
    let host = Host::start().await;
    let channel = connect(&host.address(), tls(&bundles(&host).await, None)).await.unwrap();
    let mut stranger = node::Client::new(channel.clone());
    stranger.bundle().await.unwrap();
    let denied = |error: &CallError| matches!(error, CallError::Refused { code: Code::PermissionDenied, message } if message == "not allowed");
    assert!(denied(&stranger.sign(&[order("e")]).await.unwrap_err()));
    assert!(denied(&stranger.follow(None, None).await.err().unwrap()));
    let mut admin = admin::Client::new(channel);
    assert!(denied(&admin.status().await.unwrap_err()));
    assert!(denied(&admin.create_token("n", 0).await.err().unwrap()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_plain_workloads_are_no_administrators_and_admin_svids_are() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let body = |id: &str, admin: bool| {
        serde_json::json!({
            "id": id, "spiffe_id": format!("/{id}"), "parent": "n", "selectors": ["unix:uid:1"], "admin": admin,
        })
    };
    host.entry(body("plain", false)).await;
    host.entry(body("boss", true)).await;
    assert!(admin::Client::new(agent.channel().await).status().await.is_err());
    for (id, may) in [("plain", false), ("boss", true)] {
        let key = PrivateKey::generate().unwrap();
        let order = node::Order { entry: id.parse().unwrap(), public_key: key.public_key().unwrap() };
        let chain = agent.node().await.sign(&[order]).await.unwrap().remove(0).unwrap();
        let workload =
            Agent { chain: ders(chain.iter().map(|der| der.to_vec()).collect()), key, ..agent.clone() };
        assert_eq!(admin::Client::new(workload.channel().await).status().await.is_ok(), may, "{id}");
        assert!(workload.sign(&[]).await.is_err(), "a workload is no agent");
    }
    host.apply(admin::Mode::Delete, serde_json::json!("boss")).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_silence_end_and_others_are_served_meanwhile() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(host.serving.address).await.unwrap());
    }
    let mut local = Vec::new();
    for _ in 0..100 {
        local.push(UnixStream::connect(&host.serving.socket).await.unwrap());
    }
    let mut garbage = TcpStream::connect(host.serving.address).await.unwrap();
    garbage.write_all(&[0xff; 4096]).await.unwrap();
    let mut local_garbage = UnixStream::connect(&host.serving.socket).await.unwrap();
    local_garbage.write_all(&[0xff; 4096]).await.unwrap();

    agent.sign(&[]).await.unwrap();
    host.admin().await.status().await.unwrap();

    async fn ends(mut stream: impl tokio::io::AsyncRead + Unpin) {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "still open");
    }
    ends(garbage).await;
    ends(local_garbage).await;
    for stream in silent {
        ends(stream).await;
    }
    for stream in local {
        ends(stream).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_ten_megabytes_is_refused() {
    let host = Host::start().await;
    let huge = "x".repeat(10 * 1024 * 1024);
    let error = host.join(&huge, PrivateKey::generate().unwrap()).await.err().unwrap();
    assert!(matches!(error, CallError::Refused { .. } | CallError::Unavailable(_)), "{error:?}");
    let bodies = vec![bytes::Bytes::from(huge)];
    assert!(host.admin().await.apply(admin::Mode::Create, "entry", bodies).await.is_err());
    host.admin().await.status().await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_not_take_another_for_its_server() {
    let (host, other) = (Host::start().await, Host::start().await);
    let agent = host.agent("n").await;
    let misled = Agent { address: other.address(), ..agent };
    let connected = connect(&misled.address, tls(&misled.bundles, Some((&misled.chain, &misled.key)))).await;
    assert!(connected.is_err());
    let nobody: Arc<Bundles> =
        Arc::new([Bundle::empty("acme.example".parse().unwrap())].into_iter().collect());
    assert!(connect(&host.address(), tls(&nobody, None)).await.is_err());
    assert_eq!(
        well_known::server(&"acme.example".parse().unwrap()).as_str(),
        "spiffe://acme.example/spire/server"
    );
    host.stop().await;
    other.stop().await;
}
