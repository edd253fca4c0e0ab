//! SPIRE's TrustDomain service, of which nothing is served yet: federated bundles are set by hand.

use proto::spire::{
    server::trustdomain::v1::{
        BatchCreateFederationRelationshipRequest, BatchCreateFederationRelationshipResponse,
        BatchDeleteFederationRelationshipRequest, BatchDeleteFederationRelationshipResponse,
        BatchUpdateFederationRelationshipRequest, BatchUpdateFederationRelationshipResponse,
        GetFederationRelationshipRequest, ListFederationRelationshipsRequest,
        ListFederationRelationshipsResponse, RefreshBundleRequest, trust_domain_server::TrustDomain,
    },
    types::FederationRelationship,
};
use tonic::{Request, Response, Status};

use super::not_served;

/// The service.
pub(crate) struct Service;

const WHY: &str = "federation relationships are not served; set a foreign bundle with: writ bundle set";

#[tonic::async_trait]
impl TrustDomain for Service {
    async fn list_federation_relationships(
        &self,
        _: Request<ListFederationRelationshipsRequest>,
    ) -> Result<Response<ListFederationRelationshipsResponse>, Status> {
        Err(not_served(WHY))
    }

    async fn get_federation_relationship(
        &self,
        _: Request<GetFederationRelationshipRequest>,
    ) -> Result<Response<FederationRelationship>, Status> {
        Err(not_served(WHY))
    }

    async fn batch_create_federation_relationship(
        &self,
        _: Request<BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<BatchCreateFederationRelationshipResponse>, Status> {
        Err(not_served(WHY))
    }

    async fn batch_update_federation_relationship(
        &self,
        _: Request<BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<BatchUpdateFederationRelationshipResponse>, Status> {
        Err(not_served(WHY))
    }

    async fn batch_delete_federation_relationship(
        &self,
        _: Request<BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<BatchDeleteFederationRelationshipResponse>, Status> {
        Err(not_served(WHY))
    }

    async fn refresh_bundle(&self, _: Request<RefreshBundleRequest>) -> Result<Response<()>, Status> {
        Err(not_served(WHY))
    }
}
