//! SVIDs of any ID, for administrators: SPIRE's `SVID` service.

use std::path::Path;

use proto::spire::server::svid::v1::{MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient};
use spiffe::{SpiffeId, Timestamp};
use tonic::transport::Channel;

use super::CallError;
use crate::{
    connect::{ConnectError, connect_private},
    wire::id,
};

/// Speaks to a server for an administrator.
#[derive(Clone)]
pub struct Client(SvidClient<Channel>);

/// A token that was minted.
#[derive(Clone, Debug)]
pub struct Token {
    /// JWS in compact serialisation.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Client {
    /// Connects to the server's private socket.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        Ok(Self(SvidClient::new(connect_private(socket).await?)))
    }

    /// Has the key of a PKCS#10 request (DER) signed for the ID and the DNS names in it. `ttl` is in
    /// seconds, 0 for the server's default. The chain is DER, leaf first.
    pub async fn x509(&mut self, csr: Vec<u8>, ttl: i32) -> Result<Vec<Vec<u8>>, CallError> {
        let minted = self.0.mint_x509svid(MintX509svidRequest { csr: csr.into(), ttl }).await?.into_inner();
        let svid = minted.svid.filter(|svid| !svid.cert_chain.is_empty());
        let svid = svid.ok_or_else(|| CallError::Nonsense("it holds no certificate".to_owned()))?;
        Ok(svid.cert_chain.into_iter().map(Into::into).collect())
    }

    /// Has a token signed. `ttl` is in seconds, 0 for the server's default.
    pub async fn jwt(&mut self, id: &SpiffeId, audience: Vec<String>, ttl: i32) -> Result<Token, CallError> {
        let request = MintJwtsvidRequest { id: Some(id::to_wire(id)), audience, ttl };
        let svid = self.0.mint_jwtsvid(request).await?.into_inner().svid;
        let svid = svid.ok_or_else(|| CallError::Nonsense("it holds no token".to_owned()))?;
        Ok(Token { token: svid.token, expires_at: Timestamp::from_unix_seconds(svid.expires_at) })
    }
}
