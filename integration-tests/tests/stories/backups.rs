//! Backups: taken under load, restored elsewhere, and what they do not bring back.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::admin::Admin;
use integration_tests::daemon::{Agent, Server};
use integration_tests::workload::{Workload, ids};
use integration_tests::{Answer, Folder, Writ, eventually, writ_command};
use serde_json::Value;

use crate::{SOON, own_uid};

/// A key in a folder, and the file of its recipient.
struct Key {
    identity: PathBuf,
    recipient: PathBuf,
}

impl Key {
    fn make(folder: &Folder) -> Self {
        let identity = folder.join("backup.key");
        let mut command = writ_command();
        let made = Answer::of(command.args(["backup", "key"]).arg(&identity)).done();
        Self { identity, recipient: folder.write("backup.pub", made.out) }
    }

    fn opens(&self) -> [&str; 2] {
        ["--identity-file", self.identity.to_str().expect("a path of ours")]
    }

    fn seals(&self) -> [&str; 2] {
        ["--recipients-file", self.recipient.to_str().expect("a path of ours")]
    }
}

/// `writ backup create` on a running server; where the file is.
fn backed_up(server: &Server, folder: &Folder, key: &Key) -> PathBuf {
    let file = folder.join("backup.age");
    let path = file.to_str().expect("a path of ours");
    let arguments = [&["backup", "create", path][..], &key.seals()].concat();
    let _ = server.run(&arguments).done();
    file
}

fn node_state(server: &Server, node: &str) -> Option<String> {
    let nodes = server.run(&["node", "show", node, "--output", "json"]).done().json();
    Some(nodes["nodes"].as_array()?.first()?["state"].as_str()?.to_owned())
}

fn create(server: &Server, path: &str, node: &str) -> String {
    let arguments = ["entry", "create", "--spiffe-id", path, "--parent", node, "--selector", &own_uid()];
    let made = server.run(&[&arguments[..], &["--output", "json"]].concat()).done().json();
    made["id"].as_str().unwrap_or_else(|| panic!("no id: {made}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_load_brings_the_server_back_elsewhere_and_its_agents_go_on() {
    let folder = Folder::new();
    let key = Key::make(&folder);
    let mut server = Server::start("");
    let agent = Agent::join(&server, "web", Folder::new());
    create(&server, "/steady", "web");
    let gone = create(&server, "/gone", "web");
    let unspent = server.token("later");
    let mut stream = Workload::connect(&agent.workload_socket()).await.watch();
    stream.until("both identities", SOON, |svids| svids.len() == 2).await;

    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (mut admin, over) = (Admin::at(&server.socket()), Arc::clone(&over));
        async move {
            let mut made = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let id = format!("spiffe://writ.local/load/{made}");
                let parent = "spiffe://writ.local/spire/agent/join_token/other";
                made += u32::from(admin.create(&id, parent, "unix:uid:9").await.is_ok());
            }
            made
        }
    });
    let file = tokio::task::block_in_place(|| backed_up(&server, &folder, &key));
    over.store(true, Ordering::Relaxed);
    assert!(load.await.expect("it does not panic") > 0, "there was no load");

    // What happens after the backup, and is lost with the server.
    let spent = Agent::join_with(&server, &unspent, Folder::new());
    let _ = server.run(&["entry", "delete", &gone]).done();
    stream.until("one identity", SOON, |svids| ids(svids) == ["spiffe://writ.local/steady"]).await;
    let newest = server.run(&["status", "--output", "json"]).done().json()["server"]["revision"].clone();
    eventually("the agent has heard of the newest revision", SOON, || {
        (agent.status()["head"] == newest).then_some(())
    });
    let address = server.address().to_owned();
    server.kill();
    let (server, said) = Server::restored(&address, &file, &key.opens());
    assert!(said.contains("1 join tokens") && said.contains("1 nodes must prove their keys"), "{said}");

    eventually("the agent came back by its key", SOON, || {
        (node_state(&server, "web")? == "active").then_some(())
    });
    // The stream of the workload never ended, and follows the restored server.
    create(&server, "/new", "web");
    let wanted = ["spiffe://writ.local/gone", "spiffe://writ.local/new", "spiffe://writ.local/steady"];
    stream
        .until("what the restored server says", SOON, |svids| {
            let mut ids = ids(svids);
            ids.sort();
            ids == wanted
        })
        .await;
    let log = agent.log();
    assert!(log.contains("goes on from a backup") && log.contains(&gone), "what was gone is named:\n{log}");
    let lost: Value =
        server.run(&["status", "--output", "json"]).done().json()["server"]["restored_from"]["lost"].clone();
    assert_eq!(lost["to"], newest, "the server learns what it lost: {lost}");
    assert!(server.log().contains("were lost when this server was restored"), "{}", server.log());

    // A token that was spent after the backup does not count again, and the node that joined by it is unknown.
    let refused = Agent::refused(&server, &unspent, Folder::new());
    assert!(refused.contains("does not count"), "{refused}");
    eventually("the later node is told that it is not known", SOON, || {
        spent.log().contains("has not attested").then_some(())
    });
}

