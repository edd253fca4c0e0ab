//! Authorities turn, by themselves and because somebody says so, while everything goes on: streams see no
//! gap, connections stay open, and whatever is handed out verifies against what is known at that moment.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper_util::rt::TokioIo;
use integration_tests::Folder;
use integration_tests::daemon::{Agent, Server};
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::workload::{JwtsvidRequest, ValidateJwtsvidRequest, X509svidRequest, X509svidResponse};
use rustls::pki_types::{CertificateDer, ServerName};
use spiffe::tls::{Expected, SvidVerifier, client_config, fixed_identity, server_config};
use spiffe::x509::{Certificate, svid};
use spiffe::{Bundle, Bundles, PrivateKey, Timestamp, TrustDomain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::{SOON, own_uid};

/// An authority is prepared after 15 s and takes over after 25 s; what it signs lives 5 s.
const TINY: &str = "ca_ttl = \"30s\"\n";
const PAUSE: Duration = Duration::from_millis(100);
/// Three turns by themselves, and time to spare.
const LONGEST: Duration = Duration::from_secs(140);

/// What the stream says at this moment.
struct Now {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    bundles: Arc<Bundles>,
    not_after: Timestamp,
}

/// What everybody in the story shares.
#[derive(Default)]
struct Seen {
    now: Mutex<Option<Arc<Now>>>,
    /// The key identifiers of those who signed, in the order in which they came.
    signers: Mutex<Vec<String>>,
    kids: Mutex<Vec<String>>,
    handshakes: AtomicU64,
    over: AtomicBool,
}

impl Seen {
    fn latest(&self) -> Option<Arc<Now>> {
        self.now.lock().expect("nobody panics with it").clone()
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn note(list: &Mutex<Vec<String>>, name: String) {
        let mut list = list.lock().expect("nobody panics with it");
        if list.last() != Some(&name) {
            list.push(name);
        }
    }

    fn last(list: &Mutex<Vec<String>>) -> String {
        list.lock().expect("nobody panics with it").last().cloned().unwrap_or_default()
    }

    fn count(list: &Mutex<Vec<String>>) -> usize {
        list.lock().expect("nobody panics with it").iter().collect::<BTreeSet<_>>().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_authorities_turn() {
    let server = Server::start(TINY);
    let agent = Agent::join(&server, "node", Folder::new());
    let parent = "spiffe://writ.local/spire/agent/join_token/node";
    let entry = ["entry", "create", "--spiffe-id", "/w", "--parent", parent, "--selector", &own_uid()];
    let _ = server.run(&entry).done();
    let socket = agent.workload_socket();
    let seen = Arc::new(Seen::default());
    let mut load = vec![tokio::spawn(stream(workload(&socket).await, seen.clone()))];
    until("the first SVID", &seen, |seen| seen.latest().is_some()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has one").to_string();
    load.push(tokio::spawn(echo(listener, seen.clone())));
    load.push(tokio::spawn(stay(address.clone(), seen.clone())));
    load.push(tokio::spawn(come_and_go(address, seen.clone())));
    load.push(tokio::spawn(tokens(workload(&socket).await, seen.clone())));
    until("the first token", &seen, |seen| Seen::count(&seen.kids) > 0).await;

    // Somebody forces both.
    for (used_for, list) in [("x509", &seen.signers), ("jwt", &seen.kids)] {
        let old = Seen::last(list);
        let prepared = server.run(&["authority", "prepare", used_for, "--output", "json"]).done().json();
        let new = prepared["prepared"].as_str().expect("it names the new one").to_owned();
        let _ = server.run(&["authority", "activate", &new]).done();
        let untainted = server.run(&["authority", "revoke", &old]).refused();
        assert!(untainted.contains("taint it first"), "{untainted}");
        let _ = server.run(&["authority", "taint", &old]).done();
        until("everything is under the new authority", &seen, |_| Seen::last(list) == new).await;
        settle(&seen, list, &new).await;
        let _ = server.run(&["authority", "revoke", &old]).done();
        let bundle = server.run(&["bundle", "show", "--output", "json"]).done().out;
        assert!(used_for == "x509" || !bundle.contains(&old), "it is published no more: {bundle}");
        let left = server.run(&["authority", "list", "--output", "json"]).done().out;
        assert!(left.contains(&new) && !left.contains(&old), "{left}");
    }
    // And they turn by themselves.
    let began = Instant::now();
    while Seen::count(&seen.signers) < 4 || Seen::count(&seen.kids) < 4 {
        assert!(began.elapsed() < LONGEST, "{:?} {:?}", seen.signers, seen.kids);
        if let Some(ended) = load.iter_mut().find(|task| task.is_finished()) {
            panic!("the load ended early: {:?}", ended.await);
        }
        sleep(PAUSE).await;
    }
    seen.over.store(true, Ordering::Relaxed);
    for task in load {
        tokio::time::timeout(SOON, task).await.expect("it ends").expect("it saw no gap");
    }
    assert!(seen.handshakes.load(Ordering::Relaxed) > 50, "new connections were made all the time");
}

/// The ids of the authorities of one use, those that sign first.
fn authorities(server: &Server, used_for: &str) -> (Vec<String>, BTreeSet<String>) {
    let listed = server.run(&["authority", "list", "--output", "json"]).done().json();
    let own = listed["authorities"].as_array().expect("a list").iter();
    let own: Vec<_> = own.filter(|authority| authority["use"] == used_for).collect();
    let id = |authority: &&serde_json::Value| authority["id"].as_str().expect("an id").to_owned();
    let active = own.iter().filter(|authority| authority["slot"] == "active").map(id).collect();
    (active, own.iter().filter(|authority| authority["slot"] != "prepared").map(id).collect())
}

#[test]
fn a_server_that_is_killed_in_a_turn_has_one_authority_that_signs_and_keeps_the_old_ones() {
    let mut server = Server::start("");
    let mut known = ["x509", "jwt"].map(|used_for| authorities(&server, used_for).1);
    for cycle in 0..12_u64 {
        let socket = server.socket();
        let turning = std::thread::spawn(move || {
            for used_for in ["x509", "jwt"] {
                let ask = |arguments: &[&str]| {
                    let mut command = integration_tests::writ_command();
                    let asked = command.args(arguments).args(["--output", "json", "--socket"]).arg(&socket);
                    let answer = asked.output().expect("writ can be started");
                    serde_json::from_slice::<serde_json::Value>(&answer.stdout).ok()
                };
                // From the moment of the kill on, nobody answers.
                let Some(prepared) = ask(&["authority", "prepare", used_for]) else { return };
                let new = prepared["prepared"].as_str().expect("it names the new one");
                let _ = ask(&["authority", "activate", new]);
            }
        });
        std::thread::sleep(Duration::from_millis(37 * cycle % 400));
        server.kill_and_start();
        turning.join().expect("it ends when nobody answers");
        for (used_for, known) in ["x509", "jwt"].into_iter().zip(&mut known) {
            let (active, signed) = authorities(&server, used_for);
            assert_eq!(active.len(), 1, "{used_for} in cycle {cycle}: {active:?}");
            assert!(signed.is_superset(known), "{used_for} in cycle {cycle}: {known:?} became {signed:?}");
            *known = signed;
        }
        let bundle = server.run(&["bundle", "show", "--output", "json"]).done().out;
        assert!(known[1].iter().all(|kid| bundle.contains(kid)), "cycle {cycle}: {bundle}");
    }
    assert!(known.iter().any(|signed| signed.len() > 1), "no turn was ever done");
}

/// Waits for something that is to be seen soon.
async fn until(what: &str, seen: &Seen, mut is_so: impl FnMut(&Seen) -> bool) {
    let began = Instant::now();
    while !is_so(seen) {
        assert!(began.elapsed() < SOON, "never: {what}");
        sleep(PAUSE / 4).await;
    }
}

/// Waits until nothing else than `wanted` has been seen for a while: no token of the old key is under way.
async fn settle(seen: &Seen, list: &Mutex<Vec<String>>, wanted: &str) {
    let mut quiet = Instant::now();
    let began = Instant::now();
    while quiet.elapsed() < 10 * PAUSE {
        assert!(began.elapsed() < 2 * SOON, "it does not settle: {:?}", seen.kids);
        if Seen::last(list) != wanted {
            quiet = Instant::now();
        }
        sleep(PAUSE / 4).await;
    }
}

async fn workload(socket: &Path) -> SpiffeWorkloadApiClient<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://workload.invalid").connect_with_connector(connector).await;
    SpiffeWorkloadApiClient::new(channel.expect("the agent listens"))
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().expect("it is ASCII"));
    request
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    Timestamp::from_unix_millis(since.as_millis().try_into().expect("it is before the year 292 million"))
}

/// A stream of SVIDs: each comes before its predecessor ends and verifies against the bundle beside it.
async fn stream(mut workload: SpiffeWorkloadApiClient<Channel>, seen: Arc<Seen>) {
    let stream = workload.fetch_x509svid(asked(X509svidRequest {})).await.expect("it is served");
    let mut stream = stream.into_inner();
    while seen.goes_on() {
        let message = match tokio::time::timeout(SOON, stream.message()).await {
            Ok(message) => message.expect("the stream goes on").expect("the stream goes on"),
            Err(_) if seen.over.load(Ordering::Relaxed) => return,
            Err(_) => panic!("nothing came for {SOON:?}"),
        };
        let told = read(&message);
        let (leaf, at) = (Certificate::parse(&told.chain[0]).expect("a certificate"), now());
        svid::verify(&told.chain, &told.bundles, at).expect("it verifies against the bundle beside it");
        if let Some(before) = seen.latest() {
            assert!(at < before.not_after, "a gap: {at} is after {}", before.not_after);
        }
        let signer = leaf.authority_key_id().expect("it names its signer");
        let signer = signer.iter().map(|byte| format!("{byte:02x}")).collect();
        Seen::note(&seen.signers, signer);
        *seen.now.lock().expect("nobody panics with it") = Some(Arc::new(told));
    }
}

fn read(message: &X509svidResponse) -> Now {
    let svid = &message.svids[0];
    let chain = ders(&svid.x509_svid);
    let trust_domain: TrustDomain = "writ.local".parse().expect("a trust domain");
    let bundle = Bundle { x509_authorities: ders(&svid.bundle), ..Bundle::empty(trust_domain) };
    let not_after = Certificate::parse(&chain[0]).expect("a certificate").not_after();
    let key = PrivateKey::from_pkcs8(svid.x509_svid_key.to_vec()).expect("a key");
    Now { chain, key, bundles: Arc::new([bundle].into_iter().collect()), not_after }
}

/// Certificates one after the other.
fn ders(mut bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut ders = Vec::new();
    while !bytes.is_empty() {
        let (rest, _) = x509_parser::parse_x509_certificate(bytes).expect("certificates");
        ders.push(CertificateDer::from(bytes[..bytes.len() - rest.len()].to_vec()));
        bytes = rest;
    }
    ders
}

fn verifier(held: &Arc<Now>) -> Arc<SvidVerifier> {
    let (bundles, expected) = (held.bundles.clone(), "writ.local".parse().expect("a trust domain"));
    Arc::new(SvidVerifier::new(Arc::new(move || bundles.clone()), Arc::new(now), Expected::AnyIn(expected)))
}

/// A workload that answers with what it hears, over mutual TLS.
async fn echo(listener: TcpListener, seen: Arc<Seen>) {
    while seen.goes_on() {
        let Ok(accepted) = tokio::time::timeout(PAUSE, listener.accept()).await else { continue };
        let (tcp, _) = accepted.expect("connections come");
        let held = seen.latest().expect("there is an SVID by now");
        let identity = fixed_identity(held.chain.clone(), &held.key).expect("they belong together");
        let config = server_config(verifier(&held), identity).expect("TLS can be set up");
        tokio::spawn(async move {
            let mut tls = TlsAcceptor::from(Arc::new(config)).accept(tcp).await.expect("the peer is known");
            let mut byte = [0];
            while tls.read_exact(&mut byte).await.is_ok() {
                tls.write_all(&byte).await.expect("the peer listens");
            }
        });
    }
}

async fn connect(address: &str, seen: &Seen) -> tokio_rustls::client::TlsStream<TcpStream> {
    let held = seen.latest().expect("there is an SVID by now");
    let identity = fixed_identity(held.chain.clone(), &held.key).expect("they belong together");
    let config = client_config(verifier(&held), Some(identity)).expect("TLS can be set up");
    let tcp = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("workload.invalid").expect("it is a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("the peer is known")
}

async fn ask(tls: &mut tokio_rustls::client::TlsStream<TcpStream>) {
    let mut byte = [7];
    tls.write_all(&byte).await.expect("the connection stays open");
    tls.read_exact(&mut byte).await.expect("the connection stays open");
}

/// One connection for the whole time.
async fn stay(address: String, seen: Arc<Seen>) {
    let mut tls = connect(&address, &seen).await;
    while seen.goes_on() {
        ask(&mut tls).await;
        sleep(PAUSE).await;
    }
}

/// A new connection each time.
async fn come_and_go(address: String, seen: Arc<Seen>) {
    while seen.goes_on() {
        ask(&mut connect(&address, &seen).await).await;
        seen.handshakes.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

/// Tokens for one audience after the other, each validated.
async fn tokens(mut workload: SpiffeWorkloadApiClient<Channel>, seen: Arc<Seen>) {
    for number in 0_u64.. {
        if !seen.goes_on() {
            return;
        }
        let audience = format!("a{}", number % 3);
        let request = JwtsvidRequest { audience: vec![audience.clone()], spiffe_id: String::new() };
        let token = workload.fetch_jwtsvid(asked(request)).await.expect("a token is there at any time");
        let svid = token.into_inner().svids.remove(0).svid;
        Seen::note(&seen.kids, spiffe::jwt::Compact::parse(&svid).expect("a token").kid.expect("a kid"));
        let request = ValidateJwtsvidRequest { audience, svid };
        let valid = workload.validate_jwtsvid(asked(request)).await.expect("it is valid");
        assert_eq!(valid.into_inner().spiffe_id, "spiffe://writ.local/w");
        sleep(PAUSE / 2).await;
    }
}
