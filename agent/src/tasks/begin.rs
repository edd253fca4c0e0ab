//! A task begins: what can be known here is measured, the server decides, and what it says is verified like a
//! stranger's before anybody acts on it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use attestors::cgroups::{Cgroups, Owner};
use audit::Kind;
use authz::chain::{Standing, State};
use peer::{Peer, launch::Cgroup};
use registry::{
    decide::task::Wish as Wanted,
    objects::{Actor, Approved, Entry, Reason, TaskId},
    scope::{Egress, Label},
};
use rustls_pki_types::CertificateDer;
use server_api::{CallError, tasks::Begun};
use spiffe::{PrivateKey, Selector, SpiffeId};
use tokio::{task::spawn_blocking, time::timeout};
use tonic::Code;
use workload_api::{NoTask, Wish};

use super::{
    Domain, Home, Live,
    book::Entered,
    domain::{Place, egress_of},
    grant, id,
    kept::Untold,
    live::{Credential, Measured},
};
use crate::{clock, identities::Identities, issue::judge, matching::Facts};

/// Who begins a task, as it was attested.
pub(crate) struct Beginner<'a> {
    /// The process.
    pub(crate) peer: &'a Arc<Peer>,
    /// What was proved of it.
    pub(crate) facts: &'a Facts,
}

/// Where it will live, and what is known of that.
struct Seat {
    domain: Domain,
    /// The task from inside which it is begun.
    parent: Option<Arc<Live>>,
    egress: Egress,
    /// What its processes may remember.
    label: Label,
}

