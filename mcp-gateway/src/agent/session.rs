//! One session with the agent: what was asked and is not answered, which permits are out, and their end.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use registry::scope::{Label, ResourceName};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Client, Refused, Shown,
    permit::{Call, How, Permit},
    wire::{Hear, Line, Mouth, Say},
};

/// A session that stands, or has ended: then everything in it is void.
pub(super) struct Session {
    mouth: Mouth,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    ended: bool,
    asked: HashMap<u64, oneshot::Sender<Hear>>,
    calls: HashMap<u64, Out>,
}

/// A permit that is out.
struct Out {
    dispatched: bool,
    void: CancellationToken,
}

impl Session {
    /// A session over a line, and what reads from it until it ends, with why.
    pub(super) fn over(line: Line) -> (Arc<Self>, impl Future<Output = String> + Send) {
        let (mouth, ear) = line.split();
        let session = Arc::new(Self { mouth, state: Mutex::default() });
        let reader = session.clone();
        let reading = async move {
            let mut ear = ear;
            let why = loop {
                match ear.next().await {
                    Ok(Some(heard)) => reader.hear(heard),
                    Ok(None) => break "the agent ended the session".to_owned(),
                    Err(why) => break why,
                }
            };
            reader.end();
            why
        };
        (session, reading)
    }

    pub(super) async fn ask(
        self: Arc<Self>,
        client: &Client,
        shown: &Shown,
        arguments: Bytes,
    ) -> Result<Permit, Refused> {
        let (id, answer) = self.expect()?;
        let (client, shown) = (client.clone(), shown.clone());
        // From here to the permit nothing may be left behind if the caller goes away: whoever is told of the verdict
        // first is a task of its own.
        let asking = Asking { session: self.clone(), id, done: false };
        self.say(Say::Ask { id, client, shown, arguments });
        match asking.answered(answer).await? {
            Hear::Permitted { arguments, valid, .. } => {
                let void = self.token(id).ok_or_else(Refused::unreachable)?;
                Ok(Permit::new(Call { session: self, id, void }, arguments, valid))
            }
            Hear::Refused { reason, requestable, .. } => Err(Refused { reason, requestable }),
            _ => Err(Refused::unreachable()),
        }
    }

    pub(super) async fn visible(&self, client: &Client, shown: &[Shown]) -> Result<Vec<String>, Refused> {
        let (id, answer) = self.expect()?;
        self.say(Say::Visible { id, client: client.clone(), shown: shown.to_vec() });
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(Hear::Shown { tools, reason, .. })) if reason.is_empty() => Ok(tools),
            Ok(Ok(Hear::Shown { reason, .. })) => Err(Refused::because(&reason)),
            _ => {
                self.state.lock().asked.remove(&id);
                Err(Refused::unreachable())
            }
        }
    }

    pub(super) async fn malformed(&self, client: &Client, resource: &ResourceName, why: String) {
        let Ok((id, answer)) = self.expect() else { return };
        self.say(Say::Malformed { id, client: client.clone(), resource: resource.clone(), why });
        if tokio::time::timeout(ANSWER_WITHIN, answer).await.is_err() {
            self.forget(id);
        }
    }

    pub(super) async fn finish(&self, id: u64, how: How, found: &Label) -> Result<(), Refused> {
        let answer = {
            let mut state = self.state.lock();
            let is_void = state.calls.remove(&id).is_none_or(|call| call.void.is_cancelled());
            if state.ended {
                return Err(Refused::unreachable());
            }
            let (told, answer) = oneshot::channel();
            state.asked.insert(id, told);
            (answer, is_void)
        };
        let (answer, is_void) = answer;
        let label = (*found != Label::default()).then(|| found.clone());
        self.say(Say::Outcome { id, how, label });
        match tokio::time::timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(Hear::Released { reason, .. })) if reason.is_empty() && !is_void => Ok(()),
            Ok(Ok(Hear::Released { reason, .. })) if reason.is_empty() => Err(Refused::because("task_ended")),
            Ok(Ok(Hear::Released { reason, .. })) => Err(Refused::because(&reason)),
            _ => Err(Refused::unreachable()),
        }
    }

    /// The last look before a call is forwarded. After a void it fails; before one, the call is counted as
    /// forwarded: there is no moment between.
    pub(super) fn dispatch(&self, id: u64) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Refused::unreachable());
        }
        match state.calls.get_mut(&id) {
            Some(call) if !call.void.is_cancelled() => {
                call.dispatched = true;
                Ok(())
            }
            _ => Err(Refused::because("task_ended")),
        }
    }

    pub(super) fn say(&self, what: Say) {
        self.mouth.say(what);
    }

    /// Nothing more will be heard or asked of a call.
    pub(super) fn forget(&self, id: u64) {
        let mut state = self.state.lock();
        state.calls.remove(&id);
        state.asked.remove(&id);
    }

    fn expect(&self) -> Result<(u64, oneshot::Receiver<Hear>), Refused> {
        let (told, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if state.ended {
            return Err(Refused::unreachable());
        }
        state.last += 1;
        let id = state.last;
        state.asked.insert(id, told);
        Ok((id, answer))
    }

    fn token(&self, id: u64) -> Option<CancellationToken> {
        self.state.lock().calls.get(&id).map(|call| call.void.clone())
    }

    fn hear(&self, heard: Hear) {
        let mut state = self.state.lock();
        let id = match &heard {
            Hear::Permitted { id, .. } => {
                // Known before anybody learns of it, so that a void that follows finds it.
                let out = Out { dispatched: false, void: CancellationToken::new() };
                state.calls.insert(*id, out);
                *id
            }
            Hear::Refused { id, .. } | Hear::Released { id, .. } | Hear::Shown { id, .. } => *id,
            Hear::Void { number, ids } => {
                let mut dispatched = Vec::new();
                for id in ids {
                    if let Some(call) = state.calls.get(id) {
                        call.void.cancel();
                        dispatched.extend(call.dispatched.then_some(*id));
                    }
                }
                drop(state);
                return self.say(Say::Voided { number: *number, dispatched });
            }
            Hear::Unknown => return,
        };
        let told = state.asked.remove(&id);
        let is_permitted = matches!(heard, Hear::Permitted { .. });
        let is_lost = told.is_none_or(|told| told.send(heard).is_err());
        if is_lost && is_permitted {
            state.calls.remove(&id);
            drop(state);
            self.say(Say::Outcome { id, how: How::NotSent, label: None });
        }
    }

    /// INVARIANT: with the session every permit that it carried ends.
    fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.asked.clear();
        state.calls.drain().for_each(|(_, call)| call.void.cancel());
    }
}

/// Somebody waits for a verdict. If nobody does any more, a permit that comes is given back.
struct Asking {
    session: Arc<Session>,
    id: u64,
    done: bool,
}

impl Asking {
    async fn answered(mut self, answer: oneshot::Receiver<Hear>) -> Result<Hear, Refused> {
        let heard = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        match heard {
            Ok(Ok(heard)) => {
                self.done = true;
                Ok(heard)
            }
            _ => Err(Refused::unreachable()),
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.session.state.lock();
            state.asked.remove(&self.id);
            let was_permitted = state.calls.remove(&self.id).is_some();
            drop(state);
            if was_permitted {
                self.session.say(Say::Outcome { id: self.id, how: How::NotSent, label: None });
            }
        }
    }
}

/// An agent that is this slow is as good as gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
