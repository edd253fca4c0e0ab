//! What all of SPIRE's batches and lists have in common.

use server_api::wire::WireError;
use tonic::Status;

/// No page is larger, whatever is asked for.
const MAX_PAGE: usize = 5000;

/// A batch whose unreadable items have been set aside, with their places.
pub(super) struct Batch<T> {
    pub(super) good: Vec<T>,
    pub(super) bad: Vec<Option<WireError>>,
}

impl<T> Batch<T> {
    pub(super) fn read(items: impl Iterator<Item = Result<T, WireError>>) -> Self {
        let mut batch = Self { good: Vec::new(), bad: Vec::new() };
        for item in items {
            match item {
                Ok(good) => {
                    batch.good.push(good);
                    batch.bad.push(None);
                }
                Err(error) => batch.bad.push(Some(error)),
            }
        }
        batch
    }
}

/// One outcome for each item of a batch, in the order of the items: those that could not be read between
/// those that were decided.
pub(super) fn aligned<T>(
    bad: Vec<Option<WireError>>,
    outcomes: Vec<T>,
) -> impl Iterator<Item = Result<T, WireError>> {
    let mut outcomes = outcomes.into_iter();
    bad.into_iter().map(move |bad| match bad {
        Some(error) => Err(error),
        None => outcomes.next().ok_or_else(|| WireError("the result is missing".to_owned())),
    })
}

/// How many items a page has at most; with a size of 0 it has all.
pub(super) fn page(size: i32) -> Result<usize, Status> {
    match usize::try_from(size) {
        Ok(0) => Ok(usize::MAX),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(Status::invalid_argument("page_size: it is negative")),
    }
}
