//! A task begins: decided, signed for, committed, and only then told to the agent, with the certificate and the grant.

use std::sync::Arc;

use registry::{
    Command, Decision, Moment, Proposal, Registry, Revision,
    decide::{
        issuance::{Issued as RecordedIssue, RecordIssued},
        task::{BeginTask, Wish},
    },
    objects::{AuthorityId, Task, TaskId},
};
use serde_json::json;
use server_api::wire::status;
use tonic::Status;

use super::{certify, grant};
use crate::{
    Server,
    ca::{Issued, SubjectKey},
    callers::{Caller, NodeCaller},
    now,
    sign::{cannot_sign, not_recorded, vouches},
};

/// What the agent gets.
pub(crate) struct Begun {
    pub(crate) task: Task,
    pub(crate) version: u64,
    pub(crate) revision: Revision,
    pub(crate) grant: String,
    pub(crate) svid: Issued,
}

/// Begins a task on the node of `caller`.
pub(crate) async fn begin(
    server: &Arc<Server>,
    caller: &NodeCaller,
    id: TaskId,
    wish: Wish,
    public_key: &[u8],
) -> Result<Begun, Status> {
    let begun = decided(server, caller, id, wish, public_key).await;
    match &begun {
        Ok(_) => server.figures.tasks.increment(),
        Err(_) => server.figures.no_tasks.increment(),
    }
    begun
}

async fn decided(
    server: &Arc<Server>,
    caller: &NodeCaller,
    id: TaskId,
    wish: Wish,
    public_key: &[u8],
) -> Result<Begun, Status> {
    let key =
        SubjectKey::from_spki(public_key).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let (issuer, tokens) =
        (server.ca.issuer().map_err(cannot_sign)?, server.ca.token_issuer().map_err(cannot_sign)?);
    let (now, author) = (now(), Caller::Node(caller.clone()).author());
    let begin = BeginTask { id, node: caller.id.clone(), wish, records_refusal: false };
    // Foreseen here, so that the certificate is there when the writer decides and both are one commit.
    let moment = Moment { now, author: author.clone() };
    let foreseen = begin.clone().decide(&server.ledger.current(), &moment).answer;
    let svid = match foreseen {
        Ok(task) => Some((issuer.id().clone(), certify(&issuer, &task, &key, now)?)),
        Err(refusal) if !server.refusals.is_recorded(&caller.id, now) => return Err(status::call(&refusal)),
        Err(_) => None,
    };
    let begin = BeginTask { records_refusal: svid.is_none(), ..begin };
    let id = begin.id.clone();
    let (task, svid) = server.ledger.submit(Begin { begin, svid }, author).await.map_err(not_recorded)??;
    let registry = server.ledger.current();
    let version = registry.task(&id).map_or(1, |task| task.version);
    let grant = grant::grant(&tokens, registry.trust_domain(), &task, now)?;
    Ok(Begun { task, version, revision: registry.revision(), grant, svid })
}

/// Begins the task and records its certificate in one commit. Without a certificate a refusal was foreseen, and
/// nothing is begun.
struct Begin {
    begin: BeginTask,
    svid: Option<(AuthorityId, Issued)>,
}

impl Command for Begin {
    type Answer = Result<(Task, Issued), Status>;
    fn decide(self, registry: &Registry, moment: &Moment) -> Decision<Self::Answer> {
        let nothing = |why| Decision { proposal: Proposal::default(), answer: Err(why) };
        let Decision { mut proposal, answer } = self.begin.decide(registry, moment);
        let (task, (authority, svid)) = match (answer, self.svid) {
            (Err(refusal), _) => return Decision { proposal, answer: Err(status::call(&refusal)) },
            (Ok(_), None) => return nothing(Status::aborted("something changed meanwhile; ask again")),
            (Ok(task), Some(svid)) => (task, svid),
        };
        if task.expires_at < svid.not_after || vouches(registry, &authority).is_err() {
            return nothing(Status::aborted("the authority or the task changed meanwhile; ask again"));
        }
        let spiffe_id = match task.spiffe_id() {
            Ok(id) => id,
            Err(error) => return nothing(Status::internal(error.to_string())),
        };
        match &mut proposal.record {
            Some(record) => {
                record.facts["svid"] = json!({
                    "authority": authority, "spiffe_id": spiffe_id, "serial": svid.serial, "not_after": svid.not_after,
                });
            }
            // The same request again: the task is there, and only the certificate is new.
            None => {
                let (serial, not_after) = (svid.serial.clone(), svid.not_after);
                let items = vec![RecordedIssue { entry: None, spiffe_id, serial, not_after }];
                proposal = RecordIssued { authority, items }.decide(registry, moment).proposal;
            }
        }
        Decision { proposal, answer: Ok((task, svid)) }
    }
}
