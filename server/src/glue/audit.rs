//! `writ.audit.v1.Audit`: what administrators may read of the evidence. Whatever gives out entries is put
//! on record first.

use std::{pin::Pin, sync::Arc};

use audit::{Hash, tree::proof};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use proto::writ::audit::v1::{
    CheckpointRequest, CheckpointResponse, ConsistencyRequest, ConsistencyResponse, Entries, EntriesRequest,
    EraseRequest, EraseResponse, ExportRequest, File, InclusionRequest, InclusionResponse,
    audit_server::Audit,
};
use store::{AuditReader, StoreError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{caller, unavailable};
use crate::{
    Server,
    audit::{NotAppended, read},
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

/// Parts that nobody has taken yet.
const AHEAD: usize = 8;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Audit for Service {
    async fn checkpoint(
        &self,
        _: Request<CheckpointRequest>,
    ) -> Result<Response<CheckpointResponse>, Status> {
        let published = self.0.audit.published().borrow().clone();
        let verifier_key = self.0.audit.verifier().to_string();
        Ok(Response::new(CheckpointResponse { note: published.note, verifier_key, size: published.size }))
    }

    async fn inclusion(
        &self,
        request: Request<InclusionRequest>,
    ) -> Result<Response<InclusionResponse>, Status> {
        let author = caller(&request)?.author();
        let InclusionRequest { index, size } = request.into_inner();
        let size = self.size(size)?;
        self.0.audit.reading(&author, format!("entry {index}")).await.map_err(not_recorded)?;
        let found = self.read(move |reader| read::inclusion(reader, index, size)).await?;
        let (leaf, hashes) = found
            .ok_or_else(|| Status::not_found(format!("there is no entry {index} in a log of {size}")))?;
        Ok(Response::new(InclusionResponse { leaf: leaf.into(), size, hashes: wire(&hashes) }))
    }

    async fn consistency(
        &self,
        request: Request<ConsistencyRequest>,
    ) -> Result<Response<ConsistencyResponse>, Status> {
        let ConsistencyRequest { old, size } = request.into_inner();
        let size = self.size(size)?;
        let hashes = self.read(move |reader| proof::consistency(reader, old, size)).await?;
        let none =
            || Status::not_found(format!("a log of {old} entries is not the beginning of one of {size}"));
        Ok(Response::new(ConsistencyResponse { size, hashes: wire(&hashes.ok_or_else(none)?) }))
    }

    type ExportStream = Answers<File>;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let author = caller(&request)?.author();
        self.0.audit.reading(&author, "the whole log".to_owned()).await.map_err(not_recorded)?;
        let (out, files) = mpsc::channel(AHEAD);
        let audit = self.0.audit.clone();
        tokio::task::spawn_blocking(move || read::export(&audit, &out));
        let files = ReceiverStream::new(files).map(|file| match file {
            Ok(read::Exported { path, content }) => Ok(File { path, content: content.into() }),
            Err(error) => Err(failed(&error)),
        });
        Ok(Response::new(Box::pin(files)))
    }

    type EntriesStream = Answers<Entries>;

    async fn entries(
        &self,
        request: Request<EntriesRequest>,
    ) -> Result<Response<Self::EntriesStream>, Status> {
        let author = caller(&request)?.author();
        let EntriesRequest { from, to, last, follow } = request.into_inner();
        let size = self.0.audit.published().borrow().size;
        let from = if last > 0 { size.saturating_sub(last) } else { from };
        let to = (to > 0).then_some(to);
        let end = to.map_or_else(|| "the end".to_owned(), |to| to.to_string());
        let what = format!("entries {from} to {end}{}", if follow { ", and what follows" } else { "" });
        self.0.audit.reading(&author, what).await.map_err(not_recorded)?;
        // Without `follow` it ends where the log ended when it was asked for.
        let range = read::Range { from, to: if follow { to } else { to.or(Some(size)) }, follow };
        let (out, stretches) = mpsc::channel(AHEAD);
        tokio::spawn(read::entries(self.0.audit.clone(), range, out));
        let entries = ReceiverStream::new(stretches).map(|stretch| match stretch {
            Ok(read::Stretch { first, leaves }) => {
                Ok(Entries { first, leaves: leaves.into_iter().map(Bytes::from).collect() })
            }
            Err(error) => Err(failed(&error)),
        });
        Ok(Response::new(Box::pin(entries)))
    }

    async fn erase(&self, request: Request<EraseRequest>) -> Result<Response<EraseResponse>, Status> {
        let author = caller(&request)?.author();
        let EraseRequest { index } = request.into_inner();
        match self.0.audit.erase(index, &author).await.map_err(unavailable)? {
            true => Ok(Response::new(EraseResponse {})),
            false => Err(Status::not_found(format!("nothing lies sealed beside entry {index}"))),
        }
    }
}

impl Service {
    /// A size that the log has reached.
    fn size(&self, asked: u64) -> Result<u64, Status> {
        let newest = self.0.audit.published().borrow().size;
        match asked {
            0 => Ok(newest),
            asked if asked <= newest => Ok(asked),
            asked => Err(Status::not_found(format!("the log has {newest} entries, not {asked} yet"))),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&AuditReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let audit = self.0.audit.clone();
        let done = tokio::task::spawn_blocking(move || read(&audit.reader()?)).await;
        done.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| failed(&error))
    }
}

fn wire(hashes: &[Hash]) -> Vec<Bytes> {
    hashes.iter().map(|hash| Bytes::copy_from_slice(&hash.0)).collect()
}

fn not_recorded(error: NotAppended) -> Status {
    Status::unavailable(format!("reading cannot be put on record, so nothing is read: {error}"))
}

fn failed(error: &StoreError) -> Status {
    Status::data_loss(error.to_string())
}