#[test]
fn a_backup_is_opened_only_by_its_own_key_and_not_when_a_byte_of_it_changed() {
    let folder = Folder::new();
    let (key, elsewhere) = (Key::make(&folder), Folder::new());
    let other = Key::make(&elsewhere);
    let server = Server::start("");
    let file = backed_up(&server, &folder, &key);
    let whole = fs::read(&file).expect("it is ours");
    for secret in ["mac.key", "pin.key"] {
        let secret = fs::read(server.state().join(secret)).expect("it is ours");
        assert!(!whole.windows(secret.len()).any(|part| part == secret), "a key lies there in clear");
    }

    let data = folder.join("restored");
    let restore = |by: &Key| {
        let mut command = writ_command();
        command.args(["backup", "restore"]).arg(&file).arg("--data").arg(&data).args(by.opens());
        Answer::of(&mut command)
    };
    assert!(restore(&other).refused().contains("does not open it"));
    let places = [0, 30, 100, 150, 230, whole.len() / 2, whole.len() - 20, whole.len() - 1];
    for place in places {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(&file, &changed).expect("it is ours");
        let said = restore(&key).refused();
        assert!(said.contains("backup cannot be used"), "byte {place}: {said}");
        assert!(!data.join("state/server").exists(), "byte {place}: something of it was put in place");
    }
    for end in [0, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..end]).expect("it is ours");
        let _ = restore(&key).refused();
    }
    fs::write(&file, &whole).expect("it is ours");
    let _ = restore(&key).done();
    assert!(restore(&key).refused().contains("--replace"), "what is there is not overwritten");
}

