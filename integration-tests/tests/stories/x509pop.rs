//! Nodes that attest with certificates of an infrastructure outside. What SPIRE's programs make of such
//! certificates is in `spire_x509pop.rs`.

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use integration_tests::daemon::{Agent, Server};
use integration_tests::pki::{Kind, Machine, Pki};
use integration_tests::workload::{Watch, Workload, ids};
use integration_tests::{Folder, Running, eventually, writ_command};
use tonic::Code;

use crate::own_uid;

/// With back-offs between, on a loaded machine.
const BACK: Duration = Duration::from_secs(60);

/// A server that takes the certificates of this infrastructure.
pub(crate) fn server_of(pki: &Pki, more: &str) -> Server {
    Server::start(&format!("{more}[node_attestors.x509pop]\nca_bundle_path = {:?}\n", pki.authority()))
}

/// The node that this machine is.
pub(crate) fn node_of(machine: &Machine) -> String {
    let fingerprint = digest(&SHA1_FOR_LEGACY_USE_ONLY, &machine.der);
    let fingerprint: String = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("spiffe://writ.local/spire/agent/x509pop/{fingerprint}")
}

fn entry(server: &Server, path: &str, parent: &str) {
    let create = ["entry", "create", "--spiffe-id", path, "--parent", parent, "--selector", &own_uid()];
    let _ = server.run(&create).done();
}

/// Those that the server knows.
pub(crate) fn nodes(server: &Server) -> Vec<serde_json::Value> {
    let list = server.run(&["node", "list", "--output", "json"]).done().json();
    list["nodes"].as_array().expect("a list").clone()
}

/// A stream that has shown this identity.
pub(crate) async fn watch(agent: &Agent, id: &str) -> Watch {
    let opened = async {
        loop {
            if tokio::net::UnixStream::connect(agent.workload_socket()).await.is_ok() {
                let mut stream = Workload::connect(&agent.workload_socket()).await.watch();
                if let Ok(svids) = stream.next().await {
                    assert_eq!(ids(&svids), [format!("spiffe://writ.local{id}")]);
                    return stream;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let opened = tokio::time::timeout(BACK, opened).await;
    opened.unwrap_or_else(|_| panic!("{id} is not served\n{}", agent.log()))
}

/// An agent with this configuration that must not come in; what it logged.
fn turned_away(server: &Server, attestor: &str) -> String {
    let folder = Folder::new();
    let [state, private, public] = ["state", "private", "public"].map(|name| folder.join(name));
    let (address, pin) = (server.address(), &server.serving["server_pin"]);
    let config = format!(
        "server = {address:?}\npin = {pin}\nstate_dir = {state:?}\nprivate_dir = {private:?}\npublic_dir = {public:?}\n{attestor}"
    );
    let config = folder.write("agent.toml", config);
    let mut command = writ_command();
    command.args(["agent", "run", "--config"]).arg(config);
    let mut running = Running::start(&mut command, "agent", folder.path());
    assert!(!running.ended(BACK).success(), "it came in");
    running.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_attest_with_their_certificates_and_entries_find_them_by_what_those_say() {
    let pki = Pki::new();
    let server = server_of(&pki, "");
    for (name, kind) in [("web-1", Kind::Ecdsa), ("web-2", Kind::Rsa)] {
        let machine = pki.machine(name, kind);
        entry(&server, &format!("/{name}"), &format!("x509pop:subject:cn:{name}"));
        let agent = Agent::start(&server, Folder::new(), &machine.agent());
        watch(&agent, &format!("/{name}")).await;
        let node = server.run(&["node", "show", &node_of(&machine), "--output", "json"]).done().json();
        let node = &node["nodes"][0];
        assert_eq!(node["attestor"], "x509pop");
        let selectors = node["selectors"].to_string();
        for word in ["serialnumber:", "ca:fingerprint:", "san:rack:r1"] {
            assert!(selectors.contains(word), "{word} is not in {selectors}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_a_foreign_certificate_stays_out_and_hears_nothing_but_the_server_says_why() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = server_of(&pki, "");
    let foreign = other.machine("web-1", Kind::Ecdsa);
    let log = turned_away(&server, &foreign.agent());
    assert!(log.contains("does not attest here") && !log.contains("vouched"), "{log}");
    let said = server.log();
    assert!(said.contains("the certificate is not vouched for"), "{said}");
    // A certificate that anybody may read, and another's key.
    let (mine, theirs) = (pki.machine("web-1", Kind::Ecdsa), pki.machine("web-2", Kind::Ecdsa));
    let stolen = Machine { certificate: theirs.certificate, ..mine };
    let log = turned_away(&server, &stolen.agent());
    assert!(log.contains("does not attest here"), "{log}");
    assert_eq!(nodes(&server).len(), 0);
    // Where nothing is configured, nobody attests so.
    let server = Server::start("");
    let log = turned_away(&server, &pki.machine("web-3", Kind::Ecdsa).agent());
    assert!(log.contains("nodes do not attest here by that"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_machine_attests_again_by_itself_and_a_banned_one_stays_out() {
    let pki = Pki::new();
    let server = server_of(&pki, "");
    let machine = pki.machine("web-1", Kind::Ecdsa);
    let node = node_of(&machine);
    let agent = Agent::start(&server, Folder::new(), &machine.agent());
    entry(&server, "/web", &node);
    let mut stream = watch(&agent, "/web").await;
    let _ = server.run(&["node", "evict", &node]).done();
    assert_eq!(stream.ended(BACK).await.code(), Code::PermissionDenied);
    let mut stream = watch(&agent, "/web").await;

    let _ = server.run(&["node", "ban", &node]).done();
    assert_eq!(stream.ended(BACK).await.code(), Code::PermissionDenied);
    eventually("the agent says that it is banned", BACK, || {
        agent.status()["problem"].as_str().unwrap_or_default().contains("banned").then_some(())
    });
    let log = turned_away(&server, &machine.agent());
    assert!(log.contains("this node is banned"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_set_up_anew_keeps_its_id_and_whoever_had_it_before_goes_silent() {
    let pki = Pki::new();
    let server = server_of(&pki, "");
    let machine = pki.machine("web-1", Kind::Ecdsa);
    entry(&server, "/web", &node_of(&machine));
    let before = Agent::start(&server, Folder::new(), &machine.agent());
    let mut stream = watch(&before, "/web").await;
    let [first] = &nodes(&server)[..] else { panic!("one node") };
    let first = first["key_sha256"].clone();
    let after = Agent::start(&server, Folder::new(), &machine.agent());
    watch(&after, "/web").await;
    assert_eq!(stream.ended(BACK).await.code(), Code::PermissionDenied);
    // With the same certificate it could take the place again, and then the other, for ever.
    eventually("the agent says who has its place", BACK, || {
        let problem = before.status()["problem"].as_str().unwrap_or_default().to_owned();
        problem.contains("another agent").then_some(())
    });
    assert_eq!(after.status()["connected"], true, "the one in its place is left alone");
    let [node] = &nodes(&server)[..] else { panic!("still one node") };
    assert_ne!(node["key_sha256"], first);
}
