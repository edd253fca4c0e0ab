//! `writ.node.v1`: what an agent and its server say to each other.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use proto::writ::node::v1::{
    BundleRequest, Delta, FollowRequest, ReturnChain, ReturnRequest, ReturnResponse, SignJwtRequest,
    SignJwtResponse, SignJwtResult, SignRequest, SignResponse, SignResult, SignedBundle, node_server::Node,
    return_request::Step as Said, return_response::Step as Answered,
};
use registry::{LogId, Revision};
use server_api::wire::{
    bundle,
    delta::{Head, Parts},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{caller, node_caller};
use crate::{
    Server, push,
    returning::Asked,
    sign::{self, Order, OrderedKey, Unsigned, jwt},
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

/// A node that returns says each of its two words within this time.
const WORD_WITHIN: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl Node for Service {
    async fn bundle(&self, _: Request<BundleRequest>) -> Result<Response<SignedBundle>, Status> {
        let signed = self.0.trust.signed(&self.0.ledger.current()).ok().flatten();
        let signed = signed.ok_or_else(|| Status::unavailable("there is no trust bundle yet; try again"))?;
        Ok(Response::new(bundle::to_wire(&signed)))
    }

    type FollowStream = Pin<Box<dyn Stream<Item = Result<Delta, Status>> + Send>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let caller = node_caller(&request)?;
        let FollowRequest { log, from, seen, agent_version } = request.into_inner();
        self.0.versions.hear(&caller.id, &agent_version, &self.0.ledger.current());
        if let Some(seen) = seen.and_then(Head::from_wire) {
            self.0.lost.hear(&self.0.ledger, &caller, seen).await;
        }
        let steps = push::follow(self.0.clone(), caller, LogId(log), Revision(from), self.0.shutdown.clone());
        let parts = ReceiverStream::new(steps).flat_map(|step| match step {
            Ok(followed) => stream::iter(Parts::of(followed)).map(Ok).left_stream(),
            Err(status) => stream::iter([Err(status)]).right_stream(),
        });
        Ok(Response::new(Box::pin(parts)))
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = node_caller(&request)?;
        let items = request.into_inner().items.into_iter();
        let orders = items.map(|item| Order { entry: item.entry_id, key: OrderedKey::Bare(item.public_key) });
        let orders = orders.collect();
        let signed = sign::sign(&self.0, &caller, orders).await?;
        let results = signed.into_iter().map(|signed| match signed {
            Ok(made) => SignResult { chain: made.chain, code: Code::Ok as i32, message: String::new() },
            Err(refused) => {
                SignResult { chain: Vec::new(), code: refused.code as i32, message: refused.message }
            }
        });
        Ok(Response::new(SignResponse { results: results.collect() }))
    }

    type ReturnStream = Pin<Box<dyn Stream<Item = Result<ReturnResponse, Status>> + Send>>;

    async fn r#return(
        &self,
        request: Request<Streaming<ReturnRequest>>,
    ) -> Result<Response<Self::ReturnStream>, Status> {
        let (server, caller) = (self.0.clone(), caller(&request)?);
        let mut words = request.into_inner();
        let Some(Said::Params(params)) = word(&mut words).await? else {
            return Err(Status::invalid_argument("the first message carries params"));
        };
        let asked = Asked::new(params.spiffe_id, params.csr.into())?;
        let nonce = Answered::Nonce(asked.nonce().to_vec().into());
        let granted = async move {
            let Some(Said::Signature(signature)) = word(&mut words).await? else {
                return Err(Status::invalid_argument("the second message carries the signature"));
            };
            let granted = asked.answered(&server, &caller, &signature).await?;
            Ok(Answered::Granted(ReturnChain { chain: granted.issued.chain }))
        };
        let answers = stream::iter([Ok(nonce)]).chain(stream::once(granted));
        Ok(Response::new(Box::pin(answers.map(|step| step.map(|step| ReturnResponse { step: Some(step) })))))
    }

    async fn sign_jwt(&self, request: Request<SignJwtRequest>) -> Result<Response<SignJwtResponse>, Status> {
        let caller = node_caller(&request)?;
        let items = request.into_inner().items.into_iter();
        let orders = items.map(|item| jwt::Order { entry: item.entry_id, audience: item.audience }).collect();
        let signed = jwt::sign(&self.0, &caller, orders).await?;
        let results = signed.into_iter().map(|signed| match signed {
            Ok(jwt::Made { token, .. }) => SignJwtResult {
                issued_at: token.issued_at.unix_millis(),
                expires_at: token.expires_at.unix_millis(),
                token: token.token,
                code: Code::Ok as i32,
                message: String::new(),
            },
            Err(Unsigned { code, message }) => {
                SignJwtResult { code: code as i32, message, ..SignJwtResult::default() }
            }
        });
        Ok(Response::new(SignJwtResponse { results: results.collect() }))
    }
}

/// The next word of a node that returns.
async fn word(words: &mut Streaming<ReturnRequest>) -> Result<Option<Said>, Status> {
    let word = tokio::time::timeout(WORD_WITHIN, words.message()).await;
    let word = word.map_err(|_| Status::deadline_exceeded("nothing was said in time"))??;
    Ok(word.and_then(|word| word.step))
}
