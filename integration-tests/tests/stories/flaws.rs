//! Flaws that others published, of the table in `docs/flaws.md`, that no other test is about.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::admin::channel;
use integration_tests::workload::Workload;
use integration_tests::{
    Answer, Folder, Running, Writ, eventually, needs, test_workload, writ_binary, writ_command,
};
use nix::sys::signal::Signal;
use proto::spire::server::agent::v1::ListAgentsRequest;
use proto::spire::server::agent::v1::agent_client::AgentClient;
use proto::spire::server::entry::v1::ListEntriesRequest;
use proto::spire::server::entry::v1::entry_client::EntryClient;

use crate::files::walk;
use crate::{SOON, own_uid};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Cure53 SPI-01-006: a descriptor was lost with each caller that died while it was looked at.
#[tokio::test(flavor = "multi_thread")]
async fn callers_that_die_while_they_connect_leave_no_descriptor_behind() {
    let writ = Writ::up();
    writ.entry("/well", &[&own_uid()]);
    let socket = writ.workload_socket();
    Workload::connect(&socket).await.fetch().await.expect("it is served");
    let open = || fs::read_dir(format!("/proc/{}/fd", writ.ready.agent_pid)).map_or(0, Iterator::count);
    let before = open();
    for round in 0..2000 {
        let Ok(mut guest) = UnixStream::connect(&socket) else { continue };
        match round % 4 {
            0 => {}
            1 => drop(guest.write_all(&PREFACE[..7])),
            2 => drop(guest.write_all(PREFACE)),
            _ => drop(guest.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff]].concat())),
        }
    }
    // And processes that are gone before they can be looked at, while somebody holds their connection.
    writ.signal("agent", Signal::SIGSTOP);
    for _ in 0..50 {
        let mut leave = Command::new(test_workload());
        leave.arg("leave").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(leave.status().is_ok_and(|status| status.success()));
    }
    writ.signal("agent", Signal::SIGCONT);
    eventually("all of them are let go", Duration::from_secs(30), || (open() <= before + 8).then_some(()));
    Workload::connect(&socket).await.fetch().await.expect("it is served");
}

/// Cure53 SPI-01-002: the file of keys was everybody's to read.
#[test]
fn what_is_private_stays_so_where_the_umask_takes_nothing_away() {
    let folder = Folder::new();
    let data = folder.join("d");
    let mut command = Command::new("bash");
    command.args(["-c", "umask 000; exec \"$@\"", "bash"]).arg(writ_binary());
    command.args(["up", "--output", "json", "--data"]).arg(&data).env_remove("WRIT_DATA");
    let up = Running::start(&mut command, "up", folder.path());
    up.line(SOON * 3);
    let mut looked_at = 0;
    for tree in ["state", "private"] {
        for (path, mode, _) in walk(&data.join(tree)) {
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 8, "only {looked_at} files were looked at");
    for (path, mode, _) in walk(&data.join("public")).iter().filter(|(_, _, is_folder)| *is_folder) {
        assert_eq!(mode & 0o022, 0, "others could put a socket of theirs into {}: {mode:o}", path.display());
    }
}

/// Cure53 SPI-01-001: no position-independent executable, no read-only relocations.
#[test]
fn the_binary_is_position_independent_and_what_it_writes_is_never_run() {
    if !needs::program("readelf", "binutils") {
        return;
    }
    let debug = writ_binary();
    let release =
        debug.parent().and_then(Path::parent).expect("it lies in target/debug").join("release/writ");
    for binary in [debug, release].iter().filter(|binary| binary.exists()) {
        let shown =
            Answer::of(Command::new("readelf").args(["-hldW"]).arg(binary).env("LC_ALL", "C")).done().out;
        let line = |word: &str| shown.lines().find(|line| line.contains(word)).unwrap_or_default();
        assert!(line("Type:").contains("DYN"), "{}: {}", binary.display(), line("Type:"));
        assert!(!line("GNU_RELRO").is_empty(), "{} has writable relocations", binary.display());
        assert!(
            shown.contains("BIND_NOW") || line("FLAGS_1").contains("NOW"),
            "{} binds lazily",
            binary.display()
        );
        let stack = line("GNU_STACK");
        assert!(
            !stack.is_empty() && !stack.contains('E'),
            "{}: the stack can be run: {stack}",
            binary.display()
        );
        let both = shown.lines().filter(|line| line.trim_start().starts_with("LOAD") && line.contains("RWE"));
        assert_eq!(both.count(), 0, "{} has memory that is written and run", binary.display());
    }
}

/// SPIRE 1.9.3: a page size of two billions reserved memory for as many.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_two_billion_costs_no_more_than_what_is_there() {
    let writ = Writ::up();
    writ.entry("/one", &[&own_uid()]);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", writ.ready.server_pid)).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("every process has one");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let ask = async |page_size| {
        let entries = ListEntriesRequest { page_size, ..ListEntriesRequest::default() };
        let entries = EntryClient::new(channel(&writ.server_socket())).list_entries(entries).await;
        assert_eq!(entries.expect("it is answered").into_inner().entries.len(), 1);
        let agents = ListAgentsRequest { page_size, ..ListAgentsRequest::default() };
        let agents = AgentClient::new(channel(&writ.server_socket())).list_agents(agents).await;
        assert_eq!(agents.expect("it is answered").into_inner().agents.len(), 1);
    };
    for _ in 0..20 {
        ask(10).await;
    }
    let before = resident();
    for _ in 0..20 {
        ask(i32::MAX).await;
    }
    assert!(resident() < before + 8 * 1024, "from {before} to {} KiB", resident());
}

