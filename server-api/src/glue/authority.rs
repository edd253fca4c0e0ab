//! Turning a server's authorities: SPIRE's `LocalAuthority`.

use std::{path::Path, time::Duration};

use proto::spire::server::localauthority::v1::{
    ActivateJwtAuthorityRequest, ActivateX509AuthorityRequest, AuthorityState, PrepareJwtAuthorityRequest,
    PrepareX509AuthorityRequest, RevokeJwtAuthorityRequest, RevokeX509AuthorityRequest,
    TaintJwtAuthorityRequest, TaintX509AuthorityRequest, local_authority_client::LocalAuthorityClient,
};
use registry::objects::{AuthorityId, Use};
use spiffe::Timestamp;
use tonic::{Request, transport::Channel};

use super::CallError;
use crate::connect::{ConnectError, connect_private};

/// Speaks to a server for an administrator.
#[derive(Clone)]
pub struct Client(LocalAuthorityClient<Channel>);

/// An authority as the server names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Turned {
    /// Which one.
    pub id: AuthorityId,
    /// Last moment of its validity.
    pub not_after: Timestamp,
}

impl Client {
    /// Connects to the server's private socket.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        Ok(Self::new(connect_private(socket).await?))
    }

    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(LocalAuthorityClient::new(channel))
    }

    /// Makes another authority of this use and publishes it.
    pub async fn prepare(&mut self, used_for: Use) -> Result<Turned, CallError> {
        read(match used_for {
            Use::X509 => {
                let done = self.0.prepare_x509_authority(within(PrepareX509AuthorityRequest {})).await?;
                done.into_inner().prepared_authority
            }
            Use::Jwt => {
                let done = self.0.prepare_jwt_authority(within(PrepareJwtAuthorityRequest {})).await?;
                done.into_inner().prepared_authority
            }
        })
    }

    /// Lets the prepared authority sign from now on.
    pub async fn activate(&mut self, used_for: Use, id: &AuthorityId) -> Result<Turned, CallError> {
        let authority_id = id.to_string();
        read(match used_for {
            Use::X509 => {
                let request = within(ActivateX509AuthorityRequest { authority_id });
                self.0.activate_x509_authority(request).await?.into_inner().activated_authority
            }
            Use::Jwt => {
                let request = within(ActivateJwtAuthorityRequest { authority_id });
                self.0.activate_jwt_authority(request).await?.into_inner().activated_authority
            }
        })
    }

    /// Has whatever this old authority signed replaced at once.
    pub async fn taint(&mut self, used_for: Use, id: &AuthorityId) -> Result<Turned, CallError> {
        let authority_id = id.to_string();
        read(match used_for {
            Use::X509 => {
                let request = within(TaintX509AuthorityRequest { authority_id });
                self.0.taint_x509_authority(request).await?.into_inner().tainted_authority
            }
            Use::Jwt => {
                let request = within(TaintJwtAuthorityRequest { authority_id });
                self.0.taint_jwt_authority(request).await?.into_inner().tainted_authority
            }
        })
    }

    /// Publishes this tainted authority no more.
    pub async fn revoke(&mut self, used_for: Use, id: &AuthorityId) -> Result<Turned, CallError> {
        let authority_id = id.to_string();
        read(match used_for {
            Use::X509 => {
                let request = within(RevokeX509AuthorityRequest { authority_id });
                self.0.revoke_x509_authority(request).await?.into_inner().revoked_authority
            }
            Use::Jwt => {
                let request = within(RevokeJwtAuthorityRequest { authority_id });
                self.0.revoke_jwt_authority(request).await?.into_inner().revoked_authority
            }
        })
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(WITHIN);
    request
}

fn read(state: Option<AuthorityState>) -> Result<Turned, CallError> {
    let nonsense = || CallError::Nonsense("it names no authority".to_owned());
    let state = state.ok_or_else(nonsense)?;
    let id = state.authority_id.parse().map_err(|_| nonsense())?;
    Ok(Turned { id, not_after: Timestamp::from_unix_seconds(state.expires_at) })
}

const WITHIN: Duration = Duration::from_secs(30);
