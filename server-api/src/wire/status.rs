//! How a refusal looks on the wire: the one place where registry errors become gRPC codes.

use prost::Message as _;
use proto::spire::types::{PermissionDeniedDetails, Status as ItemStatus, permission_denied_details};
use registry::Refusal;
use tonic::{Code, Status};

use super::WireError;

/// Why an agent is turned away, in the form that tells it what to do next.
pub use permission_denied_details::Reason;

/// The gRPC code of a refusal.
pub fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Invalid(_) => Code::InvalidArgument,
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::AlreadyExists(_) => Code::AlreadyExists,
        Refusal::Denied(_) => Code::PermissionDenied,
        Refusal::Precondition(_) => Code::FailedPrecondition,
    }
}

/// A refusal as the status of a whole call, for an asker who may know why.
pub fn call(refusal: &Refusal) -> Status {
    Status::new(code(refusal), refusal.to_string())
}

/// A refusal as the status of one item of a batch.
pub fn item(refusal: &Refusal) -> ItemStatus {
    ItemStatus { code: code(refusal) as i32, message: refusal.to_string() }
}

/// One item of a batch went well.
pub fn ok_item() -> ItemStatus {
    ItemStatus { code: Code::Ok as i32, message: "OK".to_owned() }
}

/// One item of a batch could not be read.
pub fn invalid_item(error: &WireError) -> ItemStatus {
    ItemStatus { code: Code::InvalidArgument as i32, message: error.to_string() }
}

/// PermissionDenied with the detail that SPIRE's agents obey: without it they would keep trying
/// with an identity that is worth nothing.
pub fn agent_denied(reason: Reason, message: &str) -> Status {
    let detail = PermissionDeniedDetails { reason: reason as i32 };
    let rich = RichStatus {
        code: Code::PermissionDenied as i32,
        message: message.to_owned(),
        details: vec![prost_types::Any { type_url: DETAIL_TYPE.to_owned(), value: detail.encode_to_vec() }],
    };
    Status::with_details(Code::PermissionDenied, message, rich.encode_to_vec().into())
}

/// The reason in a PermissionDenied from a server, if it has one.
pub fn denied_reason(status: &Status) -> Option<Reason> {
    if status.code() != Code::PermissionDenied || status.details().len() > MAX_DETAILS {
        return None;
    }
    let rich = RichStatus::decode(status.details()).ok()?;
    let detail = rich.details.iter().find(|any| any.type_url == DETAIL_TYPE)?;
    Some(PermissionDeniedDetails::decode(detail.value.as_slice()).ok()?.reason())
}

const DETAIL_TYPE: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";
const MAX_DETAILS: usize = 4096;

/// `google.rpc.Status`, the content of `grpc-status-details-bin`.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_learns_why_it_is_turned_away() {
        let status = agent_denied(Reason::AgentBanned, "agent is banned");
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(denied_reason(&status), Some(Reason::AgentBanned));
    }

    #[test]
    fn a_plain_or_mangled_denial_has_no_reason() {
        assert_eq!(denied_reason(&Status::permission_denied("no")), None);
        let garbage = Status::with_details(Code::PermissionDenied, "no", vec![0xff; 64].into());
        assert_eq!(denied_reason(&garbage), None);
        let huge = Status::with_details(Code::PermissionDenied, "no", vec![0; MAX_DETAILS + 1].into());
        assert_eq!(denied_reason(&huge), None);
    }
}
