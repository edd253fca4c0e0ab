//! What an agent says to its server: `writ.node.v1`.

use std::time::Duration;

use bytes::Bytes;
use proto::writ::node::v1::{
    BundleRequest, Delta, FollowRequest, ReturnParams, ReturnRequest, SignItem, SignJwtItem, SignJwtRequest,
    SignRequest, node_client::NodeClient, return_request::Step as Said, return_response::Step as Answered,
};
use registry::{LogId, Revision, objects::EntryId};
use spiffe::{KeyError, SignedBundle, SpiffeId, Timestamp, returning::NONCE_BYTES};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Streaming, transport::Channel};

use super::CallError;
use crate::wire::{
    bundle,
    delta::{Assembler, Followed, Head},
};

/// Speaks to a server for an agent.
#[derive(Clone)]
pub struct Client(NodeClient<Channel>);

/// The stream of what changes in this node's view.
pub struct Follow {
    parts: Streaming<Delta>,
    assembler: Assembler,
}

/// What an agent wants signed.
#[derive(Clone, Debug)]
pub struct Order {
    /// For which entry of this node's view.
    pub entry: EntryId,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

/// One item of a signing batch that the server refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Unsigned {
    /// The gRPC code.
    pub code: Code,
    /// The server's words.
    pub message: String,
}

/// A certificate chain, DER, leaf first, without the root.
pub type Chain = Vec<Bytes>;

/// A token that an agent wants.
#[derive(Clone, Debug)]
pub struct JwtOrder {
    /// For which entry of this node's view.
    pub entry: EntryId,
    /// For whom: 1 to 32.
    pub audiences: Vec<String>,
}

/// A JWT-SVID as the server signed it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// JWS in compact serialisation.
    pub token: String,
    /// When its life began.
    pub issued_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Client {
    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// The trust bundle as the pin key signed it; needs no client certificate, and means nothing
    /// before it is verified against the pin.
    pub async fn bundle(&mut self) -> Result<SignedBundle, CallError> {
        let mut request = Request::new(BundleRequest {});
        request.set_timeout(WITHIN);
        Ok(bundle::from_wire(self.0.bundle(request).await?.into_inner())?)
    }

    /// Follows this node's view from what is known of it; nothing known asks for a snapshot.
    /// What any server of the trust domain has shown as the newest lets this one notice what it lost.
    pub async fn follow(
        &mut self,
        known: Option<(&LogId, Revision)>,
        seen: Option<&Head>,
    ) -> Result<Follow, CallError> {
        let (log, from) = known.map_or_else(Default::default, |(log, from)| (log.0.clone(), from.0));
        let agent_version = env!("CARGO_PKG_VERSION").to_owned();
        let request = FollowRequest { log, from, seen: seen.map(Head::to_wire), agent_version };
        let parts = self.0.follow(request).await?.into_inner();
        Ok(Follow { parts, assembler: Assembler::default() })
    }

    /// Comes back as the node `id` with the key of `csr`: `sign` answers the server's nonce. Needs no client
    /// certificate; repeating it is safe.
    pub async fn come_back(
        &mut self,
        id: &SpiffeId,
        csr: &[u8],
        sign: impl FnOnce(&[u8; NONCE_BYTES]) -> Result<Vec<u8>, KeyError>,
    ) -> Result<Chain, CallError> {
        let params = ReturnParams { spiffe_id: id.to_string(), csr: csr.to_vec().into() };
        let (words, said) = mpsc::channel(2);
        let say = |step| words.try_send(ReturnRequest { step: Some(step) });
        let unsaid = |_| CallError::Unavailable("the connection ended".to_owned());
        say(Said::Params(params)).map_err(unsaid)?;
        let mut request = Request::new(ReceiverStream::new(said));
        request.set_timeout(WITHIN);
        let mut answers = self.0.r#return(request).await?.into_inner();
        let nonsense =
            || CallError::Nonsense("a return is answered by a nonce, then a certificate".to_owned());
        let nonce = match answers.message().await?.and_then(|answer| answer.step) {
            Some(Answered::Nonce(nonce)) => <[u8; NONCE_BYTES]>::try_from(&*nonce).map_err(|_| nonsense())?,
            _ => return Err(nonsense()),
        };
        let signature = sign(&nonce).map_err(|error| CallError::Nonsense(error.to_string()))?;
        say(Said::Signature(signature.into())).map_err(unsaid)?;
        match answers.message().await?.and_then(|answer| answer.step) {
            Some(Answered::Granted(granted)) if !granted.chain.is_empty() => Ok(granted.chain),
            _ => Err(nonsense()),
        }
    }

    /// Has public keys signed; results in the order of the orders, of which there are at most
    /// [`crate::wire::delta::MAX_BATCH`].
    pub async fn sign(&mut self, orders: &[Order]) -> Result<Vec<Result<Chain, Unsigned>>, CallError> {
        let item = |order: &Order| SignItem {
            entry_id: order.entry.as_str().to_owned(),
            public_key: order.public_key.clone().into(),
        };
        let mut request = Request::new(SignRequest { items: orders.iter().map(item).collect() });
        request.set_timeout(WITHIN);
        let results = self.0.sign(request).await?.into_inner().results;
        if results.len() != orders.len() {
            return Err(CallError::Nonsense(format!("{} results for {} keys", results.len(), orders.len())));
        }
        Ok(results
            .into_iter()
            .map(|result| match Code::from_i32(result.code) {
                Code::Ok if !result.chain.is_empty() => Ok(result.chain),
                Code::Ok => Err(Unsigned { code: Code::Internal, message: "no certificate came".to_owned() }),
                code => Err(Unsigned { code, message: result.message }),
            })
            .collect())
    }
}

impl Client {
    /// Has tokens signed; results in the order of the orders, of which there are at most
    /// [`crate::wire::delta::MAX_BATCH`].
    pub async fn sign_jwt(
        &mut self,
        orders: Vec<JwtOrder>,
    ) -> Result<Vec<Result<Token, Unsigned>>, CallError> {
        let asked = orders.len();
        let item = |order: JwtOrder| SignJwtItem {
            entry_id: order.entry.as_str().to_owned(),
            audience: order.audiences,
        };
        let mut request = Request::new(SignJwtRequest { items: orders.into_iter().map(item).collect() });
        request.set_timeout(WITHIN);
        let results = self.0.sign_jwt(request).await?.into_inner().results;
        if results.len() != asked {
            return Err(CallError::Nonsense(format!("{} results for {asked} tokens", results.len())));
        }
        Ok(results
            .into_iter()
            .map(|result| match Code::from_i32(result.code) {
                Code::Ok if !result.token.is_empty() => Ok(Token {
                    token: result.token,
                    issued_at: Timestamp::from_unix_millis(result.issued_at),
                    expires_at: Timestamp::from_unix_millis(result.expires_at),
                }),
                Code::Ok => Err(Unsigned { code: Code::Internal, message: "no token came".to_owned() }),
                code => Err(Unsigned { code, message: result.message }),
            })
            .collect())
    }
}

impl Follow {
    /// The next change, whole; `None` when the server ended the stream.
    pub async fn next(&mut self) -> Result<Option<Followed>, CallError> {
        while let Some(part) = self.parts.message().await? {
            if let Some(followed) = self.assembler.add(part)? {
                return Ok(Some(followed));
            }
        }
        Ok(None)
    }
}

const MAX_ANSWER: usize = 8 * 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(30);
