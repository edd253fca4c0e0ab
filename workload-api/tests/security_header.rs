//! The header `workload.spiffe.io: true`, exactly once, on every method of the Workload API and nowhere else.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test")]

mod support;

use proto::{
    workload::{JwtBundlesRequest, JwtsvidRequest, WitsvidRequest, X509BundlesRequest, X509svidRequest},
    writ::explain::v1::{ExplainRequest, explain_client::ExplainClient},
};
use support::{Api, channel_at, holding, secure};
use tonic::{Code, Request};

fn with_values<T>(message: T, values: &[&str]) -> Request<T> {
    let mut request = Request::new(message);
    for value in values {
        request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn only_one_lower_case_true_is_a_security_header() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let table: [(&[&str], bool); 8] = [
        (&["true"], true),
        (&[], false),
        (&["false"], false),
        (&["TRUE"], false),
        (&["True"], false),
        (&["true", "true"], false),
        (&["true", "false"], false),
        (&["true, true"], false),
    ];
    for (values, served) in table {
        let svid = client.fetch_x509svid(with_values(X509svidRequest {}, values)).await;
        let bundles = client.fetch_x509_bundles(with_values(X509BundlesRequest {}, values)).await;
        let jwt = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() };
        let jwt = client.fetch_jwtsvid(with_values(jwt, values)).await;
        let jwt_bundles = client.fetch_jwt_bundles(with_values(JwtBundlesRequest {}, values)).await;
        for refused in [svid.err(), bundles.err(), jwt.err(), jwt_bundles.err()] {
            let refused = refused.map(|status| (status.code(), status.message().to_owned()));
            let expected = (Code::InvalidArgument, "security header missing from request".to_owned());
            assert_eq!(refused, (!served).then_some(expected), "{values:?}");
        }
    }
}

#[tokio::test]
async fn methods_that_are_not_served_yet_say_so_to_those_who_have_the_header() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let wit = WitsvidRequest::default();
    assert_eq!(client.fetch_witsvid(wit.clone()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.fetch_witsvid(secure(wit)).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn health_reflection_and_explain_need_no_header() {
    let api = Api::start(holding(&["/a"]));
    let channel = channel_at(&api.path).await;

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    let mut explain = ExplainClient::new(channel.clone());
    let own = explain.explain(ExplainRequest { pid: 0 }).await.unwrap().into_inner();
    assert_eq!(own.json, format!("{{\"pid\":{}}}", std::process::id()));
    let init = explain.explain(ExplainRequest { pid: 1 }).await.unwrap_err();
    assert_eq!((init.code(), init.message()), (Code::NotFound, "there is no process 1 of yours"));
    assert_eq!(explain.explain(ExplainRequest { pid: -1 }).await.unwrap_err().code(), Code::InvalidArgument);

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(futures::stream::iter([list])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("not a list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"SpiffeWorkloadAPI") && names.contains(&"grpc.health.v1.Health"), "{names:?}");
}
