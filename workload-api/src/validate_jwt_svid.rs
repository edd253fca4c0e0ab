//! `ValidateJWTSVID` (Workload API standard, section 6.2.3).

use bytes::Bytes;
use spiffe::jwt::svid;
use tonic::Status;

use crate::{Source, Standing, call::Call, wire};

/// Judges a token for the caller, by the keys of its own trust domain and of those that its entries
/// federate with. Like SPIRE, for a process without an identity too: its own trust domain's keys are no
/// secret, and a gateway needs no name of its own to turn strangers away.
pub(crate) async fn validate_jwt_svid<S: Source>(call: Call<S>, message: &[u8]) -> Result<Bytes, Status> {
    let asked = wire::validate_jwt_svid_request(message)?;
    let (own, now) = (call.source().own_bundles(), call.source().now());
    let judged = match call.standing(S::follow_entitled).await? {
        Standing::Holds(entitled) => svid::validate(&asked.token, &[&asked.audience], &entitled.bundles, now),
        _ => svid::validate(&asked.token, &[&asked.audience], &own, now),
    };
    let valid = judged.map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
    let is_foreign = own.get(valid.spiffe_id.trust_domain().as_str()).is_none();
    Ok(wire::validate_jwt_svid_response(valid, is_foreign))
}