#[test]
fn a_passphrase_is_never_an_argument_and_another_one_opens_nothing() {
    let folder = Folder::new();
    let server = Server::start("");
    let (right, wrong) =
        (folder.write("right", "correct horse battery\n"), folder.write("wrong", "a wrong passphrase\n"));
    let file = folder.join("backup.age");
    let (path, right) = (file.to_str().expect("ours"), right.to_str().expect("ours"));
    let short = folder.write("short", "1234\n");
    let with = |passphrase: &str| server.run(&["backup", "create", path, "--passphrase-file", passphrase]);
    assert!(with(short.to_str().expect("ours")).refused().contains("12 characters"));
    let _ = with(right).done();
    assert!(with(right).refused().contains("is there already"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);

    let data = folder.join("restored");
    let restore = |passphrase: &std::path::Path| {
        let mut command = writ_command();
        command.args(["backup", "restore"]).arg(&file).arg("--data").arg(&data);
        Answer::of(command.arg("--passphrase-file").arg(passphrase))
    };
    assert!(restore(&wrong).refused().contains("does not open it"));
    let _ = restore(std::path::Path::new(right)).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn writ_up_goes_on_in_a_restored_directory() {
    let folder = Folder::new();
    let key = Key::make(&folder);
    let writ = Writ::up();
    writ.entry("/kept", &[&own_uid()]);
    let file = folder.join("backup.age");
    let path = file.to_str().expect("a path of ours");
    let _ = writ.run(&[&["backup", "create", path][..], &key.seals()].concat()).done();
    let pin = writ.ready.server_pin.clone();
    let running = writ.run(&[&["backup", "restore", path, "--replace"][..], &key.opens()].concat()).refused();
    assert!(running.contains("in use"), "a running server is not replaced: {running}");
    let (old, data) = writ.down();

    // In its own place, over what is there, and in another one.
    let mut command = writ_command();
    command.args(["backup", "restore", path, "--replace", "--data"]).arg(&data).args(key.opens());
    let said = Answer::of(&mut command).done().out;
    assert!(said.contains("What was there lies in") && said.contains("writ up --data"), "{said}");
    let elsewhere = folder.join("elsewhere");
    let mut command = writ_command();
    command.args(["backup", "restore", path, "--data"]).arg(&elsewhere).args(key.opens());
    let _ = Answer::of(&mut command).done();
    for (folder, data) in [(old, data), (folder, elsewhere)] {
        let writ = Writ::up_at(folder, data, &[]);
        assert_eq!(writ.ready.server_pin, pin, "agents know it by the same pin");
        let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
        let kept = writ.id("/kept");
        stream.until("the kept identity", SOON, |svids| ids(svids) == [kept.clone()]).await;
    }
}

#[test]
fn a_database_that_was_put_back_is_refused_until_its_operator_accepts_it() {
    let mut server = Server::start("");
    let agent = Agent::join(&server, "web", Folder::new());
    server.stop();
    let log = server.state().join("log.db");
    let older = fs::read(&log).expect("it is ours");
    server.start_again();
    let token = server.token("later");
    server.stop();
    fs::write(&log, older).expect("it is ours");
    let said = server.start_in_vain();
    assert!(said.contains("the log was put back") && said.contains("writ backup accept"), "{said}");

    let mut command = writ_command();
    let accepted = Answer::of(command.args(["backup", "accept", "--config"]).arg(server.config())).done().out;
    assert!(accepted.contains("goes on as a new one"), "{accepted}");
    server.start_again();
    eventually("the agent came back by its key", SOON, || {
        (node_state(&server, "web")? == "active").then_some(())
    });
    let refused = Agent::refused(&server, &token, Folder::new());
    assert!(refused.contains("does not count"), "{refused}");
    drop(agent);
}

#[test]
fn a_machine_that_was_put_back_whole_learns_it_from_its_agents() {
    let mut server = Server::start("");
    let agent = Agent::join(&server, "web", Folder::new());
    server.stop();
    let state = server.state();
    let copy = Folder::new();
    copy_files(&state, copy.path());
    server.start_again();
    create(&server, "/later", "web");
    let newest = server.run(&["status", "--output", "json"]).done().json()["server"]["revision"].clone();
    eventually("the agent has heard of it", SOON, || {
        (agent.status()["head"].as_u64() >= newest.as_u64()).then_some(())
    });
    server.stop();
    fs::remove_dir_all(&state).expect("it is ours");
    copy_files(copy.path(), &state);
    // Nothing on this machine says that it is not as it was.
    let said = server.start_in_vain();
    assert!(said.contains("the log was put back"), "{said}");
    assert!(server.start_in_vain().contains("the log was put back"), "it is remembered");
}

/// With modes, as a snapshot of a machine has them.
fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "cp -a {} {}", from.display(), to.display());
}

