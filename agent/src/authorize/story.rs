//! One question: whose call is it, may it be made, is that recorded?

use std::{sync::Arc, time::Duration};

use audit::{Record, TenantKey};
use authz::{Code, Denial, Freshness, Permit, Refused, Situation, ToolCall, Verdict, permit::Spent};
use bytes::Bytes;
use peer::Peer;
use registry::{
    objects::{Reason, Sha256, TaskId},
    scope::{Effect, Egress, Environment, Label, ResourceName, Tier, ToolName},
};
use spiffe::SpiffeId;

use super::{Authorizer, How, complaints::Lack, records};
use crate::{
    clock,
    tasks::{Live, kept::Untold},
};

/// What a gate asks.
pub(crate) struct Question {
    /// The gate, as it was attested.
    pub(crate) gate: Arc<SpiffeId>,
    /// Whose call it is, held.
    pub(crate) client: Arc<Peer>,
    /// Which of its tasks, where it says so.
    pub(crate) task: Option<TaskId>,
    /// The call.
    pub(crate) call: ToolCall,
    /// When it was asked, by boot time.
    pub(crate) asked: Duration,
}

/// A tool as its upstream shows it.
pub(crate) struct Shown {
    pub(crate) tool: ToolName,
    pub(crate) definition: Sha256,
}

/// A permit that was given to a gate, until it is known what became of it.
pub(crate) struct Given {
    pub(super) live: Arc<Live>,
    pub(super) spent: Spent,
    /// What its record says; the outcome's says the same.
    pub(super) record: Arc<Record>,
    /// What it does.
    pub(super) effect: Effect,
    /// What its domain remembered when it was judged, where that could be read.
    pub(super) remembered: Option<Label>,
    /// The canonical arguments: what is to be forwarded.
    pub(crate) arguments: Bytes,
    /// Its record's place in this node's chain.
    pub(crate) seq: u64,
}

impl Given {
    /// Whether its task is over.
    pub(crate) fn is_ended(&self) -> bool {
        self.live.is_ended()
    }
}

impl Authorizer {
    /// Decides and records; what is given back is permitted, and its record is durable.
    pub(crate) async fn authorize(&self, question: &Question) -> Result<Given, Refused> {
        let live = self.whose(question).await?;
        if self.awaits_the_server(&live, question) {
            self.home.hear_now().await;
        }
        let key = self.home.keys.known(&live.grant.tenant);
        let (verdict, record, remembered) = self.judge(&live, question, key.as_deref());
        self.tell_of_suspension(&live, &verdict);
        if let Some(denial) = verdict.denial() {
            let told = denial.told();
            // Where not even that can be recorded, it is a denial all the same.
            let _ = self.spool.deny(record).await;
            return Err(told);
        }
        if key.is_none() {
            self.complaints.tell(Lack::Key, live.id());
            return Err(told(Code::Unrecorded));
        }
        if let Some(lowers) = verdict.lowers() {
            // INVARIANT: what is lowered is durable before the decision that lets it be, and so before any effect.
            let lowered = records::lowered(&record, &question.call, lowers);
            self.spool.record(lowered).await.map_err(|error| {
                self.complaints.tell(Lack::Record(error), live.id());
                told(Code::Unrecorded)
            })?;
        }
        let (acknowledged, effect) = (verdict.needs_acknowledgement(), verdict.effect);
        let record = Arc::new(record);
        self.standings.opened(&record);
        let recorded = self.spool.record(record.clone()).await.map_err(|error| {
            self.complaints.tell(Lack::Record(error), live.id());
            self.standings.not_opened(&record);
            told(Code::Unrecorded)
        })?;
        let mut given = match Permit::from_record(verdict, recorded, clock::both()) {
            Ok(permit) => {
                let (record, seq) = (record.clone(), recorded.seq());
                self.prepare(permit, &live, question).await.map(|(spent, arguments)| Given {
                    live: live.clone(),
                    spent,
                    record,
                    effect,
                    remembered,
                    arguments,
                    seq,
                })
            }
            Err(denial) => Err(denial.told()),
        };
        if acknowledged
            && given.is_ok()
            && !self.spool.acknowledged(recorded.seq(), ACKNOWLEDGED_WITHIN).await
        {
            given = Err(told(Code::Unrecorded));
        }
        if given.is_err() {
            self.not_given(&live, &record);
        }
        given
    }

    /// Everything that must be so before the call may be forwarded.
    async fn prepare(
        &self,
        permit: Permit,
        live: &Live,
        question: &Question,
    ) -> Result<(Spent, Bytes), Refused> {
        if let Some(stored) = permit.stores() {
            // INVARIANT: a store is labelled before anything of that label can reach it.
            self.stored.raise(stored).await.map_err(|error| {
                self.complaints.tell(Lack::Label(error.to_string()), live.id());
                told(Code::Unrecorded)
            })?;
        }
        let spent = permit.spend(&question.call, clock::both()).map_err(|denial| denial.told())?;
        Ok((spent, question.call.arguments().canonical().to_vec().into()))
    }

    /// Which of these tools the client's task could call at all.
    pub(crate) async fn visible(
        &self,
        question: &Question,
        shown: &[Shown],
    ) -> Result<Vec<ToolName>, Refused> {
        let live = self.whose(question).await?;
        let moment = self.moment(&live, question);
        let governance = self.home.governing.now();
        let chain = live.chain.lock();
        chain.may_act(live.id(), clock::both()).map_err(|denial| denial.told())?;
        let is_visible = |shown: &&Shown| {
            ToolCall::new(shown.tool.clone(), None).is_ok_and(|call| {
                let call = call.defined_as(shown.definition);
                authz::visible(
                    &chain,
                    live.id(),
                    &governance.world,
                    &moment.situation(),
                    &call,
                    clock::both(),
                )
            })
        };
        Ok(shown.iter().filter(is_visible).map(|shown| shown.tool.clone()).collect())
    }

