//! SPIRE's Bundle service.

use std::sync::Arc;

use proto::spire::{
    server::bundle::v1::{
        AppendBundleRequest, BatchCreateFederatedBundleRequest, BatchCreateFederatedBundleResponse,
        BatchDeleteFederatedBundleRequest, BatchDeleteFederatedBundleResponse,
        BatchSetFederatedBundleRequest, BatchSetFederatedBundleResponse, BatchUpdateFederatedBundleRequest,
        BatchUpdateFederatedBundleResponse, CountBundlesRequest, CountBundlesResponse, GetBundleRequest,
        GetFederatedBundleRequest, ListFederatedBundlesRequest, ListFederatedBundlesResponse,
        PublishJwtAuthorityRequest, PublishJwtAuthorityResponse, PublishWitAuthorityRequest,
        PublishWitAuthorityResponse, bundle_server::Bundle,
    },
    types::{Bundle as WireBundle, BundleMask},
};
use registry::{Versioned, objects::Bundle as OwnBundle};
use server_api::wire::{id, trust_bundle};
use tonic::{Request, Response, Status};

use super::{caller, not_served};
use crate::{Server, callers::Caller};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Bundle for Service {
    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<WireBundle>, Status> {
        let registry = self.0.ledger.current();
        let bundle = registry.bundle(registry.trust_domain());
        let bundle = bundle.ok_or_else(|| Status::unavailable("there is no trust bundle yet; try again"))?;
        Ok(Response::new(shown(bundle, request.into_inner().output_mask.as_ref())))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<WireBundle>, Status> {
        let caller = caller(&request)?;
        let GetFederatedBundleRequest { trust_domain, output_mask } = request.into_inner();
        let trust_domain = id::trust_domain("trust_domain", &trust_domain)?;
        let registry = self.0.ledger.current();
        if trust_domain == *registry.trust_domain() {
            return Err(Status::invalid_argument(
                "getting a federated bundle for the server's own trust domain is not allowed",
            ));
        }
        let may_see = match &caller {
            Caller::Node(node) => registry.federates(&node.id, &trust_domain),
            _ => true,
        };
        let bundle = registry.bundle(&trust_domain).filter(|_| may_see);
        let bundle = bundle.ok_or_else(|| Status::not_found("bundle not found"))?;
        Ok(Response::new(shown(bundle, output_mask.as_ref())))
    }

    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        Err(not_served("federated bundles are not served"))
    }

    async fn append_bundle(&self, _: Request<AppendBundleRequest>) -> Result<Response<WireBundle>, Status> {
        Err(not_served("federated bundles are not served"))
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        Err(not_served("servers below this one are not served"))
    }

    async fn publish_wit_authority(
        &self,
        _: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        Err(not_served("WIT-SVIDs are not served"))
    }

    async fn list_federated_bundles(
        &self,
        _: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        Err(not_served("federated bundles are not served"))
    }

    async fn batch_create_federated_bundle(
        &self,
        _: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        Err(not_served("federated bundles are not served"))
    }

    async fn batch_update_federated_bundle(
        &self,
        _: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        Err(not_served("federated bundles are not served"))
    }

    async fn batch_set_federated_bundle(
        &self,
        _: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        Err(not_served("federated bundles are not served"))
    }

    async fn batch_delete_federated_bundle(
        &self,
        _: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        Err(not_served("federated bundles are not served"))
    }
}

fn shown(bundle: &Versioned<OwnBundle>, mask: Option<&BundleMask>) -> WireBundle {
    trust_bundle::masked(trust_bundle::to_wire(bundle), mask)
}