/// What was decided after the backup, the backup does not know: docs/backup.md says to do it again, and
/// what to do where machines were taken over.
#[test]
fn a_ban_made_after_the_backup_is_not_known_to_it_and_with_evict_nodes_nobody_comes_back_without_a_token() {
    let folder = Folder::new();
    let key = Key::make(&folder);
    let mut server = Server::start("");
    let steady = Agent::join(&server, "steady", Folder::new());
    let banned = Agent::join(&server, "banned", Folder::new());
    let file = backed_up(&server, &folder, &key);
    let _ = server.run(&["node", "ban", "banned"]).done();
    eventually("the banned agent knows", SOON, || {
        banned.status()["problem"].as_str()?.contains("banned").then_some(())
    });
    let address = server.address().to_owned();
    server.kill();

    let (mut server, _) = Server::restored(&address, &file, &key.opens());
    eventually("the steady node came back by its key", SOON, || {
        (node_state(&server, "steady")? == "active").then_some(())
    });
    // The ban is forgotten; the agent that heard of it has nothing left to come back with.
    assert_eq!(node_state(&server, "banned").as_deref(), Some("restored"));
    assert!(!banned.status()["connected"].as_bool().expect("it says so"), "{}", banned.status());
    server.kill();

    let all = [&key.opens()[..], &["--evict-nodes"]].concat();
    let (server, _) = Server::restored(&address, &file, &all);
    eventually("the steady agent was told", SOON, || {
        steady.status()["problem"].as_str()?.contains("writ token create").then_some(())
    });
    for node in ["steady", "banned"] {
        let shown = server.run(&["node", "list", "--output", "json"]).done().json();
        assert!(!shown.to_string().contains(&format!("join_token/{node}")), "{node} is known: {shown}");
    }
}

/// The authority that signed everything is unknown to the restored server, the agent's own included.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_authority_made_after_the_backup_had_signed_is_signed_again() {
    let folder = Folder::new();
    let key = Key::make(&folder);
    let mut server = Server::start("");
    let agent = Agent::join(&server, "web", Folder::new());
    create(&server, "/steady", "web");
    let mut stream = Workload::connect(&agent.workload_socket()).await.watch();
    let first = stream.until("the identity", SOON, |svids| svids.len() == 1).await[0].serial.clone();
    let file = backed_up(&server, &folder, &key);

    let listed = server.run(&["authority", "list", "--output", "json"]).done().json();
    let old = active(&listed);
    let prepared = server.run(&["authority", "prepare", "x509", "--output", "json"]).done().json();
    let new = prepared["prepared"].as_str().expect("it names the new one").to_owned();
    let _ = server.run(&["authority", "activate", &new]).done();
    let _ = server.run(&["authority", "taint", &old]).done();
    let second =
        stream.until("the new authority's", SOON, |svids| svids[0].serial != first).await[0].serial.clone();
    let address = server.address().to_owned();
    server.kill();

    let (server, _) = Server::restored(&address, &file, &key.opens());
    let authorities = server.run(&["authority", "list", "--output", "json"]).done().out;
    assert!(authorities.contains(&old) && !authorities.contains(&new), "{authorities}");
    // What nobody can verify any more is withdrawn until its successor is there: the stream may end for that.
    let again = async {
        loop {
            match Workload::connect(&agent.workload_socket()).await.fetch().await {
                Ok(svids) if svids.iter().any(|svid| svid.serial != second) => return,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(SOON, again).await.expect("the known authority signs it again");
    eventually("the node is in good standing", SOON, || {
        (node_state(&server, "web")? == "active").then_some(())
    });
}

/// The authority that signs certificates.
fn active(listed: &Value) -> String {
    let all = listed["authorities"].as_array().unwrap_or_else(|| panic!("no list: {listed}"));
    let is_it = |one: &&Value| {
        let text = one.to_string();
        text.contains("\"active\"") && text.contains("x509")
    };
    let found = all.iter().find(is_it).unwrap_or_else(|| panic!("none signs: {listed}"));
    found["id"].as_str().expect("it has an id").to_owned()
}
