//! A session with one gate: it asks, tells what became of it, and is told what is void.

use std::{collections::HashMap, sync::Arc};

use authz::{Code, Denial, Refused, ToolCall};
use parking_lot::Mutex;
use peer::Peer;
use registry::{
    objects::TaskId,
    scope::{Label, ResourceName, ToolName},
};
use tokio::sync::Semaphore;
use workload_api::socket::Line;

use super::{AuthzDoor, Gate};
use crate::{
    authorize::{Authorizer, Carried, How, Question, Said, Shown},
    clock,
};

/// What a gate says, read.
pub(super) enum Heard {
    /// May this call be made? None where its arguments are not a value that every reader reads alike.
    Ask { id: u64, client: Client, call: Option<Box<ToolCall>> },
    /// This became of a permitted call.
    Outcome { id: u64, how: How, found: Label },
    /// It has stopped.
    Voided { number: u64 },
    /// This client sent what is no call.
    Malformed { id: u64, client: Client, resource: ResourceName, why: String },
    /// What may be shown?
    Visible { id: u64, client: Client, shown: Vec<Shown> },
}

/// A process as a gate names it.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) pid: u32,
    pub(super) serial: u64,
    pub(super) task: Option<TaskId>,
}

/// One gate's session.
pub(super) struct Session {
    gate: Gate,
    line: Arc<Line>,
    door: Arc<AuthzDoor>,
    authorizer: Arc<Authorizer>,
    pub(super) carried: Arc<Carried>,
    /// Processes that were asked about lately.
    clients: Mutex<HashMap<(u32, u64), Arc<Peer>>>,
    /// Answers that are being found.
    at_once: Arc<Semaphore>,
}

impl Session {
    pub(super) fn new(gate: Gate, line: Arc<Line>, door: Arc<AuthzDoor>, carried: Arc<Carried>) -> Arc<Self> {
        let (authorizer, at_once) = (door.authorizer.clone(), Arc::new(Semaphore::new(AT_ONCE)));
        Arc::new(Self { gate, line, door, authorizer, carried, clients: Mutex::default(), at_once })
    }

    /// Takes one message. It waits only where the gate has too many questions open; answers come by themselves.
    pub(super) async fn hear(self: &Arc<Self>, heard: Heard) {
        if let Heard::Voided { number } = heard {
            return self.carried.voided(number); // never behind a question
        }
        // An error would mean a closed semaphore, and nobody closes one.
        let place = self.at_once.clone().acquire_owned().await;
        let session = self.clone();
        tokio::spawn(async move {
            session.answer(heard).await;
            drop(place);
        });
    }

    /// Returns when the gate is no longer what it was attested as, or must be cut off.
    pub(super) async fn over(&self) {
        let mut standing = self.gate.standing.clone();
        tokio::select! {
            // It is attested anew when it connects again.
            _ = standing.changed() => {}
            () = self.door.guards_others(&self.gate) => {}
            () = self.carried.cut() => {}
        }
    }

    /// Nothing more is permitted here, and what is out has no outcome.
    pub(super) async fn end(&self) {
        self.line.close();
        for given in self.carried.end() {
            self.authorizer.close(given, How::Unknown).await;
        }
    }

    async fn answer(&self, heard: Heard) {
        match heard {
            Heard::Ask { id, client, call } => {
                if let Err(refused) = self.ask(id, client, call).await {
                    self.carried.say(Said::Refused { id, refused });
                }
            }
            Heard::Outcome { id, how, found } => self.outcome(id, how, &found).await,
            Heard::Visible { id, client, shown } => {
                let shown = self.visible(client, shown).await;
                self.carried.say(Said::Shown { id, shown });
            }
            Heard::Malformed { id, client, resource, why } => {
                self.malformed(&client, &resource, &why).await;
                self.carried.say(Said::Refused { id, refused: refused(Code::Malformed) });
            }
            Heard::Voided { number } => self.carried.voided(number),
        }
    }

    async fn malformed(&self, client: &Client, resource: &ResourceName, why: &str) {
        if self.line.check().is_err() {
            return;
        }
        if let (Some(gate), Some(held)) = (self.gate.guards.get(resource), self.held(client)) {
            self.authorizer.malformed(gate, &held, client.task.as_ref(), resource, why).await;
        }
    }

    async fn ask(&self, id: u64, client: Client, call: Option<Box<ToolCall>>) -> Result<(), Refused> {
        let call = call.ok_or_else(|| refused(Code::ArgumentOutOfScope))?;
        let question = self.question(client, *call)?;
        let given = self.authorizer.authorize(&question).await?;
        match self.carried.permit(id, given) {
            Ok(()) => Ok(()),
            Err(given) => {
                let code = if given.is_ended() { Code::TaskEnded } else { Code::TaskSuspended };
                self.authorizer.close(*given, How::NotSent).await;
                Err(refused(code))
            }
        }
    }

    async fn outcome(&self, id: u64, how: How, found: &Label) {
        let given = self.carried.take(id);
        match (given, how) {
            (Some(given), How::Executed | How::Failed) => {
                let refused = self.authorizer.release(given, how, found).await.err();
                self.carried.say(Said::Released { id, refused });
            }
            (Some(given), How::NotSent | How::Unknown) => self.authorizer.close(given, how).await,
            (None, How::Executed | How::Failed) => {
                self.carried.say(Said::Released { id, refused: Some(refused(Code::PermitExpired)) });
            }
            (None, How::NotSent | How::Unknown) => {}
        }
    }

    async fn visible(&self, client: Client, shown: Vec<Shown>) -> Result<Vec<ToolName>, Refused> {
        let Some(first) = shown.first() else { return Ok(Vec::new()) };
        let call = ToolCall::new(first.tool.clone(), None).map_err(|_| refused(Code::UnknownTool))?;
        let question = self.question(client, call)?;
        let guarded: Vec<_> =
            shown.into_iter().filter(|shown| self.gate.guards.contains_key(&shown.tool.resource())).collect();
        self.authorizer.visible(&question, &guarded).await
    }

    fn question(&self, client: Client, call: ToolCall) -> Result<Question, Refused> {
        self.line.check().map_err(|_| refused(Code::UnregisteredEnforcementPoint))?;
        let gate = self.gate.guards.get(&call.tool().resource());
        let gate = gate.cloned().ok_or_else(|| refused(Code::UnregisteredEnforcementPoint))?;
        let task = client.task.clone();
        let client = self.held(&client).ok_or_else(|| refused(Code::NoTask))?;
        Ok(Question { gate, client, task, call, asked: clock::boot() })
    }

    /// The process that the gate means, held here too; nobody if it has ended or another one has its number.
    fn held(&self, client: &Client) -> Option<Arc<Peer>> {
        let name = (client.pid, client.serial);
        if let Some(held) = self.clients.lock().get(&name)
            && held.check().is_ok()
        {
            return Some(held.clone());
        }
        let held = Arc::new(Peer::open(client.pid).ok()?);
        if held.process().serial() != client.serial {
            return None;
        }
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS {
            clients.retain(|_, held| held.alive());
        }
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(name, held.clone());
        Some(held)
    }
}

fn refused(code: Code) -> Refused {
    Denial::new(code, "").told()
}

/// Questions of one gate that are being answered at the same time.
const AT_ONCE: usize = 256;
const CLIENTS: usize = 1024;
