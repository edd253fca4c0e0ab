//! What a task opened with its own SVID, at servers that know nothing of tasks: it ends with the task, and soon nobody is
//! let in by that SVID any more.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use integration_tests::{Answer, Folder, Running, eventually, needs, writ_binary};
use serde_json::json;

use super::{Ground, actor, mandate};
use crate::{SOON, own_uid};

/// Who PostgreSQL runs as: it refuses to be root.
const NOBODY: u32 = 65534;
/// The life of the task, and so of its SVID.
const LIFE: &str = "20s";

/// Both servers, which let in whoever shows a certificate of this trust domain.
struct Servers {
    nginx: (Running, u16),
    postgres: (Running, u16),
    bin: PathBuf,
    _folder: Folder,
}

impl Servers {
    /// `None` where one of them is not installed.
    fn start(bundle: &str) -> Option<Self> {
        let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let bin = found.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists());
        if !needs::program("nginx", "nginx") || !needs::there(bin.is_some(), "apt-get install postgresql") {
            return None;
        }
        let (bin, folder) = (bin?, Folder::new());
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        for (name, text) in [
            ("bundle.pem", bundle.to_owned()),
            ("own.pem", own.cert.pem()),
            ("own.key", own.signing_key.serialize_pem()),
        ] {
            let path = folder.write(name, text);
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
        let (nginx, postgres) = (nginx(&folder), postgres(&bin, &folder));
        Some(Self { nginx, postgres, bin, _folder: folder })
    }

    /// Whether each lets somebody in by the SVID in a folder.
    fn let_in(&self, svid: &Path) -> [bool; 2] {
        let (certificate, key) = (svid.join("svid.pem"), svid.join("key.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", self.nginx.1), "-cert"]);
        openssl.arg(&certificate).arg("-key").arg(&key).stdin(Stdio::piped());
        openssl.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = openssl.spawn().expect("openssl is there");
        let request = b"GET / HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n";
        // Where it is refused at once nobody reads this.
        let _ = std::io::Write::write_all(child.stdin.as_mut().expect("piped"), request);
        let answer = child.wait_with_output().expect("it ends");
        let web = String::from_utf8_lossy(&answer.stdout).starts_with("HTTP/1.1 200");
        let place = format!(
            "host=127.0.0.1 port={} user=writ dbname=postgres sslmode=require sslcert={} sslkey={}",
            self.postgres.1,
            certificate.display(),
            key.display()
        );
        let asked = Answer::of(Command::new(self.bin.join("psql")).args(["-qtAXc", "select 1", &place]));
        [web, asked.code == 0]
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn nginx(folder: &Folder) -> (Running, u16) {
    let (port, at) = (free_port(), folder.path().display());
    let config = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {at}/nginx.pid;\nevents {{}}\nhttp {{\n access_log off;\n \
         client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; \
         scgi_temp_path {at}/t5;\n server {{\n listen 127.0.0.1:{port} ssl;\n keepalive_timeout 600s;\n \
         ssl_certificate {at}/own.pem; ssl_certificate_key {at}/own.key;\n ssl_client_certificate {at}/bundle.pem; \
         ssl_verify_client on; ssl_verify_depth 3;\n location / {{ return 200 'hello'; }}\n }}\n}}\n"
    );
    let config = folder.write("nginx.conf", config);
    let mut command = Command::new("nginx");
    command.arg("-e").arg(folder.join("nginx.err")).arg("-c").arg(config).arg("-p").arg(folder.path());
    let running = Running::start(&mut command, "nginx", folder.path());
    listens(port, &running);
    (running, port)
}

