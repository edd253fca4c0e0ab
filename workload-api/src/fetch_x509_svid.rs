//! `FetchX509SVID` (Workload API standard, section 5.2.1).

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use crate::{Source, Svids, call::Call};

/// Streams the caller's X509-SVIDs with their keys and bundles: the current ones at once, then the whole
/// set again after each change.
pub(crate) async fn fetch_x509_svid<S: Source>(
    call: Call<S>,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static, Status> {
    let granted = call.granted(S::follow).await?; // who is asking, and whether it has anything
    Ok(granted.answers(Svids::x509_svid_response)?) // now and after each change, as it looks on the wire
}