/// SPIRE 1.14.3, and Vault's and OpenBao's audit logs: secrets and selectors in logs.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_key_or_selector_reaches_a_log() {
    let folder = Folder::new();
    let data = folder.join("d");
    let start = || {
        let mut command = writ_command();
        command
            .args(["up", "--output", "json", "--data"])
            .arg(&data)
            .env("RUST_LOG", "trace")
            .env("WRIT_LOG", "trace");
        let up = Running::start(&mut command, "up", folder.path());
        up.line(SOON * 3);
        up
    };
    let up = start();
    let run = |arguments: &[&str]| Answer::of(writ_command().args(arguments).env("WRIT_DATA", &data)).done();
    let canary = "canary-5b7c0f3e";
    let token = run(&["token", "create", "--node", "quiet", "--output", "json"]).json();
    let token = token["token"].as_str().expect("a token").to_owned();
    let secret = token.rsplit_once('.').expect("a name and a secret").1.to_owned();
    let create = ["entry", "create", "--spiffe-id", "/quiet", "--parent", "local", "--selector"];
    let _ = run(&[&create[..], &[&own_uid(), "--selector", &format!("unix:path:/opt/{canary}")]].concat());
    let _ = run(&["entry", "create", "--spiffe-id", "/loud", "--parent", "local", "--selector", &own_uid()]);
    let socket = data.join("public/workload.sock");
    eventually("an identity", SOON * 3, || {
        let fetch = ["fetch", "x509", "--write"];
        let answer = Answer::of(
            writ_command()
                .args(fetch)
                .arg(folder.join("svid"))
                .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", socket.display())),
        );
        (answer.code == 0).then_some(())
    });
    // The token is used, then used again, then mangled; each of them is a reason to say something.
    let status = run(&["status", "--output", "json"]).json();
    let address = status["server"]["listen"].as_str().expect("it listens").to_owned();
    for shown in [token.clone(), token.clone(), format!("{token}x")] {
        let _ = integration_tests::node::join(&address, &shown).await;
    }
    drop(up);

    let mut secrets = vec![secret, canary.to_owned()];
    let written = walk(&data.join("state")).into_iter().chain(walk(&folder.join("svid")));
    for file in written.map(|(path, ..)| path) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            secrets.extend(text.lines().filter(|line| line.len() == 64).map(str::to_owned));
        }
    }
    assert!(secrets.len() > 3, "there are keys on disk");
    let log = fs::read_to_string(folder.join("up.log")).expect("the log is ours");
    assert!(log.lines().count() > 3, "it said something:\n{log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}