fn postgres(bin: &Path, folder: &Folder) -> (Running, u16) {
    let (port, data) = (free_port(), folder.join("data"));
    fs::create_dir(&data).expect("the folder is ours");
    chown(&data, Some(NOBODY), Some(NOBODY)).expect("root may");
    let as_nobody = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.uid(NOBODY).gid(NOBODY).current_dir("/").env("LC_ALL", "C").arg("-D").arg(&data);
        command
    };
    let mut initdb = as_nobody("initdb");
    let _ = Answer::of(initdb.args(["--username", "writ", "--auth", "reject", "--no-sync"])).done();
    fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n")
        .expect("it is ours");
    let mut command = as_nobody("postgres");
    let file = |name: &str| folder.join(name).display().to_string();
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        format!("unix_socket_directories={}", data.display()),
        "ssl=on".into(),
        format!("ssl_cert_file={}", file("own.pem")),
        format!("ssl_key_file={}", file("own.key")),
        format!("ssl_ca_file={}", file("bundle.pem")),
        "fsync=off".into(),
    ] {
        command.arg("-c").arg(setting);
    }
    let running = Running::start(&mut command, "postgres", folder.path());
    listens(port, &running);
    (running, port)
}

fn listens(port: u16, running: &Running) {
    eventually(&format!("a server listens\n{}", running.log()), SOON, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
    });
}

#[test]
fn what_a_task_opened_at_nginx_and_postgresql_ends_with_it_and_its_svid_soon_opens_nothing() {
    if !needs::root() || !needs::program("openssl", "openssl") {
        return;
    }
    let ground = Ground::new();
    ground.agent.entry(&ground.server, super::NODE, "/agent/caller", &[&own_uid()]);
    ground.apply(&[
        actor("/agent/caller"),
        mandate(
            "call",
            &json!({ "actor": "/agent/caller", "export_key": true, "ttl": LIFE, "isolation": "cgroup" }),
        ),
    ]);
    ground.approve("call");
    let bundle = ground.server.run(&["bundle", "show"]).done().out;
    let Some(servers) = Servers::start(&bundle) else { return };
    let (folder, svid) = (Folder::new(), Folder::new());

    let client = folder.write("client.py", include_str!("connections/client.py"));
    let words = [
        writ_binary().display().to_string(),
        svid.path().display().to_string(),
        servers.nginx.1.to_string(),
        servers.bin.join("psql").display().to_string(),
        servers.postgres.1.to_string(),
    ];
    let running = eventually("the task begins", SOON, || {
        let mut run = Command::new(writ_binary());
        run.args(["run", "--mandate", "call", "--", "python3"]).arg(&client).args(&words).current_dir("/tmp");
        run.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", ground.agent.workload_socket().display()));
        run.env_remove("WRIT_DATA");
        let running = Running::start(&mut run, "client", folder.path());
        let first = running.line_unless_it_ends(SOON)?;
        assert!(first.contains("200 OK") && first.contains("41"), "{first}\n{}", running.log());
        Some(running)
    });
    let again = running.line(SOON);
    assert!(again.contains("200 OK") && again.contains("42"), "the connections stay open: {again}");
    assert_eq!(servers.let_in(svid.path()), [true, true], "the SVID counts while the task lives");

    let live = ground.server.run(&["task", "list", "--output", "json"]).done().json();
    let task = live["tasks"].as_array().into_iter().flatten().find(|task| task["mandate"] == "call").cloned();
    let task = task.expect("it lives");
    assert_eq!(task["isolation"], "cgroup");
    let id = task["id"].as_str().expect("an id");
    let _ = ground.server.run(&["task", "end", id, "--why", "enough"]).done();
    // At once, although both servers know nothing of it.
    let ended = running.line(SOON);
    assert_eq!(ended, r#"{"web_ended": true}"#, "{}", running.log());
    let ended = running.line(SOON);
    assert!(!ended.contains("43"), "the database answers no more: {ended}");

    // They know no more than the SVID's own end, so that is the bound for connections that are opened anew.
    let end = Duration::from_secs(20) + SOON;
    eventually("the SVID opens nothing any more", end, || {
        (servers.let_in(svid.path()) == [false, false]).then_some(())
    });
}
