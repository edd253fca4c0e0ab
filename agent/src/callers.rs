//! Who is asking: a process at the other end of a socket becomes a caller with what was proved of it.

use std::sync::Arc;

use attestors::WorkloadAttestors;
use peer::Peer;
use registry::objects::Entry;
use spiffe::{Audiences, Bundles, Timestamp};
use tokio::sync::{mpsc, watch};
use workload_api::{
    CannotIdentify, Command, Entitled, LaunchEvent, NoExplanation, NoLaunch, NoToken, Source, Standing, Svids,
};

use crate::{
    clock,
    explain::{self, Asker},
    identities::{Asked, Identities},
    launch::Launcher,
    matching::Facts,
    tokens::Tokens,
};

/// Attests processes and knows what they may have.
pub(crate) struct Callers {
    identities: Arc<Identities>,
    tokens: Arc<Tokens>,
    attestors: Arc<WorkloadAttestors>,
    launcher: Arc<Launcher>,
}

/// A process of which something was proved. It is made by `identify` alone, so nobody is served who was
/// not attested.
pub(crate) struct Caller {
    facts: Facts,
    asked: Asked,
    lasting: bool,
}

impl Callers {
    /// Callers of these identities and their tokens.
    pub(crate) fn new(
        identities: Arc<Identities>,
        tokens: Arc<Tokens>,
        attestors: Arc<WorkloadAttestors>,
        launcher: Arc<Launcher>,
    ) -> Self {
        Self { identities, tokens, attestors, launcher }
    }
}

impl Source for Callers {
    type Caller = Caller;

    async fn identify(&self, peer: &Arc<Peer>) -> Result<Caller, CannotIdentify> {
        let (wanted, asked) = self.identities.wanted(); // facts that no entry asks for are not read
        let evidence = self.attestors.attest(peer, &wanted).await?; // checked last: still the same process
        let facts: Facts = evidence.selectors().cloned().collect();
        let asked = if evidence.passing { asked.for_now() } else { asked };
        let caller = Caller { facts, asked, lasting: !evidence.incomplete };
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
        self.identities.follow(&caller.facts, &caller.asked, clock::now())
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

    fn launch(&self, asker: &Arc<Peer>, command: Command) -> mpsc::Receiver<Result<LaunchEvent, NoLaunch>> {
        self.launcher.launch(asker, command)
    }
}
