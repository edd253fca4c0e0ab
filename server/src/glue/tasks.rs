//! `writ.node.v1.Tasks`: what an agent asks of tasks, and what it says became of them.

use std::sync::Arc;

use proto::writ::node::v1::{
    BeginTaskRequest, BeginTaskResponse, ChangeTasksRequest, ChangeTasksResponse, FreshRequest,
    FreshResponse, RenewTaskRequest, RenewTaskResponse, TaskTokenRequest, TaskTokenResponse,
    tasks_server::Tasks,
};
use registry::{decide::task::ChangeTasks, objects::TaskId};
use server_api::wire::{status, tasks as wire};
use spiffe::fresh::Fresh;
use tonic::{Code, Request, Response, Status};

use super::{node_caller, unavailable};
use crate::{
    Server,
    callers::Caller,
    now,
    tasks::{begin, credentials},
};

/// The service.
pub(crate) struct Service(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Tasks for Service {
    async fn fresh(&self, _: Request<FreshRequest>) -> Result<Response<FreshResponse>, Status> {
        // The clock is read first: what is said is at least as new as it says.
        let (at, registry) = (now(), self.0.ledger.current());
        let (log, revision) = (registry.log().0.clone(), registry.revision().0);
        let said = Fresh { trust_domain: registry.trust_domain(), log: &log, revision, at };
        let signature = self.0.trust.sign_message(&said.message());
        let signature = signature.map_err(|error| Status::internal(error.to_string()))?.into();
        Ok(Response::new(FreshResponse { log, revision, at: at.unix_millis(), signature }))
    }

    async fn begin_task(
        &self,
        request: Request<BeginTaskRequest>,
    ) -> Result<Response<BeginTaskResponse>, Status> {
        let caller = node_caller(&request)?;
        let request = request.into_inner();
        let (id, wish) = wire::begin(&request)?;
        let begun = begin::begin(&self.0, &caller, id, wish, &request.public_key).await?;
        Ok(Response::new(BeginTaskResponse {
            task: Some(wire::task_object(begun.version, begun.task)),
            revision: begun.revision.0,
            grant: begun.grant,
            chain: begun.svid.chain,
        }))
    }

    async fn renew_task(
        &self,
        request: Request<RenewTaskRequest>,
    ) -> Result<Response<RenewTaskResponse>, Status> {
        let caller = node_caller(&request)?;
        let RenewTaskRequest { task, public_key } = request.into_inner();
        let renewed = credentials::renew(&self.0, &caller, task_id(&task)?, &public_key).await?;
        Ok(Response::new(RenewTaskResponse { chain: renewed.chain }))
    }

    async fn task_token(
        &self,
        request: Request<TaskTokenRequest>,
    ) -> Result<Response<TaskTokenResponse>, Status> {
        let caller = node_caller(&request)?;
        let task = task_id(&request.into_inner().task)?;
        let made = credentials::token(&self.0, &caller, task).await?;
        Ok(Response::new(TaskTokenResponse { expires_at: made.expires_at.unix_millis(), token: made.token }))
    }

    async fn change_tasks(
        &self,
        request: Request<ChangeTasksRequest>,
    ) -> Result<Response<ChangeTasksResponse>, Status> {
        let caller = node_caller(&request)?;
        let told = request.into_inner().changes;
        if told.len() > wire::MAX_CHANGES {
            let many = told.len();
            return Err(Status::invalid_argument(format!(
                "{many} changes; at most {} are read",
                wire::MAX_CHANGES
            )));
        }
        let read: Vec<_> = told.iter().map(wire::change).collect();
        let changes = read.iter().flatten().cloned().collect();
        let command = ChangeTasks { node: caller.id.clone(), changes };
        let author = Caller::Node(caller).author();
        let mut answers = self.0.ledger.submit(command, author).await.map_err(unavailable)?.into_iter();
        let code = |read: Result<_, _>| match read {
            Err(_) => Code::InvalidArgument,
            Ok(_) => match answers.next() {
                Some(Ok(())) => Code::Ok,
                Some(Err(refusal)) => status::code(&refusal),
                None => Code::Internal,
            },
        };
        let codes = read.into_iter().map(code).map(|code| code as i32).collect();
        Ok(Response::new(ChangeTasksResponse { codes }))
    }
}

fn task_id(text: &str) -> Result<TaskId, Status> {
    text.parse().map_err(|_| Status::invalid_argument("task: it is not the id of a task"))
}
