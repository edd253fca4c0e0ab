//! `writ.audit.v1.Recorder`: what nodes recorded comes up.

use std::{pin::Pin, sync::Arc};

use audit::{Hash, Head, SignedHead, spool::SpoolId};
use futures::Stream;
use proto::writ::audit::v1::{
    SignedHead as WireHead, TenantKeyRequest, TenantKeyResponse, UploadBegun, UploadRequest, UploadResponse,
    recorder_server::Recorder, upload_request::Step as Said, upload_response::Step as Answered,
};
use registry::{Key, objects::TenantName};
use spiffe::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::node_caller;
use crate::{
    Server,
    audit::{
        NotAppended,
        upload::{Broken, Coming, Upload},
    },
    callers::NodeCaller,
    now,
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

/// Acknowledgements that an agent has not read.
const AHEAD: usize = 4;

type Answers = mpsc::Sender<Result<UploadResponse, Status>>;

#[tonic::async_trait]
impl Recorder for Service {
    type UploadStream = Pin<Box<dyn Stream<Item = Result<UploadResponse, Status>> + Send>>;

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let (server, caller) = (self.0.clone(), node_caller(&request)?);
        let (answers, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let taken = tokio::select! {
                () = answers.closed() => return, // the agent left
                () = server.shutdown.requested() => Err(Status::unavailable("the server is stopping")),
                taken = take(&server, &caller, request.into_inner(), &answers) => taken,
            };
            if let Err(status) = taken {
                let _ = answers.try_send(Err(status)); // unless the agent left or does not read
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn tenant_key(
        &self,
        request: Request<TenantKeyRequest>,
    ) -> Result<Response<TenantKeyResponse>, Status> {
        let caller = node_caller(&request)?;
        let tenant: TenantName =
            request.into_inner().tenant.parse().map_err(|_| Status::invalid_argument("tenant: no name"))?;
        let key = Key::Tenant(tenant.clone());
        let view = self.0.ledger.current().view(&caller.id);
        match view.is_some_and(|view| view.objects.iter().any(|stored| stored.object.key() == key)) {
            true => {
                let key = self.0.audit.tenant_key(tenant.as_str()).to_vec().into();
                Ok(Response::new(TenantKeyResponse { key }))
            }
            false => Err(Status::permission_denied("not allowed")),
        }
    }
}

async fn take(
    server: &Server,
    caller: &NodeCaller,
    mut words: Streaming<UploadRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let Some(Said::Begin(begin)) = next(&mut words).await? else {
        return Err(Status::invalid_argument("an upload begins with the spool"));
    };
    let spool = <[u8; 16]>::try_from(&*begin.spool).map(SpoolId);
    let spool = spool.map_err(|_| Status::invalid_argument("a spool has 16 bytes"))?;
    let audit = server.audit.clone();
    let (mut upload, begun) =
        Upload::begin(audit, caller, spool, begin.oldest, begin.newest).await.map_err(status)?;
    let contradiction = begun.contradiction.unwrap_or_default();
    let ends = !contradiction.is_empty();
    say(answers, Answered::Begun(UploadBegun { next: begun.next, contradiction })).await?;
    if ends {
        return Ok(());
    }
    while let Some(step) = next(&mut words).await? {
        // A connection can outlive what it rests on.
        caller.standing(&server.ledger.current(), now())?;
        let taken = match step {
            Said::Begin(_) => return Err(Status::invalid_argument("an upload begins once")),
            Said::Batch(batch) => {
                let coming = batch.records.into_iter();
                let coming =
                    coming.map(|one| Coming { leaf: one.leaf.to_vec(), sealed: one.sealed.to_vec() });
                upload.take(coming.collect()).await.map(Some)
            }
            Said::Head(head) => {
                let (head, public_key) = signed(caller, head)?;
                upload.hear(head, &public_key).await.map(|()| None)
            }
        };
        match taken {
            Ok(None) => {}
            Ok(Some(seq)) => say(answers, Answered::Acknowledged(seq)).await?,
            Err(Broken::Contradiction(contradiction)) => {
                return say(answers, Answered::Begun(UploadBegun { next: 0, contradiction })).await;
            }
            Err(error) => return Err(status(error)),
        }
    }
    Ok(())
}

async fn next(words: &mut Streaming<UploadRequest>) -> Result<Option<Said>, Status> {
    Ok(words.message().await?.and_then(|word| word.step))
}

async fn say(answers: &Answers, step: Answered) -> Result<(), Status> {
    let answer = UploadResponse { step: Some(step) };
    answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the agent left"))
}

fn signed(caller: &NodeCaller, head: WireHead) -> Result<(SignedHead, Vec<u8>), Status> {
    let bad = || Status::invalid_argument("not a head");
    let spool = <[u8; 16]>::try_from(&*head.spool).map(SpoolId).map_err(|_| bad())?;
    let hash = <[u8; 32]>::try_from(&*head.hash).map(Hash).map_err(|_| bad())?;
    let at = Timestamp::from_unix_millis(head.at);
    let said = Head { node: caller.id.to_string(), spool, seq: head.seq, hash, at };
    Ok((SignedHead { head: said, signature: head.signature.to_vec() }, head.public_key.to_vec()))
}

fn status(broken: Broken) -> Status {
    match broken {
        Broken::Contradiction(why) => Status::failed_precondition(why),
        Broken::Nonsense(why) => Status::invalid_argument(why),
        Broken::NotAppended(NotAppended::Overtaken) => {
            Status::aborted("another connection of this node has uploaded more; begin again")
        }
        Broken::NotAppended(error) => Status::unavailable(error.to_string()),
    }
}
