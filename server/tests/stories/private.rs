//! What the private socket offers beside the services themselves.

use proto::health::v1::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use server_api::connect::{connect, connect_private};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::Host;

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_are_for_this_machine_only() {
    let host = Host::start().await;
    let private = connect_private(&host.serving.socket).await.unwrap();
    let health = HealthClient::new(private.clone()).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(health.into_inner().status(), ServingStatus::Serving);

    let message_request = Some(MessageRequest::ListServices(String::new()));
    let ask = || {
        tokio_stream::once(ServerReflectionRequest {
            host: String::new(),
            message_request: message_request.clone(),
        })
    };
    let mut answers =
        ServerReflectionClient::new(private).server_reflection_info(ask()).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    for name in ["writ.admin.v1.Admin", "spire.api.server.entry.v1.Entry", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|listed| listed == name), "{name} is not among {names:?}");
    }
    assert!(!names.iter().any(|name| name == "SpiffeWorkloadAPI"), "{names:?}");

    let agent = host.agent("n").await;
    let tls = crate::support::tls(&agent.bundles, Some((&agent.chain, &agent.key)));
    let network = connect(&host.address(), tls).await.unwrap();
    let refused = ServerReflectionClient::new(network.clone()).server_reflection_info(ask()).await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
    let refused = HealthClient::new(network).check(HealthCheckRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    host.stop().await;
}
