//! A rogue node: it has a real node's certificate and says whatever it likes. It gets what its own actors may have, and
//! nothing of others.

use integration_tests::daemon::Server;
use integration_tests::tls::{self, Identity};
use integration_tests::{Folder, node};
use proto::writ::audit::v1::recorder_client::RecorderClient;
use proto::writ::node::v1::node_client::NodeClient;
use proto::writ::node::v1::tasks_client::TasksClient;
use proto::writ::node::v1::{
    BeginTaskRequest, BeginTaskResponse, ChangeTasksRequest, FreshRequest, RenewTaskRequest, SignItem,
    SignJwtItem, SignJwtRequest, SignRequest, TaskChange, TaskTokenRequest, task_change,
};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Ground, Worker, actor, apply, mandate};

use crate::own_uid;

mod grants;
mod records;

/// A node that was admitted, and speaks for itself.
struct Rogue {
    id: String,
    /// Of whatever it has signed.
    key: KeyPair,
    channel: Channel,
    last: u64,
}

/// What is registered for the rogue's node and for the honest one.
struct Scene {
    ground: Ground,
    rogue: Rogue,
    /// Entries by path.
    entries: Vec<(&'static str, String)>,
}

impl Rogue {
    async fn join(server: &Server) -> Self {
        let identity = node::join(server.address(), &server.token("rogue")).await.expect("the token counts");
        let channel = tls::connect(server.address(), Some(&identity)).await.expect("its certificate counts");
        let id = "spiffe://writ.local/spire/agent/join_token/rogue".to_owned();
        Self { id, key: KeyPair::generate().expect("a key"), channel, last: 0 }
    }

    fn tasks(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    /// A request that an honest agent would make, for the actor of this node.
    fn wish(&mut self, entry: &str, mandate: &str) -> BeginTaskRequest {
        self.last += 1;
        BeginTaskRequest {
            mandate: mandate.into(),
            entry_id: entry.into(),
            isolation: "process".into(),
            egress: "open".into(),
            public_key: self.key.subject_public_key_info().into(),
            id: ulid(now_millis(), self.last),
            ..BeginTaskRequest::default()
        }
    }

    async fn begin(&self, wish: BeginTaskRequest) -> Result<BeginTaskResponse, Status> {
        Ok(self.tasks().begin_task(wish).await?.into_inner())
    }

    async fn change(&self, changes: Vec<TaskChange>) -> Result<Vec<Code>, Status> {
        let answer = self.tasks().change_tasks(ChangeTasksRequest { changes }).await?.into_inner();
        Ok(answer.codes.into_iter().map(Code::from).collect())
    }

    async fn renew(&self, task: &str) -> Result<(), Status> {
        let public_key = self.key.subject_public_key_info().into();
        self.tasks().renew_task(RenewTaskRequest { task: task.into(), public_key }).await.map(drop)
    }

    async fn token(&self, task: &str) -> Result<(), Status> {
        self.tasks().task_token(TaskTokenRequest { task: task.into() }).await.map(drop)
    }
}

impl Scene {
    async fn set(settings: &str) -> Self {
        let ground = Ground::at(Server::start(settings), Folder::new());
        let rogue = Rogue::join(&ground.server).await;
        apply(
            &ground.server,
            &[
                json!({ "kind": "Tenant", "name": "shop" }),
                json!({
                    "kind": "Actor", "id": "/agent/own", "tenant": "shop", "owner": "bob@shop.example",
                    "purpose": "sells", "autonomy": 2, "review_at": "2099-01-01",
                    "ceiling": { "scope": [{ "tool": "box/*" }], "environments": ["default"] },
                }),
                actor("/agent/idle"),
                mandate(
                    "own",
                    &json!({
                        "actor": "/agent/own", "scope": [{ "tool": "box/look", "args": { "at": [{ "one_of": ["a", "b"] }] } }],
                        "begin": { "itself": true, "parents": ["/agent/own"] }, "ttl": "5m", "max_depth": 1, "data_max": 0,
                    }),
                ),
                mandate(
                    "asked",
                    &json!({ "actor": "/agent/own", "begin": { "workloads": ["/scheduler"] } , "data_max": 0 }),
                ),
                mandate("draft", &json!({ "actor": "/agent/own", "data_max": 0 })),
            ],
        );
        ["own", "asked"].iter().for_each(|mandate| ground.approve(mandate));
        let entries = [
            ("/agent/own", "rogue"),
            ("/plain", "rogue"),
            ("/agent/idle", super::NODE),
            ("/scheduler", super::NODE),
        ];
        let entries =
            entries.map(|(path, node)| (path, created(&ground.server, path, node))).into_iter().collect();
        Self { ground, rogue, entries }
    }

