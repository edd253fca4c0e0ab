//! SPIRE's Debug service: the server in a few figures.

use std::sync::Arc;

use proto::spire::server::debug::v1::{
    GetInfoRequest, GetInfoResponse, debug_server::Debug, get_info_response::Cert,
};
use server_api::wire::id;
use tonic::{Request, Response, Status};

use crate::{Server, own::Shown};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Debug for Service {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let registry = self.0.ledger.current();
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok(Response::new(GetInfoResponse {
            svid_chain: self.0.own.shown(&registry).into_iter().map(cert).collect(),
            uptime: i32::try_from(self.0.started.elapsed().as_secs()).unwrap_or(i32::MAX),
            agents_count: count(registry.nodes().len()),
            federated_bundles_count: count(registry.foreign_bundles().count()),
            entries_count: count(registry.entries().len()),
        }))
    }
}

fn cert(shown: Shown) -> Cert {
    Cert {
        id: shown.id.as_ref().map(id::to_wire),
        expires_at: shown.not_after.unix_seconds(),
        subject: shown.subject,
    }
}
