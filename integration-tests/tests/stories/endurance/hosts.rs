//! Two hosts with a cable between them, which stand in two environments: what began in one of them is nothing in the other.

use integration_tests::daemon::{Agent, Server};
use integration_tests::gate::{Client, Gate};
use integration_tests::{Folder, eventually, needs, test_workload};
use serde_json::json;

use super::{Ground, NODE, Worker, actor, mandate, permitted_soon};
use crate::network::Cable;
use crate::{SOON, own_uid};

/// The node of the other host.
const OTHER: &str = "other";

/// A21: a task of the development host is carried to the production host, by its process and by its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_one_environment_is_nobodys_on_a_host_of_another() {
    if !needs::root() || !needs::program("ip", "iproute2") {
        return;
    }
    let cable = Cable::lay();
    let within = |name: &str| ["ip", "netns", "exec", name].map(str::to_owned);
    let [dev_host, prod_host] = cable.names.each_ref().map(|name| within(name));
    let dev_host = dev_host.each_ref().map(String::as_str);
    let prod_host = prod_host.each_ref().map(String::as_str);
    let server = Server::start_below(&dev_host, &format!("{}:8081", Cable::ADDRESSES[0]), "");
    let ground = Ground::below(&dev_host, server, Folder::new());
    let token = format!("token = {:?}\n", ground.server.token(OTHER));
    let prod = Agent::start_below(&prod_host, &ground.server, Folder::new(), &token);
    for (path, program) in [
        ("/agent/worker", test_workload()),
        ("/gate", std::env::current_exe().expect("a test knows its own program")),
    ] {
        prod.entry(&ground.server, OTHER, path, &[&own_uid(), &format!("unix:path:{}", program.display())]);
    }
    let stands_in = |node: &str, environment: &str| {
        let _ = ground.server.run(&["node", "set-environment", node, environment]).done();
    };
    stands_in(NODE, "dev");
    stands_in(OTHER, "prod");
    let mut worker = actor("/agent/worker");
    worker["ceiling"]["environments"] = json!(["dev", "prod"]);
    let of = |environment: &str| json!({ "environments": [environment] });
    ground.apply(&[worker, mandate("build", &of("dev")), mandate("release", &of("prod"))]);
    ground.approve("build");
    ground.approve("release");

    let (mut at_dev, mut at_prod) = (ground.worker(), Worker::start(&prod.workload_socket()));
    let (build, release) = (at_dev.begin("build"), at_prod.begin("release"));
    let dev_gate = ground.gate_soon().await;
    let prod_gate = Gate::open(&prod.file("public/authz.sock"), &["box"]).await.expect("it is a gate there");
    permitted_soon(&dev_gate, &at_dev.for_task(&build)).await;
    permitted_soon(&prod_gate, &at_prod.for_task(&release)).await;

    // Carried over: the process itself, its task's name in the hands of one that is there, and the same the other way.
    for (gate, client) in [
        (&prod_gate, at_dev.for_task(&build)),
        (&prod_gate, at_prod.for_task(&build)),
        (&dev_gate, at_prod.for_task(&release)),
        (&dev_gate, at_dev.for_task(&release)),
    ] {
        assert_eq!(refused(gate, &client).await, "no_task");
    }
    for (worker, elsewhere) in [(&mut at_prod, "build"), (&mut at_dev, "release")] {
        let refused = worker.order(&format!("begin {elsewhere}")).expect_err("it is for another environment");
        assert!(refused.to_string().contains("environment"), "{elsewhere}: {refused}");
    }

    // Where a host stands is the server's word, and what began there does not follow it.
    stands_in(NODE, "prod");
    eventually("the task has ended for that", SOON, || {
        (ground.task(&build)["state"]["reason"] == "environment_changed").then_some(())
    });
    assert_eq!(refused(&dev_gate, &at_dev.for_task(&build)).await, "no_task");
    permitted_soon(&prod_gate, &at_prod.for_task(&release)).await;

    eventually("both hosts have it on record", SOON, || {
        let denials = ground.recorded("denials");
        let on = |node: &str| {
            let ends =
                |id: &serde_json::Value| id.as_str().is_some_and(|id| id.ends_with(&format!("/{node}")));
            denials.iter().any(|record| {
                ends(&record["node"])
                    && record["reason"].as_str().is_some_and(|why| why.starts_with("no_task"))
            })
        };
        (on(NODE) && on(OTHER)).then_some(())
    });
    let _ = ground.server.run(&["audit", "verify"]).done();
}

/// Why a call is not permitted.
async fn refused(gate: &Gate, client: &Client) -> String {
    let verdict = gate.ask(client, "box/look", "{}").await.expect("the session stands");
    assert!(!verdict.permitted, "{client:?}");
    verdict.reason
}
