//! Faults of the table in `docs/faults.md` that no other story is about.

use std::time::{Duration, Instant};

use integration_tests::admin::channel;
use integration_tests::daemon::{Agent, Server};
use integration_tests::workload::{Workload, ids};
use integration_tests::{Folder, Running, Writ, eventually, writ_command};
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::workload::{JwtsvidRequest, ValidateJwtsvidRequest};
use tonic::{Code, Request, Status};

use crate::{SOON, own_uid};

/// Asks for a JWT-SVID for one audience, of one identity or of any.
async fn token(socket: &std::path::Path, audience: &str, id: &str) -> Result<String, Status> {
    let mut request = Request::new(JwtsvidRequest { audience: vec![audience.into()], spiffe_id: id.into() });
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().expect("it is ASCII"));
    let answer = SpiffeWorkloadApiClient::new(channel(socket)).fetch_jwtsvid(request).await?.into_inner();
    Ok(answer.svids.first().expect("a success has a token").svid.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_server_killed_what_is_there_is_served_at_once_and_a_new_token_refused_at_once() {
    let mut server = Server::start("");
    let agent = Agent::join(&server, "steady", Folder::new());
    let create =
        ["entry", "create", "--spiffe-id", "/steady", "--parent", "steady", "--selector", &own_uid()];
    let _ = server.run(&create).done();
    let socket = agent.workload_socket();
    let cached = tokio::time::timeout(SOON, async {
        loop {
            match token(&socket, "known", "").await {
                Ok(token) => return token,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let cached = cached.await.expect("a token while the server is there");
    server.kill();
    eventually("the agent knows", SOON, || (agent.status()["connected"] == false).then_some(()));

    let asked = Instant::now();
    assert_eq!(token(&socket, "known", "").await.expect("the cached one"), cached);
    let svids = Workload::connect(&socket).await.fetch().await.expect("what is valid is served");
    assert_eq!(ids(&svids), ["spiffe://writ.local/steady"]);
    let refused = token(&socket, "fresh", "").await.expect_err("nobody can sign it");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(5), "nothing of it waits: {:?}", asked.elapsed());

    server.start_again();
    let signed = tokio::time::timeout(SOON * 3, async {
        while token(&socket, "fresh", "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    signed.await.unwrap_or_else(|_| panic!("signed again once the server is back\n{}", agent.log()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_identity_no_audience_and_a_garbage_token_are_refused_without_foreign_words() {
    let writ = Writ::up();
    writ.entry("/mine", &[&own_uid()]);
    let socket = writ.workload_socket();
    let foreign = token(&socket, "a", &writ.id("/somebody-else")).await.expect_err("not mine");
    assert_eq!(foreign.code(), Code::PermissionDenied, "{foreign}");
    assert!(!foreign.message().contains("somebody-else"), "{foreign}");
    assert_eq!(token(&socket, "", "").await.expect_err("no audience").code(), Code::InvalidArgument);
    for garbage in ["garbage", "a.b.c", "", "eyJhbGciOiJub25lIn0.e30."] {
        let ask = ValidateJwtsvidRequest { audience: "a".into(), svid: garbage.into() };
        let mut request = Request::new(ask);
        request.metadata_mut().insert("workload.spiffe.io", "true".parse().expect("it is ASCII"));
        let refused = SpiffeWorkloadApiClient::new(channel(&socket)).validate_jwtsvid(request).await;
        let refused = refused.expect_err("it is no token");
        assert_eq!(refused.code(), Code::InvalidArgument, "{garbage:?}: {refused}");
        for foreign in ["jose", "serde", "expected value", "line 1", "panicked"] {
            assert!(!refused.message().to_lowercase().contains(foreign), "{refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audience_of_three_megabytes_never_reaches_the_server() {
    let writ = Writ::up();
    writ.entry("/mine", &[&own_uid()]);
    let socket = writ.workload_socket();
    let before = writ.run(&["status", "--output", "json"]).json()["server"]["revision"].clone();
    let refused = token(&socket, &"x".repeat(3 << 20), "").await.expect_err("it is too long");
    let early = matches!(refused.code(), Code::InvalidArgument | Code::ResourceExhausted | Code::OutOfRange);
    assert!(early, "the agent refuses it by itself: {refused}");
    let after = writ.run(&["status", "--output", "json"]).json()["server"]["revision"].clone();
    assert_eq!(after, before, "nothing was recorded");
    Workload::connect(&socket).await.fetch().await.expect("others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_metadata_is_refused_and_others_are_served() {
    let writ = Writ::up();
    writ.entry("/mine", &[&own_uid()]);
    let long = "x".repeat(15 << 10);
    let names: Vec<String> = (0..70).map(|n| format!("x-long-{n}")).collect();
    let mut headers = vec![("workload.spiffe.io", "true")];
    headers.extend(names.iter().map(|name| (&*name.clone().leak(), long.as_str())));
    let refused = Workload::connect(&writ.workload_socket()).await.watch_with(&headers).next().await;
    assert!(refused.is_err(), "{refused:?}");
    Workload::connect(&writ.workload_socket()).await.fetch().await.expect("others are served");
}

#[test]
fn a_used_token_lets_no_second_machine_in_and_the_refusal_names_the_command() {
    let writ = Writ::up();
    let token = writ.ask(&["token", "create", "--node", "once"]);
    let token = token["token"].as_str().expect("a token");
    let arguments = ["agent", "run", "--server", &writ.ready.server_address, "--pin", &writ.ready.server_pin];
    let start = |folder: &Folder, name: &str| {
        let mut command = writ_command();
        command.args(arguments).args(["--token", token, "--output", "json", "--data"]).arg(folder.join("d"));
        Running::start(&mut command, name, folder.path())
    };
    let (first, second) = (Folder::new(), Folder::new());
    let joined = start(&first, "first");
    joined.line(SOON * 3);
    let mut late = start(&second, "second");
    assert_eq!(late.line_unless_it_ends(SOON * 3), None, "it does not serve");
    assert!(!late.ended(SOON).success());
    assert!(late.log().contains("writ token create"), "{}", late.log());
}
