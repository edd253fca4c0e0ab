//! `FetchX509Bundles` (Workload API standard, section 5.2.2).

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use crate::{Source, Svids, call::Call};

/// Streams the bundles by which the caller may judge others: its own trust domain's and those that its
/// entries federate with.
pub(crate) async fn fetch_x509_bundles<S: Source>(
    call: Call<S>,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static, Status> {
    let granted = call.granted(S::follow).await?; // bundles are for those who have an identity
    Ok(granted.answers(Svids::x509_bundles_response)?)
}
