//! `FetchJWTBundles` (Workload API standard, section 6.2.2).

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use crate::{Entitled, Source, call::Call};

/// Streams the keys by which the caller may judge tokens: its own trust domain's and those of the trust
/// domains that its entries federate with.
pub(crate) async fn fetch_jwt_bundles<S: Source>(
    call: Call<S>,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static, Status> {
    let granted = call.granted(S::follow_entitled).await?; // bundles are for those who have an identity
    Ok(granted.answers(Entitled::jwt_bundles_response)?)
}