    /// The one task that the client speaks of. Nobody else's is spent by a stranger who names it.
    async fn whose(&self, question: &Question) -> Result<Arc<Live>, Refused> {
        match self.home.book.speaks_of(&question.client, question.task.as_ref()) {
            Ok(live) => Ok(live),
            Err(which) => {
                let denial = Denial::new(Code::NoTask, which.to_string());
                let _ = self.spool.deny(records::stranger(question, &denial)).await;
                Err(denial.told())
            }
        }
    }

    /// At tier 3 the server is asked about each call, not each second; but about none that is denied anyway.
    fn awaits_the_server(&self, live: &Live, question: &Question) -> bool {
        let governance = self.home.governing.now();
        let (world, call) = (&governance.world, &question.call);
        if authz::tier_of(&live.grant, world, call) != Some(Tier::T3) {
            return false;
        }
        let moment = self.moment(live, question);
        let chain = live.chain.lock();
        authz::awaits_the_server(&chain, live.id(), world, &moment.situation(), call, clock::both())
    }

    /// A message was refused before there was a call in it. That is on record like a denial; nothing is spent by it.
    pub(crate) async fn malformed(
        &self,
        gate: &SpiffeId,
        client: &Peer,
        task: Option<&TaskId>,
        resource: &ResourceName,
        why: &str,
    ) {
        let live = self.home.book.speaks_of(client, task).ok();
        // Where it cannot be recorded, it was refused all the same.
        let _ = self.spool.deny(records::malformed(gate, client, live.as_deref(), resource, why)).await;
    }

    /// The verdict with its record, and what the client's domain remembered.
    fn judge(
        &self,
        live: &Arc<Live>,
        question: &Question,
        key: Option<&TenantKey>,
    ) -> (Verdict, Record, Option<Label>) {
        let moment = self.moment(live, question);
        let governance = self.home.governing.now();
        let mut chain = live.chain.lock();
        let situation = moment.situation();
        let verdict =
            authz::judge(&mut chain, live.id(), &governance.world, &situation, &question.call, clock::both());
        let record = records::decision(&chain, live, question, &verdict, key);
        drop(chain);
        (verdict, record, moment.remembered)
    }

    /// What this node vouches for at this moment.
    pub(super) fn moment<'a>(&self, live: &'a Live, question: &'a Question) -> Moment<'a> {
        let environment =
            self.home.governing.now().node().map_or_else(Environment::unnamed, |node| node.stands_in());
        let remembered = self.home.labels.of(&question.client).ok();
        let egress = match live.grant.egress {
            Egress::Open => Egress::Open, // whatever is measured, it may be that
            Egress::Confined => live.domain.egress(),
        };
        let head = self.home.as_of();
        Moment {
            live,
            gate: &question.gate,
            environment,
            // What cannot be read may be anything.
            domain: remembered.clone().unwrap_or_else(unreadable),
            remembered,
            stored: self.stored.of(&question.call.tool().resource()),
            egress,
            head,
            // The view is of a moment after the call was made, and the task lives in it.
            confirmed: head >= Some(question.asked),
            freshness: self.home.config.freshness(),
        }
    }

    fn tell_of_suspension(&self, live: &Arc<Live>, verdict: &Verdict) {
        let Some(highest) = verdict.suspended.first() else { return };
        tracing::warn!(task = %highest, "a task is suspended: its agent was denied too often");
        self.home.book.look_at(live.id());
        let untold = Untold { ended: false, reason: Reason::Probing, at: clock::now() };
        self.home.tell(highest, untold);
        if let Some(live) = self.home.book.get(highest)
            && let Err(error) = self.home.records.put(&live, Some(untold))
        {
            tracing::error!(task = %highest, %error, "a suspension was not kept; the server is told nevertheless");
        }
        self.spool.note(records::suspension(live, highest));
    }

    /// It was judged and recorded, and comes to nothing.
    fn not_given(&self, live: &Live, record: &Arc<Record>) {
        let outcome = records::outcome(record, How::NotSent, None, live.is_ended());
        self.standings.note(&self.spool, record, outcome);
    }
}

/// What holds while one call is judged.
pub(super) struct Moment<'a> {
    live: &'a Live,
    gate: &'a SpiffeId,
    environment: Environment,
    domain: Label,
    remembered: Option<Label>,
    stored: Label,
    egress: Egress,
    head: Option<Duration>,
    confirmed: bool,
    freshness: Freshness,
}

impl Moment<'_> {
    pub(super) fn situation(&self) -> Situation<'_> {
        Situation {
            enforcement_point: self.gate,
            remote: false,
            // Whose task it is was found by asking the kernel for the client's domain, a moment ago.
            is_member: true,
            // The thread group's image was looked at with that; a cgroup's tasks end with what was measured of it.
            is_as_measured: true,
            environment: &self.environment,
            isolation: self.live.domain.isolation(),
            egress: self.egress,
            domain: &self.domain,
            stored: &self.stored,
            head: self.head,
            confirmed: self.confirmed,
            freshness: self.freshness,
        }
    }
}

/// The label that flows nowhere but up: of the highest level, and of a category that nobody can take off.
fn unreadable() -> Label {
    let nobodys = "..unreadable..".parse().ok();
    Label {
        confidentiality: registry::scope::Confidentiality::MAX,
        categories: nobodys.into_iter().collect(),
        ..Label::default()
    }
}

pub(super) fn told(code: Code) -> Refused {
    Denial::new(code, "").told()
}

/// How long the server has to acknowledge a record of tier 2 or 3.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);
