//! [`Launcher`]: from a request to the end of a command.

use std::{
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use attestors::{WorkloadAttestors, workload::launch::Launches};
use daemon::DiskError;
use parking_lot::Mutex;
use peer::{
    Peer,
    launch::{AsUser, Cgroup, Command as Start, Exit, Surroundings},
};
use registry::objects::Reason;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};
use workload_api::{Command, LaunchEvent, NoLaunch};

use super::{
    config::{EndsWith, Launch},
    folder::Folder,
    kept::Records,
    measure::{Measured, measure},
    plan::Plan,
    tree::Meter,
};
use crate::{
    Config,
    identities::Identities,
    matching::Facts,
    reactions::task_ended::task_ended,
    tasks::{Home, Live, begin::Beginner},
};

/// Measures and starts commands.
pub(crate) struct Launcher {
    inner: Arc<Inner>,
}

struct Inner {
    config: Launch,
    folder: Folder,
    records: Records,
    launches: Arc<Launches>,
    /// What it takes for a command to be a task.
    attestors: Arc<WorkloadAttestors>,
    identities: Arc<Identities>,
    home: Arc<Home>,
    /// What commands are told of the Workload API.
    socket: String,
    places: Mutex<HashMap<u32, Places>>,
}

/// What one user has under way.
#[derive(Default)]
struct Places {
    launches: usize,
    measuring: usize,
}

/// One of a user's places, given back when it is dropped.
struct Place {
    inner: Arc<Inner>,
    uid: u32,
    is_measuring: bool,
}

type Answers = mpsc::Sender<Result<LaunchEvent, NoLaunch>>;

impl Launcher {
    /// Takes up the launches that a former agent left, and forgets the rest.
    pub(crate) fn open(
        config: &Config,
        socket: &Path,
        attestors: Arc<WorkloadAttestors>,
        identities: Arc<Identities>,
        home: Arc<Home>,
    ) -> Result<Self, DiskError> {
        let dir = config.launch.dir.clone().unwrap_or_else(|| config.public_dir.with_file_name("launch"));
        let inner = Arc::new(Inner {
            folder: Folder::open(&dir),
            records: Records::open(&config.state_dir)?,
            config: config.launch.clone(),
            launches: attestors.launches().clone(),
            attestors,
            identities,
            home,
            socket: format!("unix://{}", socket.display()),
            places: Mutex::default(),
        });
        let kept = inner.records.load().unwrap_or_default();
        for name in inner.folder.names() {
            if !kept.iter().any(|(known, ..)| *known == name) {
                inner.folder.remove(&name);
            }
        }
        for (name, cgroup, kept) in kept {
            tracing::info!(cgroup = cgroup.path(), "took up a launch again");
            let place = Place::launch(&inner, kept.uid);
            inner.launches.put(cgroup.clone(), kept.values.into());
            let inner = inner.clone();
            tokio::spawn(async move {
                inner.outlast(&name, &cgroup).await;
                drop(place);
            });
        }
        Ok(Self { inner })
    }

    /// Measures and starts a command for the asker, and tells what happens.
    pub(crate) fn launch(
        &self,
        asker: &Arc<Peer>,
        command: Command,
    ) -> mpsc::Receiver<Result<LaunchEvent, NoLaunch>> {
        let (answers, receiver) = mpsc::channel(ANSWERS);
        let (inner, asker) = (self.inner.clone(), asker.clone());
        tokio::spawn(async move {
            if let Err(refusal) = inner.run(&asker, command, &answers).await {
                tracing::info!(pid = asker.pid(), reason = refusal.0, "a command was not launched");
                // Nobody need listen any more.
                let _ = answers.send(Err(refusal)).await;
            }
        });
        receiver
    }
}

impl Inner {
    async fn run(
        self: Arc<Self>,
        asker: &Arc<Peer>,
        command: Command,
        answers: &Answers,
    ) -> Result<(), NoLaunch> {
        if !self.config.enabled {
            return Err(NoLaunch("launches are switched off on this machine (launch.enabled)".to_owned()));
        }
        if let Some(why) = self.folder.unfit.as_ref().filter(|_| !command.measure_only) {
            return Err(NoLaunch(why.clone()));
        }
        let uid = asker.credentials().uid.effective;
        let place = Place::measure(&self, uid).ok_or_else(|| {
            NoLaunch("too many commands of this user are being measured or run; try again".to_owned())
        })?;
        let words = command.words.iter().map(|word| OsString::from_vec(word.to_vec())).collect();
        let (name, folder) = self
            .folder
            .add(uid, self.config.bytes)
            .map_err(|error| NoLaunch(format!("cannot make room for copies: {error}")))?;
        let done = self.clone().run_in(&name, folder, place, asker, words, &command, answers).await;
        self.folder.remove(&name);
        done
    }

