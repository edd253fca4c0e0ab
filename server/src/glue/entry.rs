//! SPIRE's Entry service.

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use proto::spire::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
        BatchUpdateEntryRequest, BatchUpdateEntryResponse, CountEntriesRequest, CountEntriesResponse,
        GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest,
        ListEntriesResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
        batch_create_entry_response, batch_delete_entry_response, batch_update_entry_response,
        entry_server::Entry,
    },
    types::{Entry as WireEntry, EntryMask, Status as ItemStatus},
};
use registry::{
    Refusal, Versioned,
    decide::entry::{CreateEntries, DeleteEntries, EntryOutcome, UpdateEntries},
    objects::{Entry as OwnEntry, EntryId, EntryPatch},
};
use server_api::wire::{
    WireError,
    entry::{self, WHOLE},
    filter::EntryFilter,
    status,
};
use spiffe::Timestamp;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    batch::{Batch, aligned, page},
    caller, node_caller, sync, unavailable,
};
use crate::{
    Server,
    api::{apply::fresh_id, authorized, list},
    now,
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Entry for Service {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let filter = EntryFilter::of_count(request.into_inner().filter)?;
        let count = list::count(&self.0.ledger.current(), &filter);
        Ok(Response::new(CountEntriesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let ListEntriesRequest { filter, output_mask, page_size, page_token } = request.into_inner();
        let filter = EntryFilter::of_list(filter)?;
        let size = page(page_size)?;
        let after = match page_token.as_str() {
            "" => None,
            token => Some(id("page_token", token)?),
        };
        let page = list::entries(&self.0.ledger.current(), &filter, after.as_ref(), size);
        Ok(Response::new(ListEntriesResponse {
            entries: page.entries.iter().map(|entry| shown(entry, output_mask.as_ref())).collect(),
            next_page_token: page.next.map(String::from).unwrap_or_default(),
        }))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<WireEntry>, Status> {
        let GetEntryRequest { id: asked, output_mask } = request.into_inner();
        let registry = self.0.ledger.current();
        let entry = registry.entry(&id("id", &asked)?);
        let entry = entry.ok_or_else(|| Status::not_found("entry not found"))?;
        Ok(Response::new(shown(entry, output_mask.as_ref())))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let author = caller(&request)?.author();
        let BatchCreateEntryRequest { entries, output_mask } = request.into_inner();
        let batch = Batch::read(entries.into_iter().map(new_entry));
        let command = CreateEntries { entries: batch.good };
        let outcomes = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        let results =
            results(batch.bad, outcomes).map(|(status, entry)| batch_create_entry_response::Result {
                status: Some(status),
                entry: entry.map(|entry| shown(&entry, output_mask.as_ref())),
            });
        Ok(Response::new(BatchCreateEntryResponse { results: results.collect() }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let author = caller(&request)?.author();
        let BatchUpdateEntryRequest { entries, input_mask, output_mask } = request.into_inner();
        let mask = input_mask.unwrap_or(WHOLE);
        let batch = Batch::read(entries.into_iter().map(|wire| update(wire, &mask)));
        let command = UpdateEntries { updates: batch.good };
        let outcomes = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        let results = results(batch.bad, outcomes).map(|(status, entry)| {
            let entry = entry.filter(|_| status.code == 0).map(|entry| shown(&entry, output_mask.as_ref()));
            batch_update_entry_response::Result { status: Some(status), entry }
        });
        Ok(Response::new(BatchUpdateEntryResponse { results: results.collect() }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let author = caller(&request)?.author();
        let ids = request.into_inner().ids;
        let read = |text: &String| text.parse().map_err(|error| WireError(format!("id: {error}")));
        let batch = Batch::read(ids.iter().map(read));
        let command = DeleteEntries { ids: batch.good };
        let outcomes = self.0.ledger.submit(command, author).await.map_err(unavailable)?;
        let results = results(batch.bad, outcomes).zip(ids);
        let result = |((status, _), id)| batch_delete_entry_response::Result { status: Some(status), id };
        Ok(Response::new(BatchDeleteEntryResponse { results: results.map(result).collect() }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let node = node_caller(&request)?;
        let mask = request.into_inner().output_mask;
        let entries = authorized::entries(&self.0.ledger.current(), &node.id, now());
        let entries = entries.iter().map(|entry| sync::shown(entry, mask.as_ref())).collect();
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let node = node_caller(&request)?;
        let answers = sync::answer(self.0.clone(), node, request.into_inner());
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// One result for each item, in the order of the items.
fn results(
    bad: Vec<Option<WireError>>,
    outcomes: Vec<EntryOutcome>,
) -> impl Iterator<Item = (ItemStatus, Option<Versioned<OwnEntry>>)> {
    aligned(bad, outcomes).map(|outcome| match outcome {
        Ok(EntryOutcome { result: Ok(_), entry, .. }) => (status::ok_item(), entry),
        Ok(EntryOutcome { result: Err(refusal), entry, .. }) => (refused(&refusal), entry),
        Err(error) => (status::invalid_item(&error), None),
    })
}

/// SPIRE's words where its command line has words of its own for them.
fn refused(refusal: &Refusal) -> ItemStatus {
    let item = status::item(refusal);
    let message = match refusal {
        Refusal::AlreadyExists(why) if why.starts_with("similar") => {
            "similar entry already exists".to_owned()
        }
        Refusal::NotFound(_) => "entry not found".to_owned(),
        _ => item.message,
    };
    ItemStatus { message, ..item }
}

fn new_entry(wire: WireEntry) -> Result<OwnEntry, WireError> {
    let id = match wire.id.as_str() {
        "" => fresh_id().map_err(|error| WireError(error.to_string()))?,
        text => text.parse().map_err(|error| WireError(format!("id: {error}")))?,
    };
    entry::from_wire(wire, id, Timestamp::default()) // the log says when
}

fn update(wire: WireEntry, mask: &EntryMask) -> Result<(EntryId, EntryPatch), WireError> {
    let id = wire.id.parse().map_err(|error| WireError(format!("id: {error}")))?;
    Ok((id, entry::patch_from_wire(wire, mask)?))
}

fn shown(entry: &Versioned<OwnEntry>, mask: Option<&EntryMask>) -> WireEntry {
    entry::masked(entry::to_wire(entry, entry.version), mask)
}

fn id(field: &str, text: &str) -> Result<EntryId, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}
