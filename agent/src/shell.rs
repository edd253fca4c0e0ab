//! Around the spine: what happens becomes its inputs, and what it says is done.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use daemon::{Counter, Gauge, Health, Metrics};
use parking_lot::Mutex;
use registry::{
    LogId, Revision, Snapshot,
    objects::{Entry, EntryId},
};
use spiffe::SpiffeId;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use crate::{
    anew::Anew,
    clock,
    identities::Identities,
    issue::{distrusted, issue},
    keys::Keys,
    publication::Held,
    report::Report,
    run::Error,
    spine::{Effect, Input, Kept, Spine},
    tasks::{Home, governance::Governed},
    tokens::Tokens,
    upstream::{News, Teller, Trouble, Upstream, follow},
    view_file::ViewFile,
};

/// What `/metrics` shows of the agent.
struct Figures {
    connected: Gauge,
    entries: Gauge,
    svids: Gauge,
    tokens: Gauge,
    lost: Counter,
    anew: Counter,
    reappeared: Counter,
}

/// Called once, when callers can be answered.
type Announce = Box<dyn FnOnce(SpiffeId) + Send>;

/// Everything that the spine's effects are done with.
pub(crate) struct Shell {
    spine: Spine,
    upstream: Arc<Upstream>,
    identities: Arc<Identities>,
    tokens: Arc<Tokens>,
    home: Arc<Home>,
    keys: Arc<Keys>,
    view: Arc<ViewFile>,
    saving: Arc<Saving>,
    report: Arc<Report>,
    health: Health,
    figures: Figures,
    news: mpsc::Sender<(u64, News)>,
    /// Batches on their way to the server.
    issuing: Arc<Semaphore>,
    /// The number of the connection, and what ends it.
    connection: (u64, Option<AbortHandle>),
    announce: Option<Announce>,
    /// When the view is to be written, if it changed since.
    save_at: Option<Instant>,
}

/// The view is written aside, one write at a time.
#[derive(Default)]
struct Saving {
    busy: AtomicBool,
    /// When the next write may begin.
    next: Mutex<Option<Instant>>,
}

