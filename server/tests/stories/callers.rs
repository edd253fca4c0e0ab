//! Every kind of caller and every method, over real connections: what is answered follows from the one
//! table, and from nothing else.

use std::{error::Error as _, time::Duration};

use server::{CALLERS, May};
use server_api::connect::{connect, connect_private};
use spiffe::PrivateKey;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::{
    foreign::Foreign,
    support::{Agent, Host, ders, eventually, order, tls},
};

/// What whoever may not gets to hear, or how a connection without right to be ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// The service itself answered, whatever it said.
    Served,
    /// The table said no.
    Denied,
    /// There was no connection.
    Cut,
}

/// An empty message is enough: the table comes before any message is read.
async fn ask(channel: &Channel, method: &'static str) -> Answer {
    let asked = async {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let request = tonic::Request::new(tokio_stream::once(()));
        let codec = ProstCodec::<(), ()>::default();
        let answer = grpc.streaming(request, PathAndQuery::from_static(method), codec).await?;
        answer.into_inner().next().await.unwrap_or(Ok(()))
    };
    match tokio::time::timeout(Duration::from_secs(20), asked).await.expect(method) {
        Err(status) if status.code() == Code::PermissionDenied => Answer::Denied,
        Err(status) if status.source().is_some() => Answer::Cut, // nobody but this end said so
        _ => Answer::Served,
    }
}

/// A caller of some kind, what it may, and what those get who come with it but may not.
struct Kind {
    name: &'static str,
    channel: Channel,
    may: &'static [May],
    otherwise: Answer,
}

async fn svid(agent: &Agent, entry: &str) -> Agent {
    let key = PrivateKey::generate().unwrap();
    let mut order = order(entry);
    order.public_key = key.public_key().unwrap();
    let chain = agent.node().await.sign(&[order]).await.unwrap().remove(0).unwrap();
    let chain = ders(chain.iter().map(|der| der.to_vec()).collect());
    Agent { chain, key, ..agent.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_kind_of_caller_gets_what_the_table_says_and_nothing_else() {
    let host = Host::start().await;
    let foreign = Foreign::new("other.example");
    foreign.set(&host).await;
    let agent = host.agent("n").await;
    for (id, fields) in [
        ("plain", serde_json::json!({ "federates_with": ["other.example"] })),
        ("boss", serde_json::json!({ "admin": true })),
        ("below", serde_json::json!({ "downstream": true })),
        ("short", serde_json::json!({ "admin": true, "x509_svid_ttl": 1 })),
    ] {
        let mut body = serde_json::json!({
            "id": id, "spiffe_id": format!("/{id}"), "parent": "n", "selectors": ["unix:uid:1"],
        });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        host.entry(body).await;
    }
    let (banned, evicted) = (host.agent("banned").await, host.agent("evicted").await);
    for gone in [&banned, &evicted] {
        gone.sign(&[]).await.unwrap(); // it was in good standing
    }
    host.admin().await.ban_node("banned").await.unwrap();
    host.admin().await.evict_node("evicted").await.unwrap();
    let expired = svid(&agent, "short").await;
    eventually("the certificate has ended", || async {
        ask(&expired.channel().await, CALLERS[0].0).await == Answer::Cut
    })
    .await;

    let anyone: &[May] = &[May::Anyone];
    let denied = |name, channel, may| Kind { name, channel, may, otherwise: Answer::Denied };
    let cut = |name, channel| Kind { name, channel, may: &[], otherwise: Answer::Cut };
    let stranger = connect(&host.address(), tls(&agent.bundles, None)).await.unwrap();
    let other = |id: &str| foreign.svid(id, &agent);
    let other_agent = "spiffe://other.example/spire/agent/join_token/n";
    let kinds = [
        denied("nobody", stranger, anyone),
        denied("a workload", svid(&agent, "plain").await.channel().await, anyone),
        denied("an agent", agent.channel().await, &[May::Anyone, May::Node, May::AdminOrNode]),
        denied(
            "an administrator",
            svid(&agent, "boss").await.channel().await,
            &[May::Anyone, May::Admin, May::AdminOrNode],
        ),
        denied(
            "a server below",
            svid(&agent, "below").await.channel().await,
            &[May::Anyone, May::Downstream],
        ),
        denied("a banned agent", banned.channel().await, anyone),
        denied("an evicted agent", evicted.channel().await, anyone),
        denied(
            "the private socket",
            connect_private(&host.serving.socket).await.unwrap(),
            &[May::Anyone, May::Admin, May::AdminOrNode, May::Local],
        ),
        cut("an expired certificate", expired.channel().await),
        cut("another trust domain", other("spiffe://other.example/w").channel().await),
        cut("another trust domain's agent", other(other_agent).channel().await),
        cut("a federated authority that names our agent", other(agent.id().as_str()).channel().await),
        cut(
            "a federated authority that names our administrator",
            other("spiffe://acme.example/boss").channel().await,
        ),
    ];
    let mut wrong = Vec::new();
    for kind in &kinds {
        for (method, row) in CALLERS {
            let expected = match kind.may.contains(row) {
                true => Answer::Served,
                false => kind.otherwise,
            };
            let answer = ask(&kind.channel, method).await;
            if answer != expected {
                wrong.push(format!("{}: {method} is {answer:?}, not {expected:?}", kind.name));
            }
        }
        let unknown = ask(&kind.channel, "/spire.api.server.svid.v1.SVID/NotThere").await;
        let expected = if kind.name == "the private socket" { Answer::Served } else { kind.otherwise };
        assert_eq!(unknown, expected, "{}: a method without a row is nobody's", kind.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    host.stop().await;
}
