//! A program that begins and ends its own tasks: `writ.task.v1` over the workload socket, without `writ` itself.

use std::io;
use std::path::Path;

use proto::writ::task::v1::tasks_client::TasksClient;
use proto::writ::task::v1::{BeginRequest, EndRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tonic::Status;

use crate::admin::channel;

/// Obeys one order a line: `begin MANDATE`, `end TASK`. Each is answered by a line of JSON: the task's id, or `code` and
/// `message`. It does not mind that the agent goes away.
pub async fn obey(socket: &Path) -> io::Result<()> {
    let mut tasks = TasksClient::new(channel(socket));
    let (mut orders, mut out) = (BufReader::new(tokio::io::stdin()).lines(), tokio::io::stdout());
    while let Some(order) = orders.next_line().await? {
        let answer = match order.split_once(' ') {
            Some(("begin", mandate)) => {
                let request = BeginRequest { mandate: mandate.to_owned(), ..BeginRequest::default() };
                tasks.begin(request).await.map(|begun| begun.into_inner().task.unwrap_or_default().id)
            }
            Some(("end", id)) => {
                tasks.end(EndRequest { id: id.to_owned() }).await.map(|ended| ended.into_inner().id)
            }
            _ => Err(Status::invalid_argument("begin MANDATE or end TASK")),
        };
        let line = told(answer).to_string() + "\n";
        out.write_all(line.as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

fn told(answer: Result<String, Status>) -> Value {
    match answer {
        Ok(id) => json!({ "id": id }),
        Err(status) => json!({ "code": format!("{:?}", status.code()), "message": status.message() }),
    }
}
