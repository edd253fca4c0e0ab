//! gRPC's health protocol: whether the server does its whole work, as `/ready` says it.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use proto::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
    health_check_response::ServingStatus, health_server::Health,
};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use crate::Server;

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        only_whole(&request)?;
        Ok(Response::new(status(&self.0)))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Ok(Response::new(HealthListResponse { statuses: [(String::new(), status(&self.0))].into() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        only_whole(&request)?;
        let (server, shutdown) = (self.0.clone(), self.0.shutdown.clone());
        let mut last = None;
        let changes = WatchStream::new(self.0.health.changes()).filter_map(move |()| {
            let now = status(&server);
            let said = last.replace(now);
            std::future::ready((said != Some(now)).then_some(Ok(now)))
        });
        let until = async move { shutdown.requested().await };
        let end = stream::once(std::future::ready(Err(Status::unavailable("the server is stopping"))));
        Ok(Response::new(Box::pin(changes.take_until(until).chain(end))))
    }
}

/// There is one server, and it works or it does not.
fn only_whole(request: &Request<HealthCheckRequest>) -> Result<(), Status> {
    match request.get_ref().service.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid_argument("per-service health is not supported")),
    }
}

fn status(server: &Server) -> HealthCheckResponse {
    let status = match server.health.reasons().is_empty() {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    HealthCheckResponse { status: status.into() }
}
