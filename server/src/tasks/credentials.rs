//! The next certificate of a live task, and its transaction tokens: recorded, and given only if the task still lives
//! at that moment.

use std::{sync::Arc, time::Duration};

use registry::{
    Command, Decision, Moment, Proposal, Registry,
    decide::issuance::{Issued as RecordedIssue, IssuedToken, RecordIssued, RecordTokens},
    objects::{AuthorityId, TaskId},
};
use spiffe::SpiffeId;
use tonic::Status;

use super::{certify, grant, held};
use crate::{
    Server,
    ca::{Issued, SubjectKey, Token},
    callers::{Caller, NodeCaller},
    now,
    sign::{cannot_sign, not_recorded, vouches},
};

/// A transaction token says how things are, so it is soon over.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// Signs the next certificate of a task of the node of `caller`.
pub(crate) async fn renew(
    server: &Arc<Server>,
    caller: &NodeCaller,
    task: TaskId,
    public_key: &[u8],
) -> Result<Issued, Status> {
    let key =
        SubjectKey::from_spki(public_key).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let (issuer, now) = (server.ca.issuer().map_err(cannot_sign)?, now());
    let registry = server.ledger.current();
    let task_now = held(&registry, &caller.id, &task, now)?;
    let svid = certify(&issuer, task_now, &key, now)?;
    let spiffe_id = task_now.spiffe_id().map_err(|error| Status::internal(error.to_string()))?;
    let (serial, not_after) = (svid.serial.clone(), svid.not_after);
    let item = Item::Certificate(RecordedIssue { entry: None, spiffe_id, serial, not_after });
    record(server, caller, task, issuer.id().clone(), item).await?;
    Ok(svid)
}

/// Signs a transaction token of a task of the node of `caller`.
pub(crate) async fn token(server: &Arc<Server>, caller: &NodeCaller, task: TaskId) -> Result<Token, Status> {
    let (issuer, now) = (server.ca.token_issuer().map_err(cannot_sign)?, now());
    let registry = server.ledger.current();
    let task_now = held(&registry, &caller.id, &task, now)?;
    let end = task_now.expires_at.min(now + TOKEN_LIFE);
    let token = grant::transaction(&issuer, &registry, task_now, now, end)?;
    let item = Item::Token(IssuedToken {
        entry: None,
        spiffe_id: task_now.spiffe_id().map_err(|error| Status::internal(error.to_string()))?,
        audience: vec![registry.trust_domain().id().to_string()],
        jti: token.jti.clone(),
        not_after: token.expires_at,
    });
    record(server, caller, task, issuer.id().clone(), item).await?;
    Ok(token)
}

async fn record(
    server: &Arc<Server>,
    caller: &NodeCaller,
    task: TaskId,
    authority: AuthorityId,
    item: Item,
) -> Result<(), Status> {
    let record = Record { node: caller.id.clone(), task, authority, item };
    server.ledger.submit(record, Caller::Node(caller.clone()).author()).await.map_err(not_recorded)?
}

struct Record {
    node: SpiffeId,
    task: TaskId,
    authority: AuthorityId,
    item: Item,
}

enum Item {
    Certificate(RecordedIssue),
    Token(IssuedToken),
}

impl Command for Record {
    type Answer = Result<(), Status>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let Self { node, task, authority, item } = self;
        let vouched = vouches(registry, &authority).map_err(|why| Status::new(why.code, why.message));
        if let Err(why) = vouched.and_then(|()| held(registry, &node, &task, moment.now).map(drop)) {
            return Decision { proposal: Proposal::default(), answer: Err(why) };
        }
        let proposal = match item {
            Item::Certificate(item) => {
                RecordIssued { authority, items: vec![item] }.decide(registry, moment).proposal
            }
            Item::Token(item) => {
                RecordTokens { authority, items: vec![item] }.decide(registry, moment).proposal
            }
        };
        Decision { proposal, answer: Ok(()) }
    }
}
