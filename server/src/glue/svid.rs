//! SPIRE's SVID service.

use std::sync::Arc;

use proto::spire::{
    server::svid::v1::{
        BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest, BatchNewX509svidResponse,
        MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest, MintWitsvidResponse,
        MintX509svidRequest, MintX509svidResponse, NewDownstreamX509caRequest, NewDownstreamX509caResponse,
        NewJwtsvidRequest, NewJwtsvidResponse, batch_new_x509svid_response, svid_server::Svid,
    },
    types::{Jwtsvid, Status as ItemStatus, X509svid},
};
use server_api::wire::{id, status};
use tonic::{Code, Request, Response, Status};

use super::{caller, node_caller, not_served};
use crate::{
    Server,
    sign::{self, Made, Order, OrderedKey, Unsigned, mint},
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Svid for Service {
    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let caller = node_caller(&request)?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Status::invalid_argument("missing parameters"));
        }
        let orders = params.into_iter().map(|p| Order { entry: p.entry_id, key: OrderedKey::Request(p.csr) });
        let signed = sign::sign(&self.0, &caller, orders.collect()).await?;
        let results = signed.into_iter().map(|signed| match signed {
            Ok(made) => batch_new_x509svid_response::Result {
                status: Some(status::ok_item()),
                svid: Some(x509(made)),
            },
            Err(refused) => {
                batch_new_x509svid_response::Result { status: Some(refused_item(refused)), svid: None }
            }
        });
        Ok(Response::new(BatchNewX509svidResponse { results: results.collect() }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let caller = node_caller(&request)?;
        let NewJwtsvidRequest { entry_id, audience } = request.into_inner();
        let order = sign::jwt::Order { entry: entry_id, audience };
        let signed = sign::jwt::sign(&self.0, &caller, vec![order]).await?.pop();
        let signed = signed.ok_or_else(|| Status::internal("the result is missing"))?;
        let made = signed.map_err(|refused| {
            let item = refused_item(refused);
            Status::new(Code::from_i32(item.code), item.message)
        })?;
        Ok(Response::new(NewJwtsvidResponse { svid: Some(token(made)) }))
    }

    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let author = caller(&request)?.author();
        let MintX509svidRequest { csr, ttl } = request.into_inner();
        if csr.is_empty() {
            return Err(Status::invalid_argument("missing CSR"));
        }
        let made = mint::x509(&self.0, author, &csr, ttl).await?;
        Ok(Response::new(MintX509svidResponse { svid: Some(x509(made)) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let author = caller(&request)?.author();
        let MintJwtsvidRequest { id: asked, audience, ttl } = request.into_inner();
        let spiffe_id = id::from_wire("id", asked)?;
        let made = mint::jwt(&self.0, author, spiffe_id, &audience, ttl).await?;
        Ok(Response::new(MintJwtsvidResponse { svid: Some(token(made)) }))
    }

    async fn mint_witsvid(
        &self,
        _: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(not_served("WIT-SVIDs are not served"))
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(not_served("WIT-SVIDs are not served"))
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(not_served("servers below this one are not served"))
    }
}

fn x509(made: Made) -> X509svid {
    X509svid {
        cert_chain: made.chain,
        id: Some(id::to_wire(&made.spiffe_id)),
        expires_at: made.not_after.unix_seconds(),
        hint: String::new(),
    }
}

fn token(made: sign::jwt::Made) -> Jwtsvid {
    let sign::jwt::Made { spiffe_id, token } = made;
    Jwtsvid {
        token: token.token,
        id: Some(id::to_wire(&spiffe_id)),
        expires_at: token.expires_at.unix_seconds(),
        issued_at: token.issued_at.unix_seconds(),
        hint: String::new(),
    }
}

/// In SPIRE's API an entry outside the node's view is one that is not found.
fn refused_item(refused: Unsigned) -> ItemStatus {
    match refused.code {
        Code::PermissionDenied => ItemStatus {
            code: Code::NotFound as i32,
            message: "entry not found or not authorized".to_owned(),
        },
        code => ItemStatus { code: code as i32, message: refused.message },
    }
}