impl Home {
    /// Begins a task for the asking process: a child, if that is inside of one.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        identities: &Identities,
        beginner: &Beginner<'_>,
        wish: Wish,
    ) -> Result<Arc<Live>, NoTask> {
        let peer = beginner.peer;
        let parent = self.parent_of(peer)?;
        let domain = match (&parent, enclosing(peer, self)) {
            // It acts for the task above too, so nobody can tell the two apart.
            (Some(_), _) => Domain::shared(peer.clone()),
            (None, Some(cgroup)) => Domain::cgroup(cgroup),
            (None, None) => Domain::process(peer.clone()),
        };
        let _beginning = self.beginning(&domain)?; // two at once would not see each other
        let label = self.labels.of_domain(&domain).and_then(|label| Ok(label.join(&self.labels.of(peer)?)));
        let label = label
            .map_err(|error| NoTask::Unavailable(format!("this process cannot be examined: {error}")))?;
        let seat = Seat { egress: domain.egress(), domain, parent, label };
        let actor = self.actor_of(&wish)?;
        let entry = identities.entries(beginner.facts).into_iter().find(|entry| entry.spiffe_id == actor);
        let entry = entry.ok_or_else(|| not_yours(peer, &wish))?;
        let live = self.grant(identities, beginner, seat, entry, wish).await?;
        self.outlive(&live);
        Ok(live)
    }

    /// Begins a task in a cgroup in which nobody is yet. `measured` is what its processes will have. Nothing watches the
    /// cgroup before [`Home::outlive`] is called.
    pub(crate) async fn begin_launch(
        self: &Arc<Self>,
        identities: &Identities,
        beginner: &Beginner<'_>,
        cgroup: Cgroup,
        measured: &[String],
        wish: Wish,
    ) -> Result<Arc<Live>, NoTask> {
        let peer = beginner.peer;
        let parent = self.parent_of(peer)?;
        let label = self.remembered(peer, &cgroup)?;
        // It will be put into the network namespace of the process that asks.
        let seat = Seat { domain: Domain::cgroup(cgroup), parent, egress: egress_of(peer), label };
        let actor = self.actor_of(&wish)?;
        let fits = |entry: &Arc<Entry>| will_match(&entry.selectors, measured, beginner.facts);
        let entry = identities.givers(&actor).into_iter().find(fits).ok_or_else(|| {
            NoTask::Denied(format!(
                "the command is not what an entry of {actor} asks for; its measurement is shown by: writ run --measure-only"
            ))
        })?;
        self.grant(identities, beginner, seat, entry, wish).await
    }

    /// A launch begins with what its asker may remember, whether it is a task or not.
    pub(crate) fn remembered(&self, asker: &Peer, cgroup: &Cgroup) -> Result<Label, NoTask> {
        let label = self.labels.of(asker).and_then(|label| {
            self.labels.begin(cgroup, &label)?;
            Ok(label)
        });
        label.map_err(|error| {
            NoTask::Unavailable(format!("what this process may remember cannot be kept: {error}"))
        })
    }

    /// Keeps the place of a task that is about to begin in a domain.
    fn beginning(self: &Arc<Self>, domain: &Domain) -> Result<Beginning, NoTask> {
        let unreadable = |error| NoTask::Unavailable(format!("this process cannot be examined: {error}"));
        let place = domain.place().map_err(unreadable)?;
        match self.begins.lock().insert(place.clone()) {
            true => Ok(Beginning { home: self.clone(), place }),
            false => Err(NoTask::Unavailable("another task is just beginning here; try again".to_owned())),
        }
    }

    /// The task from inside which a process asks.
    fn parent_of(&self, peer: &Peer) -> Result<Option<Arc<Live>>, NoTask> {
        let all = self.book.of(peer);
        let is_own = |live: &&Arc<Live>| live.domain.group().is_some();
        let own: Vec<_> = all.iter().filter(is_own).cloned().collect();
        let nearest = if own.is_empty() { all } else { own };
        let topmost =
            nearest.iter().min_by(|a, b| (a.grant.depth, a.id()).cmp(&(b.grant.depth, b.id()))).cloned();
        match topmost {
            Some(live) if !live.is_active() => {
                Err(NoTask::Precondition(format!("the task {} is suspended: it may wait or end", live.id())))
            }
            topmost => Ok(topmost),
        }
    }

    /// Whose work it is, by the mandate as this node has it in view.
    fn actor_of(&self, wish: &Wish) -> Result<SpiffeId, NoTask> {
        let view = self.governing.now();
        let approved = view.mandate(&wish.mandate).and_then(|mandate| mandate.approved.as_ref());
        let known = approved.and_then(|approved: &Approved| view.actor(&approved.terms.actor));
        known.map(|actor: &Arc<Actor>| actor.id.clone()).ok_or_else(|| {
            NoTask::Denied(format!(
                "no task can begin under {} here; an administrator can run: writ mandate show {0}",
                wish.mandate
            ))
        })
    }

    async fn grant(
        self: &Arc<Self>,
        identities: &Identities,
        beginner: &Beginner<'_>,
        seat: Seat,
        entry: Arc<Entry>,
        wish: Wish,
    ) -> Result<Arc<Live>, NoTask> {
        let Seat { domain, parent, egress, label } = seat;
        let internal = |error: String| {
            tracing::warn!(error, "a task could not begin");
            NoTask::Unavailable("the agent cannot begin a task now; its log says why".to_owned())
        };
        let key = PrivateKey::generate().map_err(|error| internal(error.to_string()))?;
        let place = domain.place().map_err(|error| internal(error.to_string()))?;
        let (id, public_key) =
            (id::new(clock::now()), key.public_key().map_err(|error| internal(error.to_string()))?);
        let wanted = Wanted {
            mandate: wish.mandate.clone(),
            entry: entry.id.clone(),
            params: wish.params,
            scope: wish.scope,
            ttl: wish.ttl,
            note: wish.note,
            beginner: self.beginning_entry(identities, beginner, &wish.mandate, &entry, parent.is_some()),
            parent: parent.as_ref().map(|parent| parent.id().clone()),
            isolation: domain.isolation(),
            egress,
        };
        let begun = self.upstream.ask_about_tasks(|mut client| {
            let (id, wanted, public_key) = (id.clone(), wanted.clone(), public_key.clone());
            async move { client.begin(&id, &wanted, &public_key).await }
        });
        let begun = begun.await.map_err(refused)?;
        // From here on the server holds it for begun: whatever fails now ends it.
        let entered =
            self.enter(beginner.peer, begun, &wanted, key, Arc::clone(&entry), (domain, place), label).await;
        let live = entered.map_err(|error| {
            self.tell(&id, Untold::ended(Reason::DomainDead, clock::now()));
            match error {
                Unfit::Asker(no_task) => no_task,
                Unfit::Server(why) => internal(why),
            }
        })?;
        self.may_act_at_once(&live.grant.tenant).await;
        Ok(live)
    }

    /// The entry of the workload that begins, where that is not the actor itself.
    fn beginning_entry(
        &self,
        identities: &Identities,
        beginner: &Beginner<'_>,
        mandate: &registry::objects::MandateName,
        actor: &Entry,
        is_child: bool,
    ) -> Option<registry::objects::EntryId> {
        let view = self.governing.now();
        let terms = &view.mandate(mandate)?.approved.as_ref()?.terms;
        let own = identities.entries(beginner.facts);
        let is_actor = own.iter().any(|entry| entry.spiffe_id == actor.spiffe_id);
        if is_child || (is_actor && terms.begin.itself) {
            return None;
        }
        own.iter()
            .find(|entry| terms.begin.workloads.contains(&entry.spiffe_id))
            .map(|entry| entry.id.clone())
    }

    #[expect(clippy::too_many_arguments, reason = "one grant with everything that it is compared with")]
    async fn enter(
        self: &Arc<Self>,
        asker: &Arc<Peer>,
        begun: Begun,
        asked: &Wanted,
        key: PrivateKey,
        entry: Arc<Entry>,
        (domain, place): (Domain, Place),
        label: Label,
    ) -> Result<Arc<Live>, Unfit> {
        let Begun { task, revision, grant: signed, chain, .. } = begun;
        let (bundles, now) = (self.upstream.bundles(), clock::both());
        let node = self.upstream.certificate().map(|certificate| certificate.id.clone());
        let is_as_asked = task.actor == entry.spiffe_id
            && Some(&task.home) == node.as_ref()
            && task.mandate == asked.mandate
            && task.parent == asked.parent
            && task.isolation == asked.isolation
            && task.egress == asked.egress
            && task.is_live(now.wall);
        if !is_as_asked {
            return Err(Unfit::Server("the server granted another task than was asked for".to_owned()));
        }
        grant::verify(&signed, &task, &bundles, now.wall).map_err(Unfit::Server)?;
        let spiffe_id = task.spiffe_id().map_err(|error| Unfit::Server(error.to_string()))?;
        let chain = chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let (svid, validity) = judge(&spiffe_id, chain, key, &bundles, now.wall)
            .map_err(|error| Unfit::Server(error.to_string()))?;
        if validity.until > task.expires_at {
            return Err(Unfit::Server(format!(
                "its SVID lasts until {}, longer than the task",
                validity.until
            )));
        }
        self.in_view(&task.id, revision).await?;
        let held = Credential { svid: Arc::new(svid), validity: validity.beginning_at(now.wall) };
        let measured = Measured { entry: entry.id.clone(), selectors: entry.selectors.clone() };
        let standing = Standing { label, state: State::Active, ..Standing::default() };
        let entered =
            Entered { grant: task, signed: signed.into(), spiffe_id, domain, place, measured, standing };
        let label = &entered.standing.label;
        self.record(Kind::TaskBegin, &entered.grant, label).await.map_err(|error| {
            Unfit::Asker(NoTask::Unavailable(format!("no task begins without a record of it: {error}")))
        })?;
        let home = self.clone();
        let keeping = spawn_blocking(move || home.records.begin(&entered).map(|()| entered));
        let kept = keeping.await.map_err(|error| Unfit::Server(error.to_string()))?;
        let entered = kept.map_err(|error| Unfit::Server(format!("it cannot be kept: {error}")))?;
        // The one that asked, unchanged, to the last moment: its end from here on is noticed.
        asker.check().map_err(|changed| Unfit::Asker(NoTask::Unavailable(changed.to_string())))?;
        let live = self
            .book
            .enter(entered, clock::both())
            .map_err(|denial| Unfit::Asker(NoTask::Precondition(denial.explanation)))?;
        self.obey_what_came_meanwhile(&live);
        if live.is_ended() {
            return Err(Unfit::Asker(NoTask::Precondition("the task was ended at once".to_owned())));
        }
        self.book.hold(&live, Arc::new(held));
        tracing::info!(task = %live.id(), mandate = %live.grant.mandate, pid = asker.pid(),
            isolation = live.grant.isolation.as_str(), egress = live.grant.egress.as_str(), "a task began");
        Ok(live)
    }

    /// Waits until this node's view has the revision with which the task began, and the task in it.
    async fn in_view(&self, id: &TaskId, revision: registry::Revision) -> Result<(), Unfit> {
        let mut at = self.governing.at();
        let reached =
            timeout(VIEW_WITHIN, at.wait_for(|at| at.as_ref().is_some_and(|(_, at)| *at >= revision)));
        if reached.await.is_err() {
            return Err(Unfit::Server(format!(
                "this node's view did not reach revision {} in time",
                revision.0
            )));
        }
        match self.governing.now().task(id) {
            Some(task) if !task.is_ended() => Ok(()),
            _ => Err(Unfit::Asker(NoTask::Precondition("the task was ended at once".to_owned()))),
        }
    }
}

