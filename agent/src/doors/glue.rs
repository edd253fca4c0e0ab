//! Where generated code meets the private door.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use proto::writ::{
    authz::v1::{
        DecideRequest, DecideResponse,
        decisions_server::{Decisions, DecisionsServer},
    },
    explain::v1::{
        ExplainRequest, ExplainResponse, StatusRequest, StatusResponse,
        agent_status_server::{AgentStatus, AgentStatusServer},
        explain_server::{Explain, ExplainServer},
    },
};
use tonic::{Status, body::Body, codegen::Service as _};
use workload_api::{NoExplanation, socket::Line};

use super::private::PrivateDoor;

/// A request's message.
const REQUEST_BYTES: usize = 64 * 1024;

/// Answers one request of an administrator.
pub(super) async fn answer(
    door: Arc<PrivateDoor>,
    line: Arc<Line>,
    request: Request<Incoming>,
) -> Response<Body> {
    if line.check().is_err() {
        return Status::unavailable("this process is no longer the one that connected; connect again")
            .into_http();
    }
    let asked = Asked { door, line };
    let path = request.uri().path();
    let answer = if path.starts_with("/writ.explain.v1.Explain/") {
        ExplainServer::new(asked).max_decoding_message_size(REQUEST_BYTES).call(request).await
    } else if path.starts_with("/writ.explain.v1.AgentStatus/") {
        AgentStatusServer::new(asked).max_decoding_message_size(REQUEST_BYTES).call(request).await
    } else if path.starts_with("/writ.authz.v1.Decisions/") {
        // A request's arguments may be as long as a gate's.
        DecisionsServer::new(asked).max_decoding_message_size(2 * REQUEST_BYTES).call(request).await
    } else {
        return Status::unimplemented("this method is not served here").into_http();
    };
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

struct Asked {
    door: Arc<PrivateDoor>,
    line: Arc<Line>,
}

#[tonic::async_trait]
impl Explain for Asked {
    async fn explain(
        &self,
        request: tonic::Request<ExplainRequest>,
    ) -> Result<tonic::Response<ExplainResponse>, Status> {
        let pid = match request.into_inner().pid {
            0 => None,
            pid => Some(u32::try_from(pid).map_err(|_| Status::invalid_argument("a pid is not negative"))?),
        };
        match self.door.explain(&self.line, pid).await {
            Ok(json) => Ok(tonic::Response::new(ExplainResponse { json: json.into() })),
            Err(NoExplanation::NotYours(pid)) => Err(Status::not_found(format!("there is no process {pid}"))),
            Err(error @ NoExplanation::Unreadable(..)) => Err(Status::failed_precondition(error.to_string())),
            Err(NoExplanation::Failed(reason)) => Err(Status::internal(reason)),
        }
    }
}

#[tonic::async_trait]
impl AgentStatus for Asked {
    async fn status(
        &self,
        _: tonic::Request<StatusRequest>,
    ) -> Result<tonic::Response<StatusResponse>, Status> {
        Ok(tonic::Response::new(StatusResponse { json: self.door.status().into() }))
    }
}

#[tonic::async_trait]
impl Decisions for Asked {
    async fn decide(
        &self,
        request: tonic::Request<DecideRequest>,
    ) -> Result<tonic::Response<DecideResponse>, Status> {
        let decided = self.door.decide(&request.into_inner().json);
        let json = decided.map_err(Status::failed_precondition)?;
        Ok(tonic::Response::new(DecideResponse { json: json.into() }))
    }
}