    fn entry(&self, path: &str) -> String {
        self.entries.iter().find(|(of, _)| *of == path).expect("it was made").1.clone()
    }

    /// The entry of the actor on the honest node.
    fn worker_entry(&self) -> String {
        let all = self.ground.server.run(&["entry", "list", "--output", "json"]).done().json();
        let found = all["entries"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|entry| entry["spiffe_id"].as_str().is_some_and(|id| id.ends_with("/agent/worker")));
        found.expect("it is registered")["id"].as_str().expect("an id").to_owned()
    }
}

fn created(server: &Server, path: &str, node: &str) -> String {
    let entry = ["entry", "create", "--spiffe-id", path, "--parent", node, "--selector", &own_uid()];
    let made = server.run(&[&entry[..], &["--output", "json"]].concat()).done().json();
    made["id"].as_str().expect("an entry has an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_node_begins_nothing_for_others_and_nothing_wider_or_longer() {
    let mut scene = Scene::set("").await;
    let mut worker = scene.ground.worker();
    let foreign = worker.begin("work");
    let plain = scene.entry("/plain");
    let (own, theirs, idle) = (scene.entry("/agent/own"), scene.worker_entry(), scene.entry("/agent/idle"));
    let scheduler = scene.entry("/scheduler");
    let rogue = &mut scene.rogue;

    // What it may: a task of its own actor, within the mandate whatever it asks for.
    let greedy = BeginTaskRequest {
        scope: br#"[{"tool":"box/*"},{"tool":"vault/*"}]"#.to_vec().into(),
        ttl: 86_400,
        ..rogue.wish(&own, "own")
    };
    let begun = rogue.begin(greedy).await.expect("its own actor may begin this by itself");
    let task: Value = serde_json::from_slice(&begun.task.expect("a task").body).expect("JSON");
    assert_eq!(
        task["scope"],
        json!([{ "tool": "box/look", "args": { "at": [{ "one_of": ["a", "b"] }] } }]),
        "no wider scope"
    );
    assert_eq!(lifetime(&task), 300_000, "no longer ttl: {task}");
    let own_task = task["id"].as_str().expect("an id").to_owned();
    let wish = BeginTaskRequest { parent: own_task.clone(), ..rogue.wish(&own, "own") };
    let child = rogue.begin(wish).await;
    let child: Value =
        serde_json::from_slice(&child.expect("one below is allowed").task.expect("a task").body)
            .expect("JSON");
    let below = child["id"].as_str().expect("an id").to_owned();
    assert!(child["expires_at"].as_str() <= task["expires_at"].as_str(), "{child}\n{task}");

    let with = |wish: BeginTaskRequest, change: fn(&mut BeginTaskRequest, &str), value: &str| {
        let mut wish = wish;
        change(&mut wish, value);
        wish
    };
    let parent = |wish: &mut BeginTaskRequest, value: &str| wish.parent = value.into();
    let beginner = |wish: &mut BeginTaskRequest, value: &str| wish.beginner_entry_id = value.into();
    let id = |wish: &mut BeginTaskRequest, value: &str| wish.id = value.into();
    let scope = |wish: &mut BeginTaskRequest, value: &str| wish.scope = value.as_bytes().to_vec().into();
    let params = |wish: &mut BeginTaskRequest, value: &str| wish.params = value.as_bytes().to_vec().into();
    let invented = ulid(now_millis(), 99);
    let old = ulid(now_millis() - 3_600_000, 1);
    let late = ulid(now_millis() + 3_600_000, 1);
    let attempts = [
        ("a foreign actor", rogue.wish(&theirs, "work"), Code::PermissionDenied),
        ("a foreign actor that does nothing now", rogue.wish(&idle, "work"), Code::PermissionDenied),
        ("a foreign actor under its own mandate", rogue.wish(&theirs, "own"), Code::PermissionDenied),
        ("a foreign mandate", rogue.wish(&own, "work"), Code::PermissionDenied),
        ("an invented mandate", rogue.wish(&own, "all"), Code::PermissionDenied),
        ("a mandate that nobody approved", rogue.wish(&own, "draft"), Code::PermissionDenied),
        ("an invented entry", rogue.wish("0000", "own"), Code::PermissionDenied),
        ("a workload of its own for an actor", rogue.wish(&plain, "own"), Code::PermissionDenied),
        ("by itself what others must ask for", rogue.wish(&own, "asked"), Code::PermissionDenied),
        (
            "in the name of another node's workload",
            with(rogue.wish(&own, "asked"), beginner, &scheduler),
            Code::PermissionDenied,
        ),
        (
            "in the name of its own workload",
            with(rogue.wish(&own, "asked"), beginner, &own),
            Code::PermissionDenied,
        ),
        (
            "another scope",
            with(rogue.wish(&own, "own"), scope, r#"[{"tool":"vault/*"}]"#),
            Code::PermissionDenied,
        ),
        (
            "parameters that the mandate has not",
            with(rogue.wish(&own, "own"), params, r#"{"n":1}"#),
            Code::InvalidArgument,
        ),
        (
            "parameters that say two things",
            with(rogue.wish(&own, "own"), params, r#"{"n":1,"n":2}"#),
            Code::InvalidArgument,
        ),
        ("below an invented task", with(rogue.wish(&own, "own"), parent, &invented), Code::PermissionDenied),
        (
            "below another node's task",
            with(rogue.wish(&own, "own"), parent, &foreign),
            Code::PermissionDenied,
        ),
        ("deeper than the mandate", with(rogue.wish(&own, "own"), parent, &below), Code::PermissionDenied),
        (
            "two beginners",
            with(with(rogue.wish(&own, "own"), parent, &own_task), beginner, &own),
            Code::InvalidArgument,
        ),
        ("another node's task again", with(rogue.wish(&own, "own"), id, &foreign), Code::AlreadyExists),
        ("its own task with other words", with(rogue.wish(&own, "own"), id, &own_task), Code::AlreadyExists),
        ("an id of an hour ago", with(rogue.wish(&own, "own"), id, &old), Code::InvalidArgument),
        ("an id of an hour ahead", with(rogue.wish(&own, "own"), id, &late), Code::InvalidArgument),
        ("no id", with(rogue.wish(&own, "own"), id, ""), Code::InvalidArgument),
    ];
    let attempts_made = attempts.len();
    let before = begun_tasks(&scene.ground.server);
    for (what, wish, code) in attempts {
        let refused = rogue.begin(wish).await.expect_err(what);
        assert_eq!(refused.code(), code, "{what}: {refused}");
    }
    assert_eq!(begun_tasks(&scene.ground.server), before, "nothing has begun");
    // One refusal a second and node is on record, so that the log does not grow by them.
    let recorded = scene.ground.recorded("task.begin");
    let refusals =
        recorded.iter().filter(|record| record["outcome"] != "done" && record["author"]["id"] == *rogue.id);
    assert!(
        (1..attempts_made).contains(&refusals.count()),
        "{:?}",
        recorded.iter().map(|r| &r["outcome"]).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_node_has_no_hand_in_other_nodes_tasks_nor_in_what_is_over() {
    let mut scene = Scene::set("").await;
    let mut worker = scene.ground.worker();
    let foreign = worker.begin("work");
    let (own, plain, theirs) = (scene.entry("/agent/own"), scene.entry("/plain"), scene.worker_entry());
    let rogue = &mut scene.rogue;
    let wish = rogue.wish(&own, "own");
    let own_task = wish.id.clone();
    let chain = rogue.begin(wish).await.expect("its own actor may").chain;

    assert_eq!(rogue.renew(&foreign).await.expect_err("another node's").code(), Code::NotFound);
    assert_eq!(rogue.token(&foreign).await.expect_err("another node's").code(), Code::NotFound);
    let said = |task: &str, to: task_change::To, reason: &str| TaskChange {
        task: task.into(),
        to: to.into(),
        reason: reason.into(),
        at: i64::MAX,
    };
    use task_change::To;
    let codes = rogue
        .change(vec![
            said(&foreign, To::Ended, "done"),
            said(&foreign, To::Suspended, "probing"),
            said(&foreign, To::Closed, ""),
            said(&own_task, To::Ended, "administrator"),
            said(&own_task, To::Suspended, "review_overdue"),
            said(&own_task, To::Unspecified, "done"),
            said(&own_task, To::Closed, ""),
            said("x", To::Ended, "done"),
        ])
        .await
        .expect("each fails by itself");
    let expected = [
        Code::NotFound,
        Code::NotFound,
        Code::NotFound,
        Code::InvalidArgument,
        Code::InvalidArgument,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::InvalidArgument,
    ];
    assert_eq!(codes, expected);
    let many = vec![said(&foreign, To::Ended, "done"); 501];
    assert_eq!(rogue.change(many).await.expect_err("too many").code(), Code::InvalidArgument);
    assert_eq!(scene.ground.task(&foreign)["state"]["is"], "active", "it goes on");

    // Neither the actor's own ID nor another node's is signed for, and a task's certificate makes no node.
    let items = [own.clone(), theirs];
    let mut node = NodeClient::new(rogue.channel.clone());
    let sign = |entry_id: &String| SignItem {
        entry_id: entry_id.clone(),
        public_key: rogue.key.subject_public_key_info().into(),
    };
    let signed = node
        .sign(SignRequest { items: items.iter().map(sign).collect() })
        .await
        .expect("each fails by itself");
    assert!(signed.into_inner().results.iter().all(|result| result.chain.is_empty() && result.code != 0));
    let jwt = |entry_id: &String| SignJwtItem { entry_id: entry_id.clone(), audience: vec!["db".into()] };
    let signed = node
        .sign_jwt(SignJwtRequest { items: items.iter().map(jwt).collect() })
        .await
        .expect("each fails by itself");
    assert!(signed.into_inner().results.iter().all(|result| result.token.is_empty() && result.code != 0));
    let plain = SignRequest { items: vec![sign(&plain)] };
    let plain = node.sign(plain).await.expect("its own workload").into_inner().results.remove(0).chain;
    assert!(!plain.is_empty(), "the key is one that is signed for");
    for chain in [plain, chain] {
        let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let workload = Identity { chain, key: rogue.key.serialize_der() };
        refused_as(&scene.ground.server, &workload).await;
    }
    refused_as(&scene.ground.server, &Identity::foreign(&rogue.id)).await;

    // What is over stays over.
    assert_eq!(rogue.change(vec![said(&own_task, To::Ended, "done")]).await.expect("an answer"), [Code::Ok]);
    assert_eq!(rogue.renew(&own_task).await.expect_err("over").code(), Code::FailedPrecondition);
    assert_eq!(rogue.token(&own_task).await.expect_err("over").code(), Code::FailedPrecondition);
    let _ = rogue.change(vec![said(&own_task, To::Suspended, "probing")]).await.expect("an answer");
    let below = BeginTaskRequest { parent: own_task.clone(), ..rogue.wish(&own, "own") };
    assert_eq!(rogue.begin(below).await.expect_err("over").code(), Code::FailedPrecondition);
    assert_eq!(scene.ground.task(&own_task)["state"]["is"], "ended");

    // And so does a node that was evicted.
    let _ = scene.ground.server.run(&["node", "evict", &rogue.id]).done();
    let wish = rogue.wish(&own, "own");
    for refused in [
        rogue.begin(wish).await.map(drop),
        rogue.tasks().fresh(FreshRequest {}).await.map(drop),
        rogue.change(vec![said(&foreign, To::Ended, "done")]).await.map(drop),
    ] {
        let refused = refused.expect_err("it is no node any more");
        assert!(
            matches!(refused.code(), Code::PermissionDenied | Code::Unauthenticated | Code::Unavailable),
            "{refused}"
        );
    }
    assert_eq!(scene.ground.task(&foreign)["state"]["is"], "active", "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_node_begins_no_more_than_the_server_allows() {
    let mut scene = Scene::set("[tasks]\non_node = 5\nof_actor = 3\n").await;
    let own = scene.entry("/agent/own");
    let rogue = &mut scene.rogue;
    let mut begun = 0;
    for _ in 0..20 {
        let wish = rogue.wish(&own, "own");
        match rogue.begin(wish).await {
            Ok(_) => begun += 1,
            Err(refused) => assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}"),
        }
    }
    assert_eq!(begun, 3);
    let _ = Worker::start(&scene.ground.agent.workload_socket()).begin("work");
}

/// Insists that whoever shows this is no node.
async fn refused_as(server: &Server, identity: &Identity) {
    if let Ok(channel) = tls::connect(server.address(), Some(identity)).await {
        let refused = TasksClient::new(channel).fresh(FreshRequest {}).await;
        let _ = refused.expect_err("this is no node's certificate");
    }
}

fn begun_tasks(server: &Server) -> usize {
    let all = server.run(&["task", "list", "--all", "--output", "json"]).done().json();
    all["tasks"].as_array().map_or(0, Vec::len)
}

fn lifetime(task: &Value) -> i64 {
    let at = |field: &str| {
        time::OffsetDateTime::parse(
            task[field].as_str().expect("a time"),
            &time::format_description::well_known::Rfc3339,
        )
        .expect("RFC 3339")
    };
    i64::try_from((at("expires_at") - at("began_at")).whole_milliseconds()).expect("it is short")
}

fn now_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_millis()).expect("it fits")
}

/// A ULID of this moment.
fn ulid(millis: u64, number: u64) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut value = u128::from(millis) << 80 | u128::from(rand::random::<u32>()) << 32 | u128::from(number);
    let mut text = [0; 26];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(value % 32) as usize];
        value /= 32;
    }
    String::from_utf8(text.to_vec()).expect("ASCII")
}
