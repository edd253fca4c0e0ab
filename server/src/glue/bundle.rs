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
        PublishWitAuthorityResponse, batch_create_federated_bundle_response,
        batch_delete_federated_bundle_request::Mode, batch_delete_federated_bundle_response,
        batch_set_federated_bundle_response, batch_update_federated_bundle_response, bundle_server::Bundle,
    },
    types::{Bundle as WireBundle, BundleMask, Status as ItemStatus},
};
use registry::{
    Author, Refusal, Registry, Versioned,
    decide::bundle::{BundleOutcome, DeleteBundles, Federating, PutBundles, UpdateBundles},
    objects::Bundle as OwnBundle,
};
use server_api::wire::{WireError, id, status, trust_bundle};
use tonic::{Request, Response, Status};

use super::{
    batch::{Batch, aligned, page},
    caller, not_served, unavailable,
};
use crate::{Server, callers::Caller};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Bundle for Service {
    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<WireBundle>, Status> {
        let registry = self.0.ledger.current();
        let bundle = registry.bundle(registry.trust_domain());
        let bundle = bundle.ok_or_else(|| Status::unavailable("there is no trust bundle yet; try again"))?;
        Ok(Response::new(shown(bundle, &registry, request.into_inner().output_mask.as_ref())))
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
        Ok(Response::new(shown(bundle, &registry, output_mask.as_ref())))
    }

    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        let count = self.0.ledger.current().bundles().len();
        Ok(Response::new(CountBundlesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn append_bundle(&self, _: Request<AppendBundleRequest>) -> Result<Response<WireBundle>, Status> {
        Err(not_served("this server's bundle holds its own authorities and no others"))
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
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let ListFederatedBundlesRequest { output_mask, page_size, page_token } = request.into_inner();
        let most = page(page_size)?;
        let registry = self.0.ledger.current();
        let mut follow = registry
            .foreign_bundles()
            .skip_while(|bundle| bundle.trust_domain().as_str() <= page_token.as_str());
        let bundles: Vec<_> = follow.by_ref().take(most).collect();
        let next = follow.next().and(bundles.last()).map(|last| last.trust_domain().to_string());
        Ok(Response::new(ListFederatedBundlesResponse {
            bundles: bundles
                .into_iter()
                .map(|bundle| shown(bundle, &registry, output_mask.as_ref()))
                .collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        let author = caller(&request)?.author();
        let BatchCreateFederatedBundleRequest { bundle, output_mask } = request.into_inner();
        let results =
            self.put(bundle, false, output_mask, author).await?.into_iter().map(|(status, bundle)| {
                batch_create_federated_bundle_response::Result { status: Some(status), bundle }
            });
        Ok(Response::new(BatchCreateFederatedBundleResponse { results: results.collect() }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        let author = caller(&request)?.author();
        let BatchSetFederatedBundleRequest { bundle, output_mask } = request.into_inner();
        let results =
            self.put(bundle, true, output_mask, author).await?.into_iter().map(|(status, bundle)| {
                batch_set_federated_bundle_response::Result { status: Some(status), bundle }
            });
        Ok(Response::new(BatchSetFederatedBundleResponse { results: results.collect() }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        let author = caller(&request)?.author();
        let BatchUpdateFederatedBundleRequest { bundle, input_mask, output_mask } = request.into_inner();
        let mask = input_mask.unwrap_or(BundleMask { wit_authorities: false, ..trust_bundle::WHOLE });
        let batch = Batch::read(bundle.into_iter().map(|wire| trust_bundle::patch_from_wire(wire, &mask)));
        let command = UpdateBundles { updates: batch.good };
        let outcomes = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        let results = self.answers(batch.bad, outcomes, output_mask).into_iter().map(|(status, bundle)| {
            batch_update_federated_bundle_response::Result { status: Some(status), bundle }
        });
        Ok(Response::new(BatchUpdateFederatedBundleResponse { results: results.collect() }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        let author = caller(&request)?.author();
        let BatchDeleteFederatedBundleRequest { trust_domains: names, mode } = request.into_inner();
        let entries = match Mode::try_from(mode) {
            Ok(Mode::Restrict) => Federating::Forbid,
            Ok(Mode::Delete) => Federating::Delete,
            Ok(Mode::Dissociate) => Federating::Dissociate,
            Err(_) => return Err(Status::invalid_argument(format!("unhandled delete mode \"{mode}\""))),
        };
        let batch = Batch::read(names.iter().map(|name| id::trust_domain("trust_domain", name)));
        let command = DeleteBundles { trust_domains: batch.good, entries };
        let outcomes = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        let results = self.answers(batch.bad, outcomes, None).into_iter().zip(names);
        let result = |((status, _), trust_domain)| batch_delete_federated_bundle_response::Result {
            status: Some(status),
            trust_domain,
        };
        Ok(Response::new(BatchDeleteFederatedBundleResponse { results: results.map(result).collect() }))
    }
}

type Answer = (ItemStatus, Option<WireBundle>);

impl Service {
    async fn put(
        &self,
        bundles: Vec<WireBundle>,
        replace: bool,
        mask: Option<BundleMask>,
        author: Author,
    ) -> Result<Vec<Answer>, Status> {
        let batch = Batch::read(bundles.into_iter().map(trust_bundle::from_wire));
        let command = PutBundles { bundles: batch.good, replace };
        let outcomes = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        Ok(self.answers(batch.bad, outcomes, mask))
    }

    /// One answer for each item, in the order of the items.
    fn answers(
        &self,
        bad: Vec<Option<WireError>>,
        outcomes: Vec<BundleOutcome>,
        mask: Option<BundleMask>,
    ) -> Vec<Answer> {
        let registry = self.0.ledger.current();
        let answers = aligned(bad, outcomes).map(|outcome| match outcome {
            Ok(Ok(bundle)) => (status::ok_item(), Some(shown(&bundle, &registry, mask.as_ref()))),
            Ok(Err(refusal)) => (refused(&refusal), None),
            Err(error) => (status::invalid_item(&error), None),
        });
        answers.collect()
    }
}

/// SPIRE's words where its command line has words of its own for them.
fn refused(refusal: &Refusal) -> ItemStatus {
    let item = status::item(refusal);
    let message = match refusal {
        Refusal::AlreadyExists(_) => "bundle already exists".to_owned(),
        Refusal::NotFound(_) => "bundle not found".to_owned(),
        Refusal::Precondition(why) => format!("failed to delete federated bundle: {why}"),
        _ => item.message,
    };
    ItemStatus { message, ..item }
}

fn shown(bundle: &Versioned<OwnBundle>, registry: &Registry, mask: Option<&BundleMask>) -> WireBundle {
    trust_bundle::masked(trust_bundle::to_wire(bundle, registry), mask)
}
