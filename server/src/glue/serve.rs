//! The two doors: the network with mutual TLS, and the private socket. Behind both are the same
//! services; the caller table says who may use which.

use std::{sync::Arc, time::Duration};

use attestors::node::MAX_PAYLOAD;
use daemon::Shutdown;
use proto::{
    SERVER_DESCRIPTOR_SET,
    health::v1::health_server::HealthServer,
    spire::server::{
        agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
        debug::v1::debug_server::DebugServer, entry::v1::entry_server::EntryServer,
        localauthority::v1::local_authority_server::LocalAuthorityServer,
        logger::v1::logger_server::LoggerServer, svid::v1::svid_server::SvidServer,
        trustdomain::v1::trust_domain_server::TrustDomainServer,
    },
    writ::{
        admin::v1::admin_server::AdminServer,
        audit::v1::{audit_server::AuditServer, recorder_server::RecorderServer},
        node::v1::{node_server::NodeServer, tasks_server::TasksServer},
    },
};
use registry::decide::policy::MAX_LAYER;
use rustls::ServerConfig;
use server_api::accept::{self, Limits};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{service::Routes, transport::Server as Tonic};

use super::{
    admin, agent, audit, bundle, debug, entry, health, local_authority, logger, node, recorder, svid, tasks,
    trust_domain,
};
use crate::{Server, door::Door, local};

/// Metadata of a request.
const MAX_METADATA: u32 = 16 * 1024;
const MAX_REQUEST: usize = 64 * 1024;
/// What a node attests with, and its certificate request.
const MAX_ATTEST_REQUEST: usize = MAX_PAYLOAD + 17 * 1024;
/// Five hundred keys, of which an RSA key is the longest.
const MAX_SIGN_REQUEST: usize = 512 * 1024;
/// Five hundred changes, or a wish with its parameters and scope.
const MAX_TASKS_REQUEST: usize = 128 * 1024;
/// Five hundred certificate requests.
const MAX_SVID_REQUEST: usize = 1024 * 1024;
const MAX_ADMIN_REQUEST: usize = 4 * 1024 * 1024;
/// A batch of records.
const MAX_UPLOAD: usize = 2 * 1024 * 1024;
/// A whole layer of policies, or a batch.
const MAX_PUSH_REQUEST: usize = MAX_LAYER + 512 * 1024;
const STREAMS_PER_CONNECTION: u32 = 128;
/// A unary call is done within this time, its request included.
const CALL_WITHIN: Duration = Duration::from_secs(30);
/// A peer that vanished without a word is noticed within twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A door that cannot be opened or kept open.
type ServeError = Box<dyn std::error::Error + Send + Sync>;

/// Serves agents and remote administrators until the end is requested.
pub(crate) async fn network(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let connections = ReceiverStream::new(accept::accept(listener, tls, Limits::default()));
    let routes = services(&server).routes();
    let end = async move { shutdown.requested().await };
    Ok(tonic(&server).add_routes(routes).serve_with_incoming_shutdown(connections, end).await?)
}

/// Serves administrators on this machine until the end is requested.
pub(crate) async fn private(
    server: Arc<Server>,
    listener: UnixListener,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let connections = ReceiverStream::new(local::accept(listener));
    let mut routes = services(&server);
    routes.add_service(HealthServer::new(health::Service(server.clone())));
    routes.add_service(DebugServer::new(debug::Service(server.clone())));
    routes.add_service(LoggerServer::new(logger::Service));
    routes.add_service(reflection().build_v1()?);
    routes.add_service(reflection().build_v1alpha()?);
    let end = async move { shutdown.requested().await };
    Ok(tonic(&server).add_routes(routes.routes()).serve_with_incoming_shutdown(connections, end).await?)
}

fn services(server: &Arc<Server>) -> tonic::service::RoutesBuilder {
    let mut routes = Routes::builder();
    routes
        .add_service(
            NodeServer::new(node::Service(server.clone())).max_decoding_message_size(MAX_SIGN_REQUEST),
        )
        .add_service(
            TasksServer::new(tasks::Service(server.clone())).max_decoding_message_size(MAX_TASKS_REQUEST),
        )
        .add_service(
            AgentServer::new(agent::Service(server.clone())).max_decoding_message_size(MAX_ATTEST_REQUEST),
        )
        .add_service(
            EntryServer::new(entry::Service(server.clone())).max_decoding_message_size(MAX_ADMIN_REQUEST),
        )
        .add_service(
            BundleServer::new(bundle::Service(server.clone())).max_decoding_message_size(MAX_ADMIN_REQUEST),
        )
        .add_service(
            SvidServer::new(svid::Service(server.clone())).max_decoding_message_size(MAX_SVID_REQUEST),
        )
        .add_service(TrustDomainServer::new(trust_domain::Service).max_decoding_message_size(MAX_REQUEST))
        .add_service(
            LocalAuthorityServer::new(local_authority::Service(server.clone()))
                .max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(AuditServer::new(audit::Service(server.clone())).max_decoding_message_size(MAX_REQUEST))
        .add_service(
            RecorderServer::new(recorder::Service(server.clone())).max_decoding_message_size(MAX_UPLOAD),
        )
        .add_service(
            AdminServer::new(admin::Service(server.clone())).max_decoding_message_size(MAX_PUSH_REQUEST),
        );
    routes
}

fn tonic(server: &Arc<Server>) -> Tonic<tower::layer::util::Stack<Door, tower::layer::util::Identity>> {
    Tonic::builder()
        .timeout(CALL_WITHIN)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_METADATA)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .layer(Door(server.ledger.clone()))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(SERVER_DESCRIPTOR_SET)
}
