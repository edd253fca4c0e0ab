//! Handshakes in memory: what one side may do to the other.

use std::{
    io::{Read, Write},
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use rustls::{
    AlertDescription, ClientConnection, HandshakeKind, ServerConnection, SupportedProtocolVersion,
    version::TLS12,
};

use super::*;
use rustls_pki_types::ServerName;

use crate::{
    Bundles,
    test_pki::{Authority, HOUR, Leaf, NOW, bundle},
};

const SERVER: &str = "spiffe://acme.example/server";
const CLIENT: &str = "spiffe://acme.example/client";

/// A trust domain whose bundle and clock a test may change between handshakes.
struct World {
    root: Authority,
    bundles: Arc<Mutex<Arc<Bundles>>>,
    now: Arc<AtomicI64>,
}

impl World {
    fn new() -> Self {
        let root = Authority::root("root", |_| {});
        let bundles = Arc::new([bundle("acme.example", &[&root.der])].into_iter().collect());
        let now = Arc::new(AtomicI64::new(NOW.unix_millis()));
        Self { root, bundles: Arc::new(Mutex::new(bundles)), now }
    }

    fn trust(&self, bundles: Bundles) {
        *self.bundles.lock().unwrap() = Arc::new(bundles);
    }

    fn verifier(&self, expected: Expected) -> SvidVerifier {
        let (bundles, now) = (self.bundles.clone(), self.now.clone());
        let bundles = Arc::new(move || bundles.lock().unwrap().clone());
        let now = Arc::new(move || Timestamp::from_unix_millis(now.load(Ordering::Relaxed)));
        SvidVerifier::new(bundles, now, expected)
    }

    fn server(&self) -> ServerConfig {
        self.server_for(self.verifier(anyone()))
    }

    fn server_for(&self, verifier: SvidVerifier) -> ServerConfig {
        server_config(Arc::new(verifier), identity(&self.root.leaf(SERVER, |_| {}))).unwrap()
    }

    fn client(&self, leaf: Option<&Leaf>) -> ClientConfig {
        let identity = leaf.map(|leaf| identity(leaf) as Arc<dyn ResolvesClientCert>);
        client_config(Arc::new(self.verifier(anyone())), identity).unwrap()
    }

    fn svid(&self, id: &str) -> Leaf {
        self.root.leaf(id, |_| {})
    }
}

fn anyone() -> Expected {
    Expected::AnyIn("acme.example".parse().unwrap())
}

fn identity(leaf: &Leaf) -> Arc<SingleCertAndKey> {
    fixed_identity(vec![leaf.der.clone()], &leaf.key).unwrap()
}

/// Lets both sides talk until neither has anything to say; the first error ends it.
fn connect(
    client: ClientConfig,
    server: &Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from("10.0.0.1").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(server.clone())?;
    while client.wants_write() || server.wants_write() {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        server.read_tls(&mut to_server.as_slice()).unwrap();
        let heard = server.process_new_packets();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        client.read_tls(&mut to_client.as_slice()).unwrap();
        client.process_new_packets()?;
        heard?;
    }
    Ok((client, server))
}

fn peer_of(server: &ServerConnection) -> Option<PeerSvid> {
    peer_svid(server.peer_certificates()).unwrap()
}

#[test]
fn two_workloads_know_each_other_after_a_handshake() {
    let world = World::new();
    let svid = world.svid(CLIENT);
    let (mut client, mut server) = connect(world.client(Some(&svid)), &Arc::new(world.server())).unwrap();
    let leaf = Certificate::parse(&svid.der).unwrap();
    let peer = peer_of(&server).unwrap();
    assert_eq!(peer.id.as_str(), CLIENT);
    assert_eq!(peer.not_after, NOW + std::time::Duration::from_secs(HOUR.unsigned_abs()));
    assert_eq!((peer.serial, peer.public_key_sha256), (leaf.serial_hex(), leaf.public_key_sha256_hex()));
    assert_eq!(peer_svid(client.peer_certificates()).unwrap().unwrap().id.as_str(), SERVER);
    assert_eq!((client.alpn_protocol(), server.alpn_protocol()), (Some(ALPN_H2), Some(ALPN_H2)));
    client.writer().write_all(b"hello").unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    let mut heard = [0; 5];
    server.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

#[test]
fn a_client_without_svid_gets_in_only_where_it_may() {
    let world = World::new();
    assert!(connect(world.client(None), &Arc::new(world.server())).is_err());
    let open = Arc::new(world.server_for(world.verifier(anyone()).client_may_be_anonymous()));
    let (_, server) = connect(world.client(None), &open).unwrap();
    assert_eq!(peer_of(&server), None);
    let stranger = Authority::root("stranger", |_| {}).leaf(CLIENT, |_| {});
    assert!(
        connect(world.client(Some(&stranger)), &open).is_err(),
        "whoever shows an SVID must show a good one"
    );
}

#[test]
fn a_peer_that_was_not_meant_is_refused_whichever_side_it_is_on() {
    let world = World::new();
    let svid = world.svid(CLIENT);
    for (expected, let_in) in [
        (Expected::Exactly(CLIENT.parse().unwrap()), true),
        (Expected::Exactly(SERVER.parse().unwrap()), false),
        (Expected::AnyIn("other.example".parse().unwrap()), false),
        (Expected::Matching(Arc::new(|id| id.path() == "/client")), true),
        (Expected::Matching(Arc::new(|_| false)), false),
    ] {
        let server = Arc::new(world.server_for(world.verifier(expected)));
        assert_eq!(connect(world.client(Some(&svid)), &server).is_ok(), let_in);
    }
    let other = Arc::new(world.verifier(Expected::Exactly("spiffe://acme.example/other".parse().unwrap())));
    let client = client_config(other, Some(identity(&svid))).unwrap();
    assert!(connect(client, &Arc::new(world.server())).is_err());
}

#[test]
fn foreign_expired_and_borrowed_certificates_are_refused() {
    let world = World::new();
    let server = Arc::new(world.server());
    let foreign = Authority::root("root", |_| {}).leaf(CLIENT, |_| {});
    assert!(connect(world.client(Some(&foreign)), &server).is_err());
    let svid = world.svid(CLIENT);
    world.now.store((NOW.unix_seconds() + HOUR + 1) * 1000, Ordering::Relaxed);
    assert!(connect(world.client(Some(&svid)), &server).is_err());
    world.now.store(NOW.unix_millis(), Ordering::Relaxed);
    let foreign_key = certified_key(vec![svid.der.clone()], &svid.key).unwrap().key;
    let borrowed = CertifiedKey::new(vec![world.svid(SERVER).der], foreign_key);
    let identity = Arc::new(SingleCertAndKey::from(borrowed));
    let thief = client_config(Arc::new(world.verifier(anyone())), Some(identity)).unwrap();
    assert!(connect(thief, &server).is_err(), "the certificate is another's");
    assert!(connect(world.client(Some(&svid)), &server).is_ok());
}

#[test]
fn a_key_that_is_not_the_certificates_makes_no_identity() {
    let world = World::new();
    let (one, other) = (world.svid(CLIENT), world.svid(CLIENT));
    assert!(certified_key(vec![one.der.clone()], &one.key).is_ok());
    assert!(certified_key(vec![one.der], &other.key).is_err());
    assert!(certified_key(Vec::new(), &other.key).is_err());
}

#[test]
fn a_bundle_that_changes_counts_from_the_next_handshake_on() {
    let world = World::new();
    let (svid, server) = (world.svid(CLIENT), Arc::new(world.server()));
    assert!(connect(world.client(Some(&svid)), &server).is_ok());
    let next = Authority::root("next", |_| {});
    world.trust([bundle("acme.example", &[&next.der])].into_iter().collect());
    assert!(connect(world.client(Some(&svid)), &server).is_err());
    world.trust([bundle("acme.example", &[&next.der, &world.root.der])].into_iter().collect());
    assert!(connect(world.client(Some(&svid)), &server).is_ok());
    world.trust(Bundles::default());
    assert!(connect(world.client(Some(&svid)), &server).is_err());
}

#[test]
fn no_session_is_ever_resumed() {
    let world = World::new();
    let svid = world.svid(CLIENT);
    let server = Arc::new(world.server());
    let mut eager = world.client(Some(&svid));
    eager.resumption = Resumption::in_memory_sessions(8); // a client that would if it could
    for _ in 0..3 {
        let (client, served) = connect(eager.clone(), &server).unwrap();
        assert_eq!(client.tls13_tickets_received(), 0);
        assert_ne!(served.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn a_client_that_tries_to_resume_after_its_authority_was_revoked_is_refused() {
    let world = World::new();
    let svid = world.svid(CLIENT);
    let mut eager = world.client(Some(&svid));
    eager.resumption = Resumption::in_memory_sessions(8);
    let shown = identity(&world.root.leaf("spiffe://acme.example/server", |_| {}));
    let again = |server: ServerConfig, eager: &ClientConfig| {
        let server = Arc::new(server);
        let (mut client, mut served) = connect(eager.clone(), &server).unwrap();
        // The tickets, if any, come after the handshake.
        served.writer().write_all(b"hello").unwrap();
        let mut to_client = Vec::new();
        served.write_tls(&mut to_client).unwrap();
        client.read_tls(&mut to_client.as_slice()).unwrap();
        client.process_new_packets().unwrap();
        world.trust(Bundles::default());
        let second = connect(eager.clone(), &server);
        world.trust([bundle("acme.example", &[&world.root.der])].into_iter().collect());
        second.map(|(client, _)| client.handshake_kind())
    };
    // A server that hands tickets out would take it back without asking the bundle: this client does try.
    let mut loose = world.server();
    loose.send_tls13_tickets = 2;
    loose.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    loose.cert_resolver = shown;
    assert_eq!(again(loose, &eager), Ok(Some(HandshakeKind::Resumed)));
    eager.resumption = Resumption::in_memory_sessions(8);
    assert!(again(world.server(), &eager).is_err());
}

#[test]
fn tls_1_2_is_not_spoken() {
    let world = World::new();
    let only: &[&'static SupportedProtocolVersion] = &[&TLS12];
    let old = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(only)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(world.verifier(anyone())))
        .with_client_cert_resolver(identity(&world.svid(CLIENT)));
    let refused = connect(old, &Arc::new(world.server())).unwrap_err();
    assert_eq!(refused, Error::AlertReceived(AlertDescription::ProtocolVersion));
}

#[test]
fn a_stranger_learns_nothing_but_an_alert_from_a_refusal() {
    let world = World::new();
    let foreign = Authority::root("root", |_| {}).leaf(CLIENT, |_| {});
    let mut client =
        ClientConnection::new(Arc::new(world.client(Some(&foreign))), ServerName::try_from("x").unwrap())
            .unwrap();
    let mut server = ServerConnection::new(Arc::new(world.server())).unwrap();
    let mut alert = None;
    for _ in 0..4 {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        server.read_tls(&mut to_server.as_slice()).unwrap();
        let _ = server.process_new_packets();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        client.read_tls(&mut to_client.as_slice()).unwrap();
        alert = alert.or(client.process_new_packets().err());
    }
    assert!(matches!(alert, Some(Error::AlertReceived(_))), "{alert:?}");
}

#[test]
fn the_insecure_client_takes_any_server_that_has_its_key() {
    let world = World::new();
    let open = Arc::new(world.server_for(world.verifier(anyone()).client_may_be_anonymous()));
    world.trust([bundle("acme.example", &[])].into_iter().collect());
    assert!(connect(insecure_client_config_without_server_identity().unwrap(), &open).is_ok());
}
