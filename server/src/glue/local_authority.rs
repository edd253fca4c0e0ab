//! SPIRE's LocalAuthority service: an administrator turns the authorities.
//!
//! Who may be turned how is SPIRE's rule; the registry has the last word when the turn is decided. An
//! upstream authority there is none yet, nor are there WIT-SVIDs.

use std::sync::Arc;

use proto::spire::server::localauthority::v1::{
    ActivateJwtAuthorityRequest, ActivateJwtAuthorityResponse, ActivateWitAuthorityRequest,
    ActivateWitAuthorityResponse, ActivateX509AuthorityRequest, ActivateX509AuthorityResponse,
    AuthorityState, GetJwtAuthorityStateRequest, GetJwtAuthorityStateResponse, GetWitAuthorityStateRequest,
    GetWitAuthorityStateResponse, GetX509AuthorityStateRequest, GetX509AuthorityStateResponse,
    PrepareJwtAuthorityRequest, PrepareJwtAuthorityResponse, PrepareWitAuthorityRequest,
    PrepareWitAuthorityResponse, PrepareX509AuthorityRequest, PrepareX509AuthorityResponse,
    RevokeJwtAuthorityRequest, RevokeJwtAuthorityResponse, RevokeWitAuthorityRequest,
    RevokeWitAuthorityResponse, RevokeX509AuthorityRequest, RevokeX509AuthorityResponse,
    RevokeX509UpstreamAuthorityRequest, RevokeX509UpstreamAuthorityResponse, TaintJwtAuthorityRequest,
    TaintJwtAuthorityResponse, TaintWitAuthorityRequest, TaintWitAuthorityResponse,
    TaintX509AuthorityRequest, TaintX509AuthorityResponse, TaintX509UpstreamAuthorityRequest,
    TaintX509UpstreamAuthorityResponse, local_authority_server::LocalAuthority,
};
use registry::{
    Author, Registry,
    objects::{Authority, AuthorityId, Slot, Use},
};
use server_api::wire::status;
use tonic::{Code, Request, Response, Status};

use super::caller;
use crate::{
    Server,
    turns::{Forced, TurnError},
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

impl Service {
    /// The active authority of this use, the prepared one, and the youngest old one.
    fn states(&self, used_for: Use) -> Result<[Option<AuthorityState>; 3], Status> {
        let registry = self.0.ledger.current();
        let in_slot = |wanted: fn(Slot) -> bool| {
            let own = registry.authorities().filter(|authority| authority.used_for() == used_for);
            let found = own.filter(|authority| wanted(authority.slot)).max_by_key(|it| it.not_after);
            found.map(|authority| state(authority))
        };
        let active = in_slot(|slot| slot == Slot::Active);
        let active = active.ok_or_else(|| Status::unavailable("server is initializing"))?;
        let prepared = in_slot(|slot| slot == Slot::Prepared);
        Ok([Some(active), prepared, in_slot(|slot| matches!(slot, Slot::Old { .. }))])
    }

    async fn prepare(&self, used_for: Use, author: Author) -> Result<Option<AuthorityState>, Status> {
        self.force(Forced::Prepare(used_for), author).await
    }

    async fn activate(
        &self,
        used_for: Use,
        id: &str,
        author: Author,
    ) -> Result<Option<AuthorityState>, Status> {
        let id = known(&self.0.ledger.current(), used_for, id)?.id.clone();
        self.force(Forced::Activate(id), author).await
    }

    async fn taint(&self, used_for: Use, id: &str, author: Author) -> Result<Option<AuthorityState>, Status> {
        let id = known(&self.0.ledger.current(), used_for, id)?.id.clone();
        self.force(Forced::Taint(id), author).await
    }

    async fn revoke(
        &self,
        used_for: Use,
        id: &str,
        author: Author,
    ) -> Result<Option<AuthorityState>, Status> {
        let authority = known(&self.0.ledger.current(), used_for, id)?;
        self.force(Forced::Revoke(authority.id.clone()), author).await?;
        Ok(Some(state(&authority))) // as it was: it is not there any more
    }

    async fn force(&self, forced: Forced, author: Author) -> Result<Option<AuthorityState>, Status> {
        let turns = self.0.turns.clone();
        // What has begun is done, also when whoever asked has gone.
        let turned = tokio::spawn(async move { turns.force(forced, author).await }).await;
        let id = turned.map_err(|_| Status::internal("the authority was not turned"))?.map_err(refused)?;
        Ok(self.0.ledger.current().authority(&id).map(|authority| state(authority)))
    }
}

/// The authority of this use with this id.
fn known(registry: &Registry, used_for: Use, id: &str) -> Result<Arc<Authority>, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("no authority ID provided; see: writ authority list"));
    }
    let parsed: Option<AuthorityId> = id.parse().ok();
    let authority = parsed.and_then(|id| registry.authority(&id));
    let authority = authority.filter(|authority| authority.used_for() == used_for);
    let unknown = || Status::invalid_argument("unexpected authority ID; see: writ authority list");
    Ok(authority.ok_or_else(unknown)?.value.clone())
}

fn state(authority: &Authority) -> AuthorityState {
    AuthorityState {
        authority_id: authority.id.to_string(),
        expires_at: authority.not_after.unix_seconds(),
        upstream_authority_subject_key_id: String::new(),
    }
}

