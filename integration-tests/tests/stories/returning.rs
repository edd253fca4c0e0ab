//! Agents that come back when everything that they had has ended, and those that must not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::daemon::{Agent, Server};
use integration_tests::pki::Pki;
use integration_tests::workload::{Watch, Workload, ids};
use integration_tests::{Answer, Folder, Running, eventually, needs};
use registry::Revision;
use serde_json::Value;
use store::{Log as _, MacKey, Sqlite};
use tonic::Code;

use crate::{SOON, own_uid};

/// With back-offs between, on a loaded machine.
const BACK: Duration = Duration::from_secs(40);

/// An agent of `server` with one identity, which it serves.
async fn agent_with_identity(server: &Server, node: &str) -> (Agent, Watch) {
    let agent = Agent::join(server, node, Folder::new());
    entry(server, node);
    let stream = watch(&agent, node).await;
    (agent, stream)
}

fn entry(server: &Server, node: &str) {
    let path = format!("/{node}");
    let create = ["entry", "create", "--spiffe-id", &path, "--parent", node, "--selector", &own_uid()];
    let _ = server.run(&create).done();
}

/// A stream that has shown the node's identity.
async fn watch(agent: &Agent, node: &str) -> Watch {
    let opened = async {
        loop {
            if tokio::net::UnixStream::connect(agent.workload_socket()).await.is_ok() {
                let mut stream = Workload::connect(&agent.workload_socket()).await.watch();
                if let Ok(svids) = stream.next().await {
                    assert_eq!(ids(&svids), [format!("spiffe://writ.local/{node}")]);
                    return stream;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let opened = tokio::time::timeout(BACK, opened).await;
    opened.unwrap_or_else(|_| panic!("{node} has no identity\n{}", agent.log()))
}

/// The authorities that the server publishes.
fn authorities(server: &Server) -> BTreeSet<String> {
    let bundle = server.run(&["bundle", "show", "--output", "json"]).done().json();
    let keys = bundle["keys"].as_array().unwrap_or_else(|| panic!("a bundle has keys: {bundle}"));
    let x509 = keys.iter().filter(|key| key["use"] == "x509-svid");
    x509.map(|key| key["x5c"][0].as_str().expect("a certificate").to_owned()).collect()
}

fn problem(agent: &Agent) -> String {
    agent.status()["problem"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the agent says why it is out, in these words.
fn says(agent: &Agent, words: &str) {
    eventually(&format!("the agent says {words:?}"), BACK, || {
        let problem = problem(agent);
        (problem.contains(words) && agent.status()["connected"] == false).then_some(problem)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_off_for_longer_than_every_certificate_lives_comes_back_by_itself() {
    let server = Server::start("ca_ttl = \"12s\"\n");
    let before = authorities(&server);
    let (mut agent, _) = agent_with_identity(&server, "sleeper").await;
    agent.kill();
    eventually("every authority that the agent knew has gone", BACK, || {
        authorities(&server).is_disjoint(&before).then_some(())
    });
    agent.start_again(); // its token is spent
    let mut stream = watch(&agent, "sleeper").await;
    stream.until("a rotation goes on", BACK, |_| true).await;
    assert!(agent.log().contains("came back"), "{}", agent.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_machine_slept_comes_back_without_a_restart() {
    let server = Server::start("ca_ttl = \"12s\"\n");
    let before = authorities(&server);
    let (mut agent, _) = agent_with_identity(&server, "sleeper").await;
    agent.signal(nix::sys::signal::Signal::SIGSTOP);
    eventually("every authority that the agent knew has gone", BACK, || {
        authorities(&server).is_disjoint(&before).then_some(())
    });
    agent.signal(nix::sys::signal::Signal::SIGCONT);
    eventually("it is connected", BACK, || (agent.status()["connected"] == true).then_some(()));
    watch(&agent, "sleeper").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_servers_keys_in_memory_are_lost_a_new_authority_takes_over_without_a_seam() {
    let mut server = Server::start("ca_keys = \"memory\"\nca_ttl = \"36s\"\n");
    let (agent, mut stream) = agent_with_identity(&server, "steady").await;
    let (pid, before) = (agent.pid(), authorities(&server));
    let held = Workload::connect(&agent.workload_socket()).await.fetch().await.expect("it is served");
    server.kill_and_start();
    let both = authorities(&server);
    assert!(both.is_superset(&before) && both.len() == before.len() + 1, "the old one is still published");
    // The old keys are nowhere, so whatever is new is the new authority's.
    let serial = held[0].serial.clone();
    stream.until("an SVID of the new authority", BACK, |svids| svids[0].serial != serial).await;
    eventually("the old authority is withdrawn when its last SVID has ended", BACK, || {
        authorities(&server).is_disjoint(&before).then_some(())
    });
    Workload::connect(&agent.workload_socket()).await.fetch().await.expect("served throughout");
    assert_eq!((agent.pid(), agent.status()["connected"].clone()), (pid, Value::Bool(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_pin_is_not_believed_and_what_is_valid_is_served_on() {
    let mut server = Server::start("");
    let (agent, _stream) = agent_with_identity(&server, "loyal").await;
    server.kill();
    fs::remove_dir_all(server.folder().join("state")).expect("it is ours");
    server.start_again();
    says(&agent, "writ token create");
    assert!(problem(&agent).contains("another key than the pinned one"), "{}", problem(&agent));
    let svids = Workload::connect(&agent.workload_socket()).await.fetch().await;
    assert_eq!(ids(&svids.expect("what is valid is served")), ["spiffe://writ.local/loyal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_pin_is_lost_the_operators_bundle_file_and_a_token_file_bring_a_running_agent_back() {
    let mut server = Server::start("");
    let folder = Folder::new();
    let token = folder.write("token", server.token("loyal"));
    let bundle = folder.write("bundle.json", server.run(&["bundle", "show", "--output", "json"]).done().out);
    owners_alone(&token);
    owners_alone(&bundle);
    let more = format!("trust_domain = \"writ.local\"\nbundle_file = {bundle:?}\ntoken_file = {token:?}\n");
    let agent = Agent::start(&server, folder, &more);
    entry(&server, "loyal");
    watch(&agent, "loyal").await;

    server.kill();
    fs::remove_dir_all(server.folder().join("state")).expect("it is ours");
    server.start_again();
    entry(&server, "loyal");
    says(&agent, "bundle_file");
    fs::write(&bundle, server.run(&["bundle", "show", "--output", "json"]).done().out).expect("it is ours");
    says(&agent, "writ token create");
    fs::write(&token, server.token("loyal")).expect("it is ours");
    eventually("it is connected", BACK, || (agent.status()["connected"] == true).then_some(()));
    watch(&agent, "loyal").await;
}

/// The same from an HTTPS address; Python serves it, with a certificate of an authority that only this
/// configuration trusts.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_pin_is_lost_a_bundle_at_an_https_address_and_a_token_file_bring_a_running_agent_back() {
    if !needs::program("python3", "python3") {
        return;
    }
    let pki = Pki::new();
    let (certificate, key) = pki.loopback();
    let served = Folder::new();
    let mut server = Server::start("");
    let show = |server: &Server| server.run(&["bundle", "show", "--output", "json"]).done().out;
    served.write("bundle.json", show(&server));
    let mut python = Command::new("python3");
    python.args(["-c", SERVES, &certificate.display().to_string(), &key.display().to_string()]);
    let python = Running::start(python.current_dir(served.path()), "python", served.path());
    let port = python.line(SOON);

    let folder = Folder::new();
    let token = folder.write("token", server.token("loyal"));
    owners_alone(&token);
    let ca = pki.authority();
    let more = format!(
        "trust_domain = \"writ.local\"\nbundle_url = \"https://127.0.0.1:{}/bundle.json\"\n\
         bundle_url_ca_file = {ca:?}\ntoken_file = {token:?}\n",
        port.trim()
    );
    let agent = Agent::start(&server, folder, &more);
    entry(&server, "loyal");
    watch(&agent, "loyal").await;

    server.kill();
    fs::remove_dir_all(server.folder().join("state")).expect("it is ours");
    server.start_again();
    entry(&server, "loyal");
    says(&agent, "bundle_url");
    served.write("bundle.json", show(&server));
    says(&agent, "writ token create");
    fs::write(&token, server.token("loyal")).expect("it is ours");
    eventually("it is connected", BACK, || (agent.status()["connected"] == true).then_some(()));
    watch(&agent, "loyal").await;
}

/// Says its port and serves the files of the folder that it runs in.
const SERVES: &str = "
import http.server, ssl, sys
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = tls.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";

#[tokio::test(flavor = "multi_thread")]
async fn of_two_agents_with_one_copied_state_directory_both_are_fenced_within_one_renewal() {
    let server = Server::start("agent_ttl = \"8s\"\n");
    let folder = Folder::new();
    let token = folder.write("token", server.token("copied"));
    owners_alone(&token);
    let original = Agent::start(&server, folder, &format!("token_file = {token:?}\n"));
    entry(&server, "copied");
    let mut stream = watch(&original, "copied").await;
    let elsewhere = Folder::new();
    let copy =
        Command::new("cp").arg("-a").arg(original.folder().join("state")).arg(elsewhere.path()).status();
    assert!(copy.is_ok_and(|status| status.success()));
    let copy = Agent::start(&server, elsewhere, "");

    for agent in [&original, &copy] {
        says(agent, "two agents use this node's key");
        let refused = Workload::connect(&agent.workload_socket()).await.fetch().await;
        assert_eq!(refused.expect_err("its keys are dropped").code(), Code::PermissionDenied);
    }
    assert_eq!(stream.ended(SOON).await.code(), Code::PermissionDenied);

    // Whose machine the node is, its administrator says with a token. No restart is needed.
    fs::write(&token, server.token("copied")).expect("it is ours");
    watch(&original, "copied").await;
    says(&copy, "two agents use this node's key");
    drop((original, copy));
    let folder = server.down();
    let kinds = kinds(&folder.join("state"));
    assert_eq!(kinds.iter().filter(|kind| *kind == "node.duplicate_agent").count(), 1, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_agent_drops_its_keys_and_says_who_can_lift_the_ban() {
    let server = Server::start("");
    let health = free_address();
    let more = format!("token = {:?}\nhealth_listen = \"{health}\"\n", server.token("rogue"));
    let agent = Agent::start(&server, Folder::new(), &more);
    entry(&server, "rogue");
    let mut stream = watch(&agent, "rogue").await;
    assert!(ready(health).starts_with("HTTP/1.1 200"), "{}", ready(health));
    let _ = server.run(&["node", "ban", "rogue"]).done();
    assert_eq!(stream.ended(SOON).await.code(), Code::PermissionDenied);
    says(&agent, "writ node evict");
    let refused = Workload::connect(&agent.workload_socket()).await.fetch().await;
    assert_eq!(refused.expect_err("its keys are dropped").code(), Code::PermissionDenied);
    let unready = ready(health);
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("writ node evict"), "{unready}");
    assert!(!holds(&agent.folder().join("state"), "/rogue"), "what it knew is gone from its disk too");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_agent_drops_its_keys_and_joins_again_from_its_token_file_without_a_restart() {
    let server = Server::start("");
    let folder = Folder::new();
    let token = folder.write("token", server.token("moved"));
    owners_alone(&token);
    let agent = Agent::start(&server, folder, &format!("token_file = {token:?}\n"));
    entry(&server, "moved");
    let mut stream = watch(&agent, "moved").await;
    let _ = server.run(&["node", "evict", "moved"]).done();
    assert_eq!(stream.ended(SOON).await.code(), Code::PermissionDenied);
    says(&agent, "writ token create");
    fs::write(&token, server.token("moved")).expect("it is ours");
    watch(&agent, "moved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_another_machine_replaced_goes_silent() {
    let server = Server::start("");
    let (deposed, mut stream) = agent_with_identity(&server, "seat").await;
    let successor = Agent::join(&server, "seat", Folder::new()); // with a token for the same name
    watch(&successor, "seat").await; // the same ID, the same entries
    assert_eq!(stream.ended(BACK).await.code(), Code::PermissionDenied);
    says(&deposed, "writ token create");
    let refused = Workload::connect(&deposed.workload_socket()).await.fetch().await;
    assert_eq!(refused.expect_err("its keys are dropped").code(), Code::PermissionDenied);
    assert_eq!(successor.status()["connected"], true, "the one in its place is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_key_needs_a_token() {
    let server = Server::start("");
    let (mut agent, _) = agent_with_identity(&server, "forgetful").await;
    agent.kill();
    fs::remove_file(agent.folder().join("state/agent.key")).expect("it is there");
    agent.start_again();
    says(&agent, "writ token create");
}

/// An address of this machine that nobody listens at now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("there are free ports")
}

/// What a daemon answers who asks whether it is ready.
fn ready(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("it is short");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn owners_alone(path: &Path) {
    let _ = Answer::of(Command::new("chmod").arg("600").arg(path)).done();
}

/// Whether a file of this folder holds these bytes.
fn holds(folder: &Path, words: &str) -> bool {
    let files = fs::read_dir(folder).expect("it is ours").flatten();
    files
        .map(|file| fs::read(file.path()).unwrap_or_default())
        .any(|bytes| bytes.windows(words.len()).any(|window| window == words.as_bytes()))
}

/// What the audit log of a stopped server holds, by kind.
fn kinds(state: &Path) -> Vec<String> {
    let key =
        MacKey::new(fs::read(state.join("mac.key")).expect("it is there").try_into().expect("32 bytes"));
    let mut log = Sqlite::open(&state.join("log.db"), key).expect("the log is whole");
    let commits = log.tail(Revision(0)).expect("all of it is there");
    let records = commits.iter().filter_map(|commit| serde_json::from_slice::<Value>(&commit.leaf).ok());
    records.filter_map(|record| record["kind"].as_str().map(str::to_owned)).collect()
}
