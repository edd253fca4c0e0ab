//! What an agent's spool says to its server: `writ.audit.v1.Recorder`.

use std::time::Duration;

use audit::{SignedHead, spool::SpoolId};
use proto::writ::audit::v1::{
    Batch, Record as WireRecord, SignedHead as WireHead, TenantKeyRequest, UploadBegin, UploadRequest,
    UploadResponse, recorder_client::RecorderClient, upload_request::Step as Said,
    upload_response::Step as Answered,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, transport::Channel};
use zeroize::Zeroizing;

use super::CallError;

/// Speaks to a server for an agent's spool.
#[derive(Clone)]
pub struct Client(RecorderClient<Channel>);

/// An upload under way.
pub struct Upload {
    words: mpsc::Sender<UploadRequest>,
    answers: Streaming<UploadResponse>,
}

/// A record on its way.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// What lies sealed beside it.
    pub sealed: Vec<u8>,
}

/// What the server says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// From this record on it wants them.
    Begun {
        /// The record.
        next: u64,
        /// Why this spool cannot go on.
        contradiction: Option<String>,
    },
    /// Up to and with this record it has them.
    Acknowledged(u64),
}

impl Client {
    /// A client over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self(RecorderClient::new(channel))
    }

    /// Begins to upload a spool with the records from `oldest` to `newest`.
    pub async fn upload(
        &mut self,
        spool: SpoolId,
        oldest: u64,
        newest: u64,
    ) -> Result<(Upload, Answer), CallError> {
        let (words, said) = mpsc::channel(AHEAD);
        let begin = UploadBegin { spool: spool.0.to_vec().into(), oldest, newest };
        let unsaid = |_| CallError::Unavailable("the connection ended".to_owned());
        words.try_send(UploadRequest { step: Some(Said::Begin(begin)) }).map_err(unsaid)?;
        let answers = self.0.upload(Request::new(ReceiverStream::new(said))).await?.into_inner();
        let mut upload = Upload { words, answers };
        let first = upload.answer().await?;
        Ok((upload, first))
    }

    /// The key of a tenant whose actors this node may see.
    pub async fn tenant_key(&mut self, tenant: &str) -> Result<Zeroizing<[u8; 32]>, CallError> {
        let mut request = Request::new(TenantKeyRequest { tenant: tenant.to_owned() });
        request.set_timeout(WITHIN);
        let key = Zeroizing::new(self.0.tenant_key(request).await?.into_inner().key.to_vec());
        let nonsense = || CallError::Nonsense("a tenant's key has 32 bytes".to_owned());
        <[u8; 32]>::try_from(key.as_slice()).map(Zeroizing::new).map_err(|_| nonsense())
    }
}

impl Upload {
    /// Sends records in their order.
    pub async fn send(&mut self, records: Vec<Record>) -> Result<(), CallError> {
        let wire = |Record { leaf, sealed }| WireRecord { leaf: leaf.into(), sealed: sealed.into() };
        self.say(Said::Batch(Batch { records: records.into_iter().map(wire).collect() })).await
    }

    /// Shows a head that the holder of this key (SubjectPublicKeyInfo, DER) has signed.
    pub async fn show(&mut self, signed: SignedHead, public_key: Vec<u8>) -> Result<(), CallError> {
        let SignedHead { head, signature } = signed;
        self.say(Said::Head(WireHead {
            spool: head.spool.0.to_vec().into(),
            seq: head.seq,
            hash: head.hash.0.to_vec().into(),
            at: head.at.unix_millis(),
            signature: signature.into(),
            public_key: public_key.into(),
        }))
        .await
    }

    /// The server's next word.
    pub async fn answer(&mut self) -> Result<Answer, CallError> {
        let ended = || CallError::Unavailable("the server ended the upload".to_owned());
        match self.answers.message().await?.ok_or_else(ended)?.step {
            Some(Answered::Begun(begun)) => Ok(Answer::Begun {
                next: begun.next,
                contradiction: Some(begun.contradiction).filter(|why| !why.is_empty()),
            }),
            Some(Answered::Acknowledged(seq)) => Ok(Answer::Acknowledged(seq)),
            None => Err(CallError::Nonsense("a word without content".to_owned())),
        }
    }

    async fn say(&mut self, step: Said) -> Result<(), CallError> {
        let unsaid = |_| CallError::Unavailable("the connection ended".to_owned());
        self.words.send(UploadRequest { step: Some(step) }).await.map_err(unsaid)
    }
}

const AHEAD: usize = 4;
const WITHIN: Duration = Duration::from_secs(30);
