//! Tasks as agents ask for them: what is granted, what is signed, and what a rogue agent gets.

use std::time::Duration;

use registry::{
    Object,
    decide::task::{HomeChange, To},
    objects::{Reason, Task, TaskState},
};
use serde_json::{Value, json};
use server_api::{
    CallError,
    admin::{Mode, Turned},
};
use spiffe::{
    Bundles, PrivateKey,
    jwt::{self, Type, validate_typed},
    tls::peer_svid,
    x509,
};
use tonic::Code;

use crate::{
    support::{Agent, Host, View, ders, now},
    work::{Work, begin, fresh_id, tasks_of, terms, wish},
};

fn leaf(agent: &Agent, chain: &[bytes::Bytes]) -> spiffe::tls::PeerSvid {
    let chain = ders(chain.iter().map(|der| der.to_vec()).collect());
    x509::svid::verify(&chain, &agent.bundles, now()).unwrap();
    peer_svid(Some(&chain)).unwrap().unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, CallError>) -> Code {
    match result {
        Err(CallError::Refused { code, .. }) => code,
        other => panic!("it was not refused: {other:?}"),
    }
}

async fn bundle(host: &Host) -> spiffe::Bundle {
    host.bundle(&host.serving.pin).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_begins_with_a_certificate_and_a_grant_that_end_with_it() {
    let work = Work::start().await;
    let begun = work.begin(json!({ "ttl": 120, "note": "ticket 7" })).await.unwrap();
    let task = &begun.task;
    assert_eq!(
        (task.actor.path(), task.mandate_version, task.note.as_str()),
        ("/agent/triage", 1, "ticket 7")
    );
    assert_eq!(task.home, work.mine.id());
    let svid = leaf(&work.mine, &begun.chain);
    assert_eq!(svid.id.path(), format!("/agent/triage/task/{}", task.id));
    assert!(svid.not_after <= task.expires_at && task.expires_at <= now() + Duration::from_secs(120));

    let bundle = bundle(&work.host).await;
    let claims = validate_typed(Type::Grant, &begun.grant, &bundle, now()).unwrap();
    let granted: Task = serde_json::from_value(claims["task"].clone()).unwrap();
    assert_eq!(granted, **task);
    assert!(claims["exp"].as_i64().unwrap() <= task.expires_at.unix_seconds());
    let long = work.begin(json!({})).await.unwrap();
    let life = leaf(&work.mine, &long.chain).not_after.since(now());
    assert!(life <= Duration::from_secs(300), "tier 1 lives five minutes, not {life:?}");
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_tier_two_has_certificates_of_a_minute() {
    let work = Work::start().await;
    let risky = json!({ "begin": { "workloads": ["/scheduler"] }, "tier": 2 });
    work.mandate("risky", terms("triage", risky)).await;
    let fields =
        json!({ "mandate": "risky", "beginner": "scheduler", "isolation": "cgroup", "egress": "confined" });
    let begun = work.begin(fields).await.unwrap();
    assert!(leaf(&work.mine, &begun.chain).not_after.since(now()) <= Duration::from_secs(60));
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_live_tasks_of_the_asking_node_get_certificates_and_tokens() {
    let work = Work::start().await;
    let id = work.begin(json!({})).await.unwrap().task.id.clone();
    let key = || PrivateKey::generate().unwrap().public_key().unwrap();
    let (mut mine, mut other) = (tasks_of(&work.mine).await, tasks_of(&work.other).await);
    let chain = mine.renew(&id, &key()).await.unwrap();
    assert!(leaf(&work.mine, &chain).id.path().ends_with(id.as_str()));
    mine.token(&id).await.unwrap();
    assert_eq!(code(other.renew(&id, &key()).await), Code::NotFound);
    assert_eq!(code(other.token(&id).await), Code::NotFound);
    assert_eq!(code(mine.renew(&fresh_id(), &key()).await), Code::NotFound);
    assert_eq!(code(mine.renew(&id, b"no key").await), Code::InvalidArgument);
    let to = |to| vec![HomeChange { task: id.clone(), to, at: now() }];
    assert_eq!(other.change(&to(To::Ended(Reason::Done))).await.unwrap(), [Code::NotFound]);
    assert_eq!(mine.change(&to(To::Suspended(Reason::Probing))).await.unwrap(), [Code::Ok]);
    assert_eq!(code(mine.renew(&id, &key()).await), Code::FailedPrecondition);
    assert_eq!(code(mine.token(&id).await), Code::FailedPrecondition);
    let mut all = to(To::Ended(Reason::DomainDead));
    all.extend(to(To::Closed));
    assert_eq!(mine.change(&all).await.unwrap(), [Code::Ok, Code::Ok]);
    assert_eq!(mine.change(&all).await.unwrap(), [Code::Ok, Code::Ok], "repeating it is safe");
    assert_eq!(code(mine.renew(&id, &key()).await), Code::FailedPrecondition);
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_actor_is_no_longer_placed_there_gets_nothing_more() {
    let work = Work::start().await;
    let id = work.begin(json!({})).await.unwrap().task.id.clone();
    work.host.apply(Mode::Delete, json!("triage")).await;
    let mut mine = tasks_of(&work.mine).await;
    let key = PrivateKey::generate().unwrap().public_key().unwrap();
    assert_eq!(code(mine.renew(&id, &key).await), Code::PermissionDenied);
    assert_eq!(code(mine.token(&id).await), Code::PermissionDenied);
    assert_eq!(code(work.begin(json!({})).await), Code::PermissionDenied);
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_and_transaction_tokens_are_no_jwt_svids() {
    let work = Work::start().await;
    let begun = work.begin(json!({ "ttl": 30 })).await.unwrap();
    let child = wish(json!({ "mandate": "help", "entry": "helper", "parent": begun.task.id }));
    let child = begin(&work.mine, fresh_id(), &child).await.unwrap();
    let made = tasks_of(&work.mine).await.token(&child.task.id).await.unwrap();
    assert!(made.expires_at <= begun.task.expires_at, "a token never outlives its task");
    let bundle = bundle(&work.host).await;
    let claims = validate_typed(Type::Transaction, &made.token, &bundle, now()).unwrap();
    assert_eq!(claims["txn"], json!(begun.task.id));
    assert_eq!(claims["req_wl"], json!(child.task.spiffe_id().unwrap()));
    let act = json!({ "sub": child.task.actor, "act": { "sub": begun.task.actor } });
    assert_eq!((&claims["act"], &claims["sub"]), (&act, &json!(begun.task.actor)));
    assert_eq!(claims["tctx"]["parent"], json!(begun.task.id));
    assert_eq!(
        (&claims["rctx"]["env"], &claims["rctx"]["isolation"]),
        (&json!("default"), &json!("process"))
    );
    let bundles: Bundles = [bundle.clone()].into_iter().collect();
    for token in [&made.token, &child.grant] {
        let audience = [bundle.trust_domain.id().to_string()];
        let refused = jwt::svid::validate(token, &audience, &bundles, now()).unwrap_err().to_string();
        assert!(refused.contains("typ"), "{refused}");
    }
    assert!(validate_typed(Type::Grant, &made.token, &bundle, now()).is_err());
    assert!(validate_typed(Type::Transaction, &child.grant, &bundle, now()).is_err());
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_new_the_log_is_the_pin_key_says() {
    let work = Work::start().await;
    let mut mine = tasks_of(&work.mine).await;
    let public_key = {
        use proto::writ::node::v1::{BundleRequest, node_client::NodeClient};
        let mut node = NodeClient::new(work.mine.channel().await);
        node.bundle(BundleRequest {}).await.unwrap().into_inner().pin_public_key
    };
    assert_eq!(spiffe::Pin::of(&public_key), work.host.serving.pin);
    let ours = "acme.example".parse().unwrap();
    let before = mine.fresh().await.unwrap();
    assert!(before.is_signed_by(&public_key, &ours));
    assert!(!before.is_signed_by(&public_key, &"other.example".parse().unwrap()));
    let begun = work.begin(json!({})).await.unwrap();
    let after = mine.fresh().await.unwrap();
    assert!(after.is_signed_by(&public_key, &ours) && after.at >= before.at);
    assert!(before.revision < begun.revision && begun.revision <= after.revision);
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_id_of_an_actor_is_signed_for_no_agent() {
    let work = Work::start().await;
    let signed = work.mine.sign(&["triage", "scheduler"]).await.unwrap();
    assert_eq!(signed[0].as_ref().unwrap_err().code, Code::PermissionDenied);
    assert!(signed[0].as_ref().unwrap_err().message.contains("only in its tasks"));
    assert!(signed[1].is_ok(), "what is no actor's is signed as ever");
    let tokens = work.mine.sign_jwt(&[("triage", &["api"]), ("scheduler", &["api"])]).await.unwrap();
    assert_eq!(tokens[0].as_ref().unwrap_err().code, Code::PermissionDenied);
    assert!(tokens[1].is_ok());
    let standing = json!({
        "id": "/agent/triage", "tenant": "acme", "owner": "ada", "purpose": "p", "autonomy": 1, "review_at": "2099-01-01",
        "ceiling": { "scope": [] }, "insecure_standing_identity": true,
    });
    work.declare("actor", standing).await;
    assert!(work.mine.sign(&["triage"]).await.unwrap()[0].is_ok(), "an operator may turn it off by name");
    work.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_could_honour_a_task_learns_of_its_end() {
    let work = Work::start().await;
    let (mut mine, mut other) =
        (View::follow(&work.mine, None).await.unwrap(), View::follow(&work.other, None).await.unwrap());
    let id = work.begin(json!({})).await.unwrap().task.id.clone();
    work.host.admin().await.turn_task(id.as_str(), Turned::Ended, "enough").await.unwrap();
    for view in [&mut mine, &mut other] {
        let ended = |view: &View| {
            view.objects.iter().any(|stored| match &stored.object {
                Object::Task(task) => task.id == id && matches!(task.state, TaskState::Ended { .. }),
                _ => false,
            })
        };
        while !ended(view) {
            view.step().await.unwrap().expect("the stream goes on");
        }
    }
    work.host.stop().await;
}

/// Each of these is a field that a rogue agent changes in a request that would be granted.
#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_agent_gets_nothing_that_its_node_was_not_given() {
    let work = Work::start().await;
    let mine = work.begin(json!({ "scope": [{ "tool": "files/read" }], "ttl": 60 })).await.unwrap();
    let theirs = wish(json!({ "entry": "cleaner", "mandate": "clean" }));
    let theirs = begin(&work.other, fresh_id(), &theirs).await.unwrap();
    let attacks: Vec<(&str, Value)> = vec![
        ("a foreign actor", json!({ "entry": "cleaner", "mandate": "clean" })),
        ("a foreign mandate", json!({ "mandate": "clean" })),
        ("an invented mandate", json!({ "mandate": "root" })),
        ("an invented entry", json!({ "entry": "root" })),
        ("a workload as actor", json!({ "entry": "scheduler" })),
        ("an invented beginner", json!({ "beginner": "scheduler" })),
        (
            "another node's task as parent",
            json!({ "mandate": "help", "entry": "helper", "parent": theirs.task.id }),
        ),
        ("an invented parent", json!({ "mandate": "help", "entry": "helper", "parent": fresh_id() })),
        ("no parent", json!({ "mandate": "help", "entry": "helper" })),
        ("nothing but foreign tools", json!({ "scope": [{ "tool": "shop/*" }] })),
        ("parameters", json!({ "params": { "dir": "/" } })),
    ];
    for (what, fields) in attacks {
        let granted = work.begin(fields).await;
        assert!(matches!(granted, Err(CallError::Refused { .. })), "{what}: {granted:?}");
    }
    // What is asked for beyond what is given is cut.
    let wide = work
        .begin(json!({ "scope": [{ "tool": "files/*" }, { "tool": "shop/*" }], "ttl": 10_000_000 }))
        .await
        .unwrap();
    assert_eq!(serde_json::to_value(&wide.task.scope).unwrap(), json!([{ "tool": "files/*" }]));
    assert!(wide.task.expires_at <= now() + Duration::from_secs(3600));
    let below = json!({ "mandate": "help", "entry": "helper", "parent": mine.task.id, "ttl": 3600 });
    let below = work.begin(below).await.unwrap();
    assert_eq!(below.task.scope, mine.task.scope);
    assert_eq!(below.task.expires_at, mine.task.expires_at);
    // Other tasks' names give nothing, and an id is used once.
    let twice = begin(&work.mine, theirs.task.id.clone(), &wish(json!({}))).await;
    assert_eq!(code(twice), Code::AlreadyExists);
    let twice = begin(&work.mine, mine.task.id.clone(), &wish(json!({ "ttl": 61 }))).await;
    assert_eq!(code(twice), Code::AlreadyExists);
    let old = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    assert_eq!(code(begin(&work.mine, old, &wish(json!({}))).await), Code::InvalidArgument);
    // A grant of its own making has no signer.
    let bundle = bundle(&work.host).await;
    let mut parts: Vec<&str> = mine.grant.split('.').collect();
    let other: Vec<&str> = wide.grant.split('.').collect();
    parts[1] = other[1];
    assert!(validate_typed(Type::Grant, &parts.join("."), &bundle, now()).is_err());
    work.host.stop().await;
}