    #[expect(clippy::too_many_arguments, reason = "one launch with everything that it needs")]
    async fn run_in(
        self: Arc<Self>,
        name: &str,
        folder: PathBuf,
        place: Place,
        asker: &Arc<Peer>,
        words: Vec<OsString>,
        command: &Command,
        answers: &Answers,
    ) -> Result<(), NoLaunch> {
        let (surroundings, measured) = self.measured(asker, words, folder, answers).await?;
        let shown = measured.measurement.shown();
        let json = serde_json::to_vec(&shown).map_err(no_launch)?;
        let _ = answers.send(Ok(LaunchEvent::Measured(json))).await;
        if command.measure_only {
            return Ok(());
        }
        let _place = place.goes_on();
        let cgroup = Cgroup::make_below(surroundings.cgroups(), name).map_err(no_launch)?;
        let values: Arc<[String]> = measured.measurement.values().into();
        let mut task = None;
        let started = match self.records.put(name, &cgroup, &values, surroundings.user().0) {
            Ok(()) => {
                self.launches.put(cgroup.clone(), values.clone());
                // Before anybody is in there.
                match self.begin(asker, command, &cgroup, &values).await {
                    Ok(begun) => {
                        task = begun;
                        self.start(measured, surroundings, asker, command, &cgroup).await
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Err(error) => Err(no_launch(error)),
        };
        let mut started = match started {
            Ok(started) => started,
            Err(refusal) => {
                if let Some(task) = &task {
                    task_ended(&self.home, task.id(), Reason::DomainDead).await;
                }
                self.end(name, &cgroup);
                return Err(refusal);
            }
        };
        task.iter().for_each(|task| self.home.outlive(task));
        tracing::info!(
            pid = started.pid(),
            asker = asker.pid(),
            uid = asker.credentials().uid.effective,
            cgroup = cgroup.path(),
            measurement = shown.measurement,
            "launched a command"
        );
        let id = task.as_ref().map(|task| task.id().clone());
        let _ = answers.send(Ok(LaunchEvent::Started(started.pid(), cgroup.path().to_owned(), id))).await;
        let (mut is_over, mut is_killed) = (false, false);
        let ended = loop {
            tokio::select! {
                biased;
                ended = started.ended() => break ended,
                // It, and all that it started, were moved elsewhere.
                _ = cgroup.emptied(), if !is_over => {
                    self.end(name, &cgroup);
                    is_over = true;
                }
                // Whoever could tell it to end is gone.
                () = asker.exited(), if !is_killed => {
                    self.kill(&cgroup);
                    is_killed = true;
                }
            }
        };
        let event = match ended {
            Ok(Exit::Code(code)) => LaunchEvent::Exited(code),
            Ok(Exit::Signal(signal)) => LaunchEvent::Killed(signal),
            Err(error) => return Err(no_launch(error)),
        };
        // Whatever it left behind goes on without a task.
        if let Some(task) = &task {
            task_ended(&self.home, task.id(), Reason::Done).await;
        }
        if self.config.ends_with == EndsWith::Process {
            self.kill(&cgroup);
        }
        let _ = answers.send(Ok(event)).await;
        if !is_over {
            self.outlast(name, &cgroup).await;
        }
        Ok(())
    }

    /// Makes the command a task where it is to be one. Either way it may remember what its asker may.
    async fn begin(
        &self,
        asker: &Arc<Peer>,
        command: &Command,
        cgroup: &Cgroup,
        values: &[String],
    ) -> Result<Option<Arc<Live>>, NoLaunch> {
        let Some(wish) = command.task.clone() else {
            self.home.remembered(asker, cgroup).map_err(no_launch)?;
            return Ok(None);
        };
        let (wanted, _) = self.identities.wanted();
        let evidence = self.attestors.attest(asker, &wanted).await.map_err(no_launch)?;
        let facts: Facts = evidence.selectors().cloned().collect();
        let beginner = Beginner { peer: asker, facts: &facts };
        let begun =
            Box::pin(self.home.begin_launch(&self.identities, &beginner, cgroup.clone(), values, wish));
        begun.await.map(Some).map_err(no_launch)
    }

    /// Measures on a thread of its own, which acts as the user.
    async fn measured(
        self: &Arc<Self>,
        asker: &Arc<Peer>,
        words: Vec<OsString>,
        folder: PathBuf,
        answers: &Answers,
    ) -> Result<(Surroundings, Measured), NoLaunch> {
        let (done, result) = oneshot::channel();
        let (inner, asker, answers) = (self.clone(), asker.clone(), answers.clone());
        let work = move || {
            // Nobody may wait any more.
            let _ = done.send(inner.measure(&asker, &words, &folder, &answers));
        };
        thread::Builder::new().name("measuring".to_owned()).spawn(work).map_err(no_launch)?;
        result.await.map_err(no_launch)?
    }

    fn measure(
        &self,
        asker: &Peer,
        words: &[OsString],
        folder: &Path,
        answers: &Answers,
    ) -> Result<(Surroundings, Measured), NoLaunch> {
        let surroundings = asker.surroundings().map_err(no_launch)?;
        let (uid, gid, groups) = surroundings.user();
        let user = AsUser::on_this_thread(uid, gid, groups).map_err(no_launch)?;
        let mut progress = |files: usize, bytes: u64| {
            // A reader that is slow misses some of it.
            let _ = answers.try_send(Ok(LaunchEvent::Measuring(files as u64, bytes)));
            !answers.is_closed()
        };
        let mut meter = Meter::new(self.config.files, self.config.bytes, self.config.time, &mut progress);
        let plan = Plan::of(&user, &surroundings, words).map_err(no_launch)?;
        if !plan.is_fixed && self.folder.is_noexec && self.folder.unfit.is_none() {
            return Err(NoLaunch(
                "the file system of launch.dir is mounted noexec; choose another launch.dir".to_owned(),
            ));
        }
        let measured =
            measure(&user, &plan, surroundings.environment(), &self.config, &self.socket, folder, &mut meter);
        Ok((surroundings, measured.map_err(no_launch)?))
    }

    async fn start(
        &self,
        measured: Measured,
        surroundings: Surroundings,
        asker: &Arc<Peer>,
        command: &Command,
        cgroup: &Cgroup,
    ) -> Result<peer::launch::Started, NoLaunch> {
        let descriptor = |number| {
            asker
                .descriptor(number)
                .map_err(|error| NoLaunch(format!("descriptor {number} cannot be taken over: {error}")))
        };
        let [input, output, errors] = command.descriptors;
        let directory = match &measured.directory {
            Some(directory) => Some(std::fs::File::open(directory).map_err(no_launch)?.into()),
            None => None,
        };
        let start = Start {
            program: measured.program,
            arguments: measured.arguments,
            environment: measured.environment,
            descriptors: [descriptor(input)?, descriptor(output)?, descriptor(errors)?],
            terminal: command.terminal,
            directory,
        };
        // The one whose descriptors these are is still the one that asked.
        asker.check().map_err(no_launch)?;
        let (cgroup, runtime) = (cgroup.clone(), Handle::current());
        let starting = spawn_blocking(move || {
            let _inside = runtime.enter();
            start.start(&cgroup, &surroundings)
        });
        starting.await.map_err(no_launch)?.map_err(no_launch)
    }

    /// Waits until the last process has left, and forgets the launch.
    async fn outlast(&self, name: &str, cgroup: &Cgroup) {
        if let Err(error) = cgroup.emptied().await {
            tracing::warn!(cgroup = cgroup.path(), %error, "a launch cannot be watched; it ends here");
            self.kill(cgroup);
        }
        self.end(name, cgroup);
        self.folder.remove(name);
    }

    /// First nobody has it any more, then it is tidied up.
    fn end(&self, name: &str, cgroup: &Cgroup) {
        self.launches.remove(cgroup);
        if let Err(error) = cgroup.remove() {
            tracing::warn!(cgroup = cgroup.path(), %error, "the cgroup of a launch could not be removed");
        }
        self.records.remove(name);
    }

    fn kill(&self, cgroup: &Cgroup) {
        if let Err(error) = cgroup.kill() {
            tracing::warn!(cgroup = cgroup.path(), %error, "the processes of a launch could not be killed");
        }
    }
}

impl Place {
    /// A place to measure; `None` if the user has enough under way.
    fn measure(inner: &Arc<Inner>, uid: u32) -> Option<Self> {
        let mut all = inner.places.lock();
        let places = all.entry(uid).or_default();
        if places.measuring >= MEASURED_AT_ONCE
            || places.launches + places.measuring >= inner.config.launches_per_uid
        {
            return None;
        }
        places.measuring += 1;
        Some(Self { inner: inner.clone(), uid, is_measuring: true })
    }

    /// The place of a command that runs.
    fn launch(inner: &Arc<Inner>, uid: u32) -> Self {
        inner.places.lock().entry(uid).or_default().launches += 1;
        Self { inner: inner.clone(), uid, is_measuring: false }
    }

    /// It is measured, and runs from now on.
    fn goes_on(self) -> Self {
        Self::launch(&self.inner, self.uid)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.inner.places.lock();
        if let Some(places) = all.get_mut(&self.uid) {
            let count = if self.is_measuring { &mut places.measuring } else { &mut places.launches };
            *count = count.saturating_sub(1);
            if places.launches == 0 && places.measuring == 0 {
                all.remove(&self.uid);
            }
        }
    }
}

fn no_launch(error: impl ToString) -> NoLaunch {
    NoLaunch(error.to_string())
}

const ANSWERS: usize = 16;
/// A heap of large programs of one user keeps that user waiting, and nobody else.
const MEASURED_AT_ONCE: usize = 2;