impl Shell {
    /// Around a spine that has not started.
    #[expect(
        clippy::too_many_arguments,
        reason = "it is put together in one place, from parts that all differ"
    )]
    pub(crate) fn new(
        spine: Spine,
        upstream: Arc<Upstream>,
        identities: Arc<Identities>,
        tokens: Arc<Tokens>,
        home: Arc<Home>,
        keys: Keys,
        view: ViewFile,
        report: Arc<Report>,
        health: Health,
        news: mpsc::Sender<(u64, News)>,
        announce: Announce,
    ) -> Self {
        health.unready("view", "the agent has not heard of its entries yet");
        health.unready("server", "no connection to the server yet");
        Self {
            spine,
            upstream,
            identities,
            tokens,
            home,
            keys: Arc::new(keys),
            view: Arc::new(view),
            saving: Arc::default(),
            report,
            figures: Figures::of(health.metrics()),
            health,
            news,
            issuing: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
            connection: (0, None),
            announce: Some(announce),
            save_at: None,
        }
    }

    /// Runs until something happens that cannot be mended by waiting.
    pub(crate) async fn run(
        mut self,
        kept: Kept,
        mut news: mpsc::Receiver<(u64, News)>,
        mut asked: mpsc::UnboundedReceiver<EntryId>,
    ) -> Result<Infallible, Error> {
        self.step(Input::Start(kept)).await;
        loop {
            let wake = self.wake();
            let save = self.save_at.unwrap_or_else(|| Instant::now() + LONGEST_SLEEP);
            tokio::select! {
                Some((connection, news)) = news.recv() => {
                    if connection == ANY_CONNECTION || connection == self.connection.0 {
                        self.hear(news).await?;
                    }
                }
                Some(id) = asked.recv() => self.step(Input::Asked(id)).await,
                () = sleep_until(wake) => self.step(Input::Tick).await,
                () = sleep_until(save) => self.save(),
            }
        }
    }

    async fn hear(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Input(input) => {
                if matches!(input, Input::Connected) {
                    tracing::info!(server = %self.upstream.address(), "connected");
                    self.health.ready("server");
                    self.figures.connected.set(1);
                    self.report.note(|report| (report.connected, report.problem) = (true, None));
                }
                let connected = matches!(input, Input::Connected);
                if let Input::Snapshot(snapshot) = &input {
                    self.compare(snapshot);
                }
                self.step(input).await;
                if connected {
                    self.tokens.hurry(clock::now());
                }
            }
            News::Heard => self.report.note(|report| report.last_sync = Some(clock::now())),
            News::Over(trouble) => self.lose(trouble).await?,
        }
        Ok(())
    }

    /// Whether a view that came goes on from the one that is known.
    fn compare(&self, snapshot: &Snapshot) {
        if !self.upstream.has_a_log() {
            return;
        }
        let has = |id: &EntryId| self.spine.has(id);
        if let Some(anew) = Anew::notice(self.spine.position(), has, snapshot) {
            anew.tell();
            self.figures.anew.increment();
            self.figures.reappeared.add(anew.entries.len() as u64);
        }
    }

    /// The connection is over. An agent that never had a view has nothing to serve, so if waiting cannot
    /// help it ends and says why.
    async fn lose(&mut self, trouble: Trouble) -> Result<(), Error> {
        let says = trouble.to_string();
        if let (Trouble::Hopeless(reason), true) = (&trouble, self.announce.is_some()) {
            return Err(Error::CannotJoin(reason.clone()));
        }
        let is_new = self.report.note(|report| {
            report.connected = false;
            report.problem.replace(says.clone()).as_ref() != Some(&says)
        });
        if is_new {
            tracing::warn!(server = %self.upstream.address(), problem = says, "no connection to the server");
        }
        self.figures.connected.set(0);
        self.figures.lost.increment();
        if matches!(trouble, Trouble::Expelled(_)) {
            self.step(Input::Expelled).await;
        }
        self.step(Input::Lost).await;
        self.health.unready("server", format!("{says}; {}", self.still_served()));
        Ok(())
    }

    /// What there is without a server.
    fn still_served(&self) -> String {
        match self.identities.first_end(clock::now()) {
            Some(until) => format!("serving what is valid, all of it until {until}"),
            None => "nothing is held that could be served".to_owned(),
        }
    }

    async fn step(&mut self, input: Input) {
        let effects = self.spine.step(clock::now(), input);
        for effect in effects {
            self.carry_out(effect).await;
        }
        self.home.follow(&Governed::default(), self.spine.position());
        let revision = self.spine.position().map(|(_, at)| at.0);
        let next_rotation = self.spine.next_due();
        let head = self.upstream.head();
        let (entries, svids) = self.identities.count();
        self.figures.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.figures.svids.set(i64::try_from(svids).unwrap_or(i64::MAX));
        self.figures.tokens.set(i64::try_from(self.tokens.count()).unwrap_or(i64::MAX));
        let certificate = self.upstream.certificate();
        let pin = self.upstream.pin();
        self.report.note(|report| {
            (report.revision, report.next_rotation, report.pin) = (revision, next_rotation, pin);
            report.head = head;
            if let Some(certificate) = &certificate {
                report.spiffe_id = Some(certificate.id.clone());
            }
            report.certificate_until = certificate.map(|certificate| certificate.validity.until);
        });
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect(known) => self.connect(known),
            Effect::Issue(entries) => self.issue(entries),
            Effect::Renew => self.renew(),
            Effect::Keep(kept) => self.keep(kept).await,
            Effect::Publish(publication) => {
                let view_is_known = publication.view_is_known;
                self.tokens.follow(&publication, clock::now());
                self.home.follow_entries(&publication.put, &publication.gone);
                self.home.follow(&publication.governed, self.spine.position());
                self.identities.publish(publication, clock::now());
                if view_is_known {
                    self.announce();
                }
            }
            Effect::Wipe(ids) => ids.iter().for_each(|id| self.keys.wipe(id)),
            Effect::VerifyHeld => self.verify_held(),
            Effect::Append(delta) => {
                if let Err(error) = self.view.append(&delta) {
                    tracing::error!(%error, "a change of the view is not on disk");
                }
            }
            Effect::Save => {
                if self.spine.position().is_none() {
                    save(&self.view, None); // what a node that was expelled knew is gone at once
                }
                let at = self.saving.next.lock().unwrap_or_else(Instant::now);
                self.save_at.get_or_insert(at);
            }
        }
    }

    fn announce(&mut self) {
        self.health.ready("view");
        let own = self.upstream.certificate().map(|certificate| certificate.id.clone());
        // A former view is served also when the certificate is gone; it says whose it is.
        if let Some(id) = own.or_else(|| self.spine.node().cloned())
            && let Some(announce) = self.announce.take()
        {
            announce(id);
        }
    }

    fn connect(&mut self, known: Option<(LogId, Revision)>) {
        let (number, task) = &mut self.connection;
        if let Some(task) = task.take() {
            task.abort();
        }
        *number += 1;
        let teller = Teller { connection: *number, to: self.news.clone() };
        *task = Some(tokio::spawn(follow(self.upstream.clone(), known, teller)).abort_handle());
    }

    fn issue(&self, entries: Vec<Arc<Entry>>) {
        let (upstream, issuing) = (self.upstream.clone(), self.issuing.clone());
        self.spawn(async move {
            let _place = issuing.acquire_owned().await;
            issue(&upstream, entries).await
        });
    }

    fn renew(&self) {
        let upstream = self.upstream.clone();
        self.spawn(async move {
            vec![match upstream.renew().await {
                Ok(certified) => {
                    tracing::info!(until = %certified.validity.until, "renewed the agent's certificate");
                    Input::Certified(certified)
                }
                Err(trouble) => {
                    tracing::warn!(%trouble, "the agent's certificate was not renewed");
                    Input::NotRenewed
                }
            }]
        });
    }

    /// On a tmpfs a few files take microseconds; many are written aside.
    async fn keep(&self, kept: Vec<(EntryId, Held)>) {
        if kept.len() <= FEW_FILES || !self.keys.outlive_the_process() {
            return kept.iter().for_each(|(id, held)| self.keys.keep(id, held));
        }
        let keys = self.keys.clone();
        let keep = move || kept.iter().for_each(|(id, held)| keys.keep(id, held));
        if let Err(broken) = spawn_blocking(keep).await {
            tracing::error!(%broken, "cannot keep workload keys");
        }
    }

    fn verify_held(&self) {
        let (held, bundles) = (self.identities.held(), self.upstream.bundles());
        self.spawn(async move { vec![Input::Distrusted(distrusted(held, bundles).await)] });
    }

    fn save(&mut self) {
        self.save_at = None;
        if self.saving.busy.swap(true, Ordering::AcqRel) {
            self.save_at = Some(Instant::now() + SAVE_INTERVAL);
            return;
        }
        self.view.begin();
        let (saving, view, snapshot) = (self.saving.clone(), self.view.clone(), self.spine.view());
        spawn_blocking(move || {
            let begun = Instant::now();
            save(&view, snapshot.as_ref());
            // Not all the time, and the more rarely the longer it takes.
            *saving.next.lock() = Some(Instant::now() + SAVE_INTERVAL.max(begun.elapsed() * 20));
            saving.busy.store(false, Ordering::Release);
        });
    }

    /// Does something aside, whose outcome counts whatever the connection is by then.
    fn spawn(&self, work: impl Future<Output = Vec<Input>> + Send + 'static) {
        let news = self.news.clone();
        tokio::spawn(async move {
            for input in work.await {
                // Nobody listens any more when the agent ends.
                let _ = news.send((ANY_CONNECTION, News::Input(input))).await;
            }
        });
    }

    /// The wall clock may be set, and a machine may sleep, so nobody sleeps long at a time.
    fn wake(&self) -> Instant {
        let span =
            self.spine.wake().map_or(LONGEST_SLEEP, |wake| wake.since(clock::now()).min(LONGEST_SLEEP));
        Instant::now() + span
    }
}

