//! Writ's agent lives on a real SPIRE server.

use integration_tests::daemon::Agent;
use integration_tests::eventually;
use integration_tests::spire::{PATIENCE, Server};
use integration_tests::workload::{Watch, Workload, ids};
use serde_json::json;
use tonic::Code;

use crate::own_uid;

/// A node that has joined, and the ID under which its entries stand.
fn joined(more: &str) -> Option<(Server, Agent, String)> {
    let server = Server::start(more)?;
    let token = server.commands.token();
    let agent = Agent::join_spire(&server, &token);
    Some((server, agent, format!("spiffe://writ.local/spire/agent/join_token/{token}")))
}

/// What the agent says is wrong with its server.
fn problem(agent: &Agent) -> Option<String> {
    let status = agent.run(&["status", "--output", "json"]).json();
    status["agent"]["problem"].as_str().map(str::to_owned)
}

/// A stream that has this identity, asked for as often as it is refused.
async fn served(agent: &Agent, id: &str) -> Watch {
    let workload = Workload::connect(&agent.workload_socket()).await;
    let mut stream = workload.watch();
    while stream.next().await.is_err() {
        stream = workload.watch();
    }
    drop(stream);
    let mut stream = workload.watch();
    stream.until(id, PATIENCE, |svids| ids(svids).contains(&id.to_owned())).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn its_entries_are_served_and_renewed_and_follow_every_change() {
    let Some((server, agent, node)) = joined("agent_ttl = \"20s\"") else { return };
    let life = ["-x509SVIDTTL", "10"];
    let entry = server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &life);
    let mut stream = served(&agent, "spiffe://writ.local/web").await;
    // Half of ten seconds is when an SVID is renewed, and half of twenty when the agent itself is.
    for _ in 0..5 {
        let svids = stream.next().await.expect("a stream without a gap");
        assert_eq!(ids(&svids), ["spiffe://writ.local/web"]);
    }

    let changed = ["entry", "update", "-entryID", &entry, "-spiffeID", "spiffe://writ.local/shop"];
    let rest = ["-parentID", &node, "-selector", &own_uid()];
    let _ = server.commands.run(&[&changed[..], &rest].concat()).done();
    // What it was is gone at once; what it is now comes when the server has signed it.
    stream.ended(PATIENCE).await;
    let mut stream = served(&agent, "spiffe://writ.local/shop").await;

    let _ = server.commands.run(&["entry", "delete", "-entryID", &entry]).done();
    let end = stream.ended(PATIENCE).await;
    assert_eq!(end.code(), Code::PermissionDenied, "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_node_and_an_evicted_one_lose_their_identities() {
    for verb in ["ban", "evict"] {
        let Some((server, agent, node)) = joined("") else { return };
        server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &[]);
        let mut stream = served(&agent, "spiffe://writ.local/web").await;
        let _ = server.commands.run(&["agent", verb, "-spiffeID", &node]).done();
        let end = stream.ended(PATIENCE).await;
        assert_eq!(end.code(), Code::PermissionDenied, "{verb}: {end}");
        let problem = || problem(&agent).filter(|says| says.contains(verb));
        eventually("the agent says why", PATIENCE, problem);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_authority_takes_no_agent_with_it() {
    // SPIRE's own agent ends in this case.
    let Some(mut server) = Server::start_with_keys("memory", "") else { return };
    let token = server.commands.token();
    let mut agent = Agent::join_spire(&server, &token);
    let node = format!("spiffe://writ.local/spire/agent/join_token/{token}");
    server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &[]);
    let stream = served(&agent, "spiffe://writ.local/web").await;
    server.kill_and_start();
    eventually("the agent cannot verify its server", PATIENCE, || problem(&agent));
    let again = Workload::connect(&agent.workload_socket()).await.fetch().await;
    assert_eq!(ids(&again.expect("what is valid is served")), ["spiffe://writ.local/web"]);

    // The operator gives it the new bundle, and it goes on as the node that it was.
    agent.give_again(&server, &token);
    server.commands.entry("spiffe://writ.local/again", &node, &own_uid(), &[]);
    served(&agent, "spiffe://writ.local/again").await;
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_serves_on_while_its_server_is_down_and_after_its_own_restart() {
    let Some((mut server, mut agent, node)) = joined("") else { return };
    server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &[]);
    let before = served(&agent, "spiffe://writ.local/web").await;
    drop(before);
    server.kill();
    let cached = Workload::connect(&agent.workload_socket()).await.fetch().await;
    assert_eq!(ids(&cached.expect("what is valid is served")), ["spiffe://writ.local/web"]);
    agent.kill_and_start();
    server.kill_and_start();
    // Its token was spent long ago: it comes back with its certificate.
    served(&agent, "spiffe://writ.local/web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_entries_and_more_are_followed_page_by_page() {
    let Some((server, agent, node)) = joined("") else { return };
    let entry = |n: usize| {
        json!({
            "spiffe_id": format!("spiffe://writ.local/n/{n}"), "parent_id": node,
            "selectors": [{ "type": "unix", "value": format!("uid:{}", 100_000 + n) }],
            "disable_x509_svid_prefetch": true,
        })
    };
    let many = json!({ "entries": (0..1200).map(entry).collect::<Vec<_>>() });
    let file = agent.file("entries.json");
    std::fs::write(&file, many.to_string()).expect("the folder is ours");
    let made = server.commands.run(&["entry", "create", "-data", &file.display().to_string()]);
    let _ = made.done();
    let count = || agent.run(&["status", "--output", "json"]).json()["agent"]["entries"].as_u64();
    eventually("all of them", PATIENCE, || (count() == Some(1200)).then_some(()));
    let one = server.commands.ask(&["entry", "show", "-spiffeID", "spiffe://writ.local/n/7"]);
    let id = one["entries"][0]["id"].as_str().expect("it is there").to_owned();
    let _ = server.commands.run(&["entry", "delete", "-entryID", &id]).done();
    eventually("one fewer", PATIENCE, || (count() == Some(1199)).then_some(()));
    server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &[]);
    served(&agent, "spiffe://writ.local/web").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_authority_turns_without_a_gap_and_an_svid_under_a_tainted_one_is_made_anew() {
    let Some((server, agent, node)) = joined("") else { return };
    server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &[]);
    let mut stream = served(&agent, "spiffe://writ.local/web").await;
    let first = Workload::connect(&agent.workload_socket()).await.fetch().await.expect("it has one");
    let id = |slot: &str, json: &serde_json::Value| {
        json[slot]["authority_id"].as_str().unwrap_or_else(|| panic!("no {slot} in {json}")).to_owned()
    };
    let old = id("active", &server.commands.ask(&["localauthority", "x509", "show"]));
    let next = id("prepared_authority", &server.commands.ask(&["localauthority", "x509", "prepare"]));
    let _ = server.commands.ask(&["localauthority", "x509", "activate", "-authorityID", &next]);
    let _ = server.commands.ask(&["localauthority", "x509", "taint", "-authorityID", &old]);
    let renewed = |svids: &[integration_tests::workload::Svid]| svids[0].serial != first[0].serial;
    stream.until("an SVID under the new authority", PATIENCE, renewed).await;
    // Its server's certificate must be of the new authority, or the agent could not ask it any more.
    let _ = server.commands.ask(&["localauthority", "x509", "revoke", "-authorityID", &old]);
    let again = Workload::connect(&agent.workload_socket()).await.fetch().await;
    assert_eq!(ids(&again.expect("no gap")), ["spiffe://writ.local/web"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_tokens_and_the_bundles_of_others_reach_workloads() {
    let Some((server, agent, node)) = joined("") else { return };
    let foreign = agent.file("foreign.pem");
    std::fs::write(&foreign, server.commands.bundle()).expect("the folder is ours");
    let foreign = foreign.display().to_string();
    let set = ["bundle", "set", "-id", "spiffe://other.example", "-path", &foreign];
    let _ = server.commands.run(&set).done();
    let federated = ["-federatesWith", "spiffe://other.example"];
    server.commands.entry("spiffe://writ.local/web", &node, &own_uid(), &federated);
    served(&agent, "spiffe://writ.local/web").await;

    let workload = Workload::connect(&agent.workload_socket()).await;
    let token = workload.token("shop").await.expect("the server signs it");
    assert_eq!(workload.validate("shop", &token.text).await.expect("it is valid"), "spiffe://writ.local/web");
    workload.validate("other", &token.text).await.expect_err("it is for another audience");
    let again = workload.token("shop").await.expect("it is kept");
    assert_eq!(again.text, token.text);
    let bundles = workload.jwt_bundles().await.expect("a stream").message().await.expect("an answer");
    let bundles: Vec<_> = bundles.expect("a first message").bundles.into_keys().collect();
    assert_eq!(bundles, ["spiffe://other.example", "spiffe://writ.local"]);
}
