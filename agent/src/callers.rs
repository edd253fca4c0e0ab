//! Who is asking: a process at the other end of a socket becomes a caller with what was proved of it.

use std::sync::Arc;

use attestors::WorkloadAttestors;
use peer::Peer;
use registry::objects::{Entry, Reason, TaskId};
use spiffe::{Audiences, Bundles, Timestamp};
use tokio::sync::{mpsc, watch};
use workload_api::{
    CannotIdentify, Command, Entitled, LaunchEvent, NoExplanation, NoLaunch, NoTask, NoToken, Source,
    Standing, Svids, TaskShown, TaskToken, Wish,
};

use crate::{
    clock,
    explain::{self, Asker},
    identities::{Asked, Identities},
    launch::Launcher,
    matching::Facts,
    reactions::task_ended::task_ended,
    tasks::{
        Home, acting,
        begin::Beginner,
        shown::{self, shown},
    },
    tokens::Tokens,
};

/// Attests processes and knows what they may have.
pub(crate) struct Callers {
    identities: Arc<Identities>,
    tokens: Arc<Tokens>,
    attestors: Arc<WorkloadAttestors>,
    launcher: Arc<Launcher>,
    home: Arc<Home>,
}

/// A process of which something was proved. It is made by `identify` alone, so nobody is served who was
/// not attested.
pub(crate) struct Caller {
    peer: Arc<Peer>,
    facts: Facts,
    asked: Asked,
    lasting: bool,
}

impl Callers {
    /// Callers of these identities, their tokens and tasks.
    pub(crate) fn new(
        identities: Arc<Identities>,
        tokens: Arc<Tokens>,
        attestors: Arc<WorkloadAttestors>,
        launcher: Arc<Launcher>,
        home: Arc<Home>,
    ) -> Self {
        Self { identities, tokens, attestors, launcher, home }
    }
}

impl Source for Callers {
    type Caller = Caller;

    async fn identify(&self, peer: &Arc<Peer>) -> Result<Caller, CannotIdentify> {
        let (wanted, asked) = self.identities.wanted(); // facts that no entry asks for are not read
        let evidence = self.attestors.attest(peer, &wanted).await?; // checked last: still the same process
        let facts: Facts = evidence.selectors().cloned().collect();
        let asked = if evidence.passing { asked.for_now() } else { asked };
        let caller = Caller { peer: peer.clone(), facts, asked, lasting: !evidence.incomplete };
        if evidence.incomplete && matches!(*self.follow_entitled(&caller).borrow(), Standing::Nothing) {
            // Not "no identity": that would tell a workload to drop the one it has.
            return Err(CannotIdentify::Failed(evidence.notes.join("; ")));
        }
        Ok(caller)
    }

    fn is_lasting(&self, caller: &Caller) -> bool {
        caller.lasting
    }

    fn follow(&self, caller: &Caller) -> watch::Receiver<Standing<Svids>> {
        let followed = self.identities.follow(&caller.facts, &caller.asked, clock::now());
        match followed.acts {
            true => acting::follow(&self.home, &self.identities, &caller.peer, followed.standing),
            false => followed.standing,
        }
    }

    fn follow_entitled(&self, caller: &Caller) -> watch::Receiver<Standing<Entitled>> {
        self.identities.follow_entitled(&caller.facts, &caller.asked, clock::now())
    }

    fn jwt_svid(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Option<Arc<str>> {
        self.tokens.at_hand(entry, audiences)
    }

    async fn new_jwt_svid(&self, entry: &Arc<Entry>, audiences: &Audiences) -> Result<Arc<str>, NoToken> {
        self.tokens.have(entry, audiences).await
    }

    fn own_bundles(&self) -> Arc<Bundles> {
        self.identities.own_bundles()
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    async fn explain(&self, asker: &Arc<Peer>, pid: Option<u32>) -> Result<Vec<u8>, NoExplanation> {
        explain::explain(&self.identities, &self.attestors, Asker::Workload(asker), pid).await
    }

    fn is_outdated(&self, caller: &Caller) -> bool {
        self.identities.is_outdated(&caller.asked)
    }

    async fn begin_task(&self, asker: &Arc<Peer>, caller: &Caller, wish: Wish) -> Result<TaskShown, NoTask> {
        let beginner = Beginner { peer: asker, facts: &caller.facts };
        let live = Box::pin(self.home.begin(&self.identities, &beginner, wish)).await?;
        Ok(shown(&live))
    }

    fn follow_tasks(&self, asker: &Arc<Peer>) -> mpsc::Receiver<Vec<TaskShown>> {
        shown::follow(&self.home, asker)
    }

    async fn end_task(&self, asker: &Arc<Peer>, named: Option<&TaskId>) -> Result<TaskId, NoTask> {
        let live = self.home.book.speaks_of(asker, named)?;
        task_ended(&self.home, live.id(), Reason::Done).await;
        Ok(live.id().clone())
    }

    async fn task_token(
        &self,
        asker: &Arc<Peer>,
        caller: &Caller,
        named: Option<&TaskId>,
    ) -> Result<TaskToken, NoTask> {
        let live = self.home.book.speaks_of(asker, named)?;
        if !live.is_as_measured(&caller.facts) {
            return Err(NoTask::Denied(format!("this process is not what task {} was begun for", live.id())));
        }
        self.home.token(&live).await
    }

    fn launch(&self, asker: &Arc<Peer>, command: Command) -> mpsc::Receiver<Result<LaunchEvent, NoLaunch>> {
        self.launcher.launch(asker, command)
    }
}