fn refused(error: TurnError) -> Status {
    match error {
        TurnError::Refused(refusal) => status::call(&refusal),
        TurnError::Log(reason) => Status::unavailable(reason),
        broken => {
            tracing::error!(error = %broken, "an authority was not turned");
            Status::new(Code::Internal, "the authority was not turned; see the server's log")
        }
    }
}

#[tonic::async_trait]
impl LocalAuthority for Service {
    async fn get_x509_authority_state(
        &self,
        _: Request<GetX509AuthorityStateRequest>,
    ) -> Result<Response<GetX509AuthorityStateResponse>, Status> {
        let [active, prepared, old] = self.states(Use::X509)?;
        Ok(Response::new(GetX509AuthorityStateResponse { active, prepared, old }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<PrepareX509AuthorityRequest>,
    ) -> Result<Response<PrepareX509AuthorityResponse>, Status> {
        let prepared_authority = self.prepare(Use::X509, caller(&request)?.author()).await?;
        Ok(Response::new(PrepareX509AuthorityResponse { prepared_authority }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<ActivateX509AuthorityRequest>,
    ) -> Result<Response<ActivateX509AuthorityResponse>, Status> {
        let author = caller(&request)?.author();
        let id = request.into_inner().authority_id;
        let activated_authority = self.activate(Use::X509, &id, author).await?;
        Ok(Response::new(ActivateX509AuthorityResponse { activated_authority }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<TaintX509AuthorityRequest>,
    ) -> Result<Response<TaintX509AuthorityResponse>, Status> {
        let author = caller(&request)?.author();
        let id = request.into_inner().authority_id;
        let tainted_authority = self.taint(Use::X509, &id, author).await?;
        Ok(Response::new(TaintX509AuthorityResponse { tainted_authority }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<RevokeX509AuthorityRequest>,
    ) -> Result<Response<RevokeX509AuthorityResponse>, Status> {
        let author = caller(&request)?.author();
        let id = request.into_inner().authority_id;
        let revoked_authority = self.revoke(Use::X509, &id, author).await?;
        Ok(Response::new(RevokeX509AuthorityResponse { revoked_authority }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        _: Request<TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<TaintX509UpstreamAuthorityResponse>, Status> {
        Err(Status::unimplemented("this server has no upstream authority"))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        _: Request<RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<RevokeX509UpstreamAuthorityResponse>, Status> {
        Err(Status::unimplemented("this server has no upstream authority"))
    }

    async fn get_jwt_authority_state(
        &self,
        _: Request<GetJwtAuthorityStateRequest>,
    ) -> Result<Response<GetJwtAuthorityStateResponse>, Status> {
        let [active, prepared, old] = self.states(Use::Jwt)?;
        Ok(Response::new(GetJwtAuthorityStateResponse { active, prepared, old }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<PrepareJwtAuthorityRequest>,
    ) -> Result<Response<PrepareJwtAuthorityResponse>, Status> {
        let prepared_authority = self.prepare(Use::Jwt, caller(&request)?.author()).await?;
        Ok(Response::new(PrepareJwtAuthorityResponse { prepared_authority }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<ActivateJwtAuthorityRequest>,
    ) -> Result<Response<ActivateJwtAuthorityResponse>, Status> {
        let author = caller(&request)?.author();
        let id = request.into_inner().authority_id;
        let activated_authority = self.activate(Use::Jwt, &id, author).await?;
        Ok(Response::new(ActivateJwtAuthorityResponse { activated_authority }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<TaintJwtAuthorityRequest>,
    ) -> Result<Response<TaintJwtAuthorityResponse>, Status> {
        let author = caller(&request)?.author();
        let id = request.into_inner().authority_id;
        let tainted_authority = self.taint(Use::Jwt, &id, author).await?;
        Ok(Response::new(TaintJwtAuthorityResponse { tainted_authority }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<RevokeJwtAuthorityRequest>,
    ) -> Result<Response<RevokeJwtAuthorityResponse>, Status> {
        let author = caller(&request)?.author();
        let id = request.into_inner().authority_id;
        let revoked_authority = self.revoke(Use::Jwt, &id, author).await?;
        Ok(Response::new(RevokeJwtAuthorityResponse { revoked_authority }))
    }

    async fn get_wit_authority_state(
        &self,
        _: Request<GetWitAuthorityStateRequest>,
    ) -> Result<Response<GetWitAuthorityStateResponse>, Status> {
        Err(no_wit())
    }

    async fn prepare_wit_authority(
        &self,
        _: Request<PrepareWitAuthorityRequest>,
    ) -> Result<Response<PrepareWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn activate_wit_authority(
        &self,
        _: Request<ActivateWitAuthorityRequest>,
    ) -> Result<Response<ActivateWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn taint_wit_authority(
        &self,
        _: Request<TaintWitAuthorityRequest>,
    ) -> Result<Response<TaintWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn revoke_wit_authority(
        &self,
        _: Request<RevokeWitAuthorityRequest>,
    ) -> Result<Response<RevokeWitAuthorityResponse>, Status> {
        Err(no_wit())
    }
}

fn no_wit() -> Status {
    Status::unimplemented("this server signs no WIT-SVIDs")
}
