//! Approving a mandate: the server signs what the approver read, and nothing else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use registry::{
    Author, Refusal,
    decide::mandate::ApproveMandate,
    objects::{MandateName, Sha256, mandate::approval},
};

use crate::{Server, ledger::Unavailable};

/// Approves the draft with this version and digest; the version that counts now.
pub(crate) async fn approve(
    server: &Server,
    name: MandateName,
    version: u64,
    sha256: Sha256,
    author: Author,
) -> Result<Result<u64, Refusal>, Unavailable> {
    let registry = server.ledger.current();
    let statement = match registry.to_approve(&name) {
        Ok((_, statement)) => statement,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // Whether it is the draft that was read, the command asks; a signature of another one is never used.
    let message = approval(registry.trust_domain(), &statement);
    let signature = match Sha256::of(&statement).matches(&sha256) {
        true => server.trust.sign_message(&message).map_err(|error| Unavailable(error.to_string()))?,
        false => Vec::new(),
    };
    let (signature, by) = (STANDARD.encode(signature), approver(&author));
    let command = ApproveMandate { name, version, sha256, signature, by };
    server.ledger.submit(command, author).await
}

/// Who approves, for people.
fn approver(author: &Author) -> String {
    match author {
        Author::Local { uid, .. } => format!("uid {uid} on the server"),
        Author::Admin { id } => id.to_string(),
        other => format!("{other:?}"),
    }
}