/// A task is beginning in a domain; given back when it has begun, or has not.
struct Beginning {
    home: Arc<Home>,
    place: Place,
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.home.begins.lock().remove(&self.place);
    }
}

/// Why a task that the server granted does not begin.
enum Unfit {
    /// The server's answer cannot be used.
    Server(String),
    /// Something else, which the asker may know.
    Asker(NoTask),
}

/// The cgroup that holds a process and everything that it starts: of a launch, or of a container of the system's engine.
fn enclosing(peer: &Peer, home: &Home) -> Option<Cgroup> {
    let text = peer.cgroup().ok()?;
    let cgroups = Cgroups::parse(&text).ok()?;
    let path = cgroups.unified()?;
    if let Some(cgroup) = home.launches.around(path) {
        return Some(cgroup);
    }
    let container = cgroups.container().ok()??;
    // A user, or a unit to which cgroups are delegated, can give a cgroup of its own any name.
    let is_below =
        path.strip_prefix(&container.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (container.owner == Owner::System && is_below).then(|| Cgroup::find(&container.path).ok()).flatten()
}

/// Whether a command with these measured values will match, as far as that is known before it runs: who runs it and
/// what was measured. What its executable is like is seen when it asks for something.
fn will_match(selectors: &BTreeSet<Selector>, measured: &[String], asker: &Facts) -> bool {
    let known = |selector: &Selector| match selector.kind() {
        "launch" => measured.iter().any(|value| value == selector.value()),
        "unix" if OF_THE_USER.iter().any(|of| selector.value().starts_with(of)) => asker.has(selector),
        _ => true,
    };
    !selectors.is_empty() && selectors.iter().all(known)
}

/// What a launched command has of the one that asks for it.
const OF_THE_USER: [&str; 4] = ["uid:", "gid:", "user:", "group:"];

fn not_yours(peer: &Peer, wish: &Wish) -> NoTask {
    NoTask::Denied(format!(
        "no task can begin under {} for this process; an administrator can run: writ explain --pid {}",
        wish.mandate,
        peer.pid()
    ))
}

/// What the server refuses is said to whoever asked: it is about its own wish.
fn refused(error: CallError) -> NoTask {
    match error {
        CallError::Refused { code, message } => match code {
            Code::InvalidArgument => NoTask::Invalid(message),
            Code::PermissionDenied => NoTask::Denied(message),
            Code::FailedPrecondition => NoTask::Precondition(message),
            Code::ResourceExhausted => NoTask::Unavailable(message),
            code => {
                tracing::warn!(?code, message, "the server refused to begin a task");
                NoTask::Unavailable("the server cannot begin a task now".to_owned())
            }
        },
        error => {
            tracing::warn!(%error, "the server could not be asked to begin a task");
            NoTask::Unavailable(
                "a task begins only with the server's word, and it cannot be asked now; try again".to_owned(),
            )
        }
    }
}

/// A delta takes milliseconds.
const VIEW_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors(texts: &[&str]) -> BTreeSet<Selector> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_launch_matches_by_its_measurement_and_its_user() {
        let measured = ["measurement:aa".to_owned(), "script_sha256:bb".to_owned()];
        let asker: Facts =
            ["unix:uid:7", "unix:path:/bin/sh"].iter().map(|text| text.parse().unwrap()).collect();
        let fits = |texts: &[&str]| will_match(&selectors(texts), &measured, &asker);
        assert!(fits(&["launch:measurement:aa", "unix:uid:7"]));
        assert!(!fits(&["launch:measurement:cc"]));
        assert!(!fits(&["launch:measurement:aa", "unix:uid:8"]), "it runs as who asks");
        assert!(fits(&["launch:script_sha256:bb", "unix:path:/usr/bin/python3"]), "seen when it asks");
        assert!(!fits(&[]));
    }
}