impl Figures {
    fn of(metrics: &Metrics) -> Self {
        let anew = "Times that the server went on from a backup, or from an older copy of its log.";
        let reappeared = "Entries that came with it and that this node did not have before.";
        let lost = "Connections to the server that ended or could not be made.";
        Self {
            connected: metrics.gauge(
                "writ_agent_connected",
                "1 while the server's changes are followed.",
                &[],
            ),
            entries: metrics.gauge("writ_agent_entries", "Entries of this node.", &[]),
            svids: metrics.gauge("writ_agent_svids", "X509-SVIDs that are ready to be handed out.", &[]),
            tokens: metrics.gauge("writ_agent_jwt_svids", "JWT-SVIDs that are kept.", &[]),
            lost: metrics.counter("writ_agent_lost_connections_total", lost, &[]),
            anew: metrics.counter("writ_agent_server_went_back_total", anew, &[]),
            reappeared: metrics.counter("writ_agent_entries_reappeared_total", reappeared, &[]),
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(task) = self.connection.1.take() {
            task.abort();
        }
        // What changed since the last write is in the journal, and written as a whole now if nobody else does.
        if self.save_at.is_some() && !self.saving.busy.load(Ordering::Acquire) {
            self.view.begin();
            save(&self.view, self.spine.view().as_ref());
        }
    }
}

fn save(view: &ViewFile, snapshot: Option<&Snapshot>) {
    let saved = match snapshot {
        Some(snapshot) => view.save(snapshot),
        None => view.clear(),
    };
    if let Err(error) = saved {
        // What is served does not depend on it; a later start asks the server for more.
        tracing::error!(%error, "cannot keep the view");
    }
}

/// Inputs that do not depend on which connection is open.
const ANY_CONNECTION: u64 = 0;
const BATCHES_AT_ONCE: usize = 2;
const FEW_FILES: usize = 8;
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
