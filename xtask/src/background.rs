//! Other people's programs that take minutes to compile: SPIRE's and Kubernetes' own. They are built in
//! the background while cargo does its part, one after the other, so that they share what cargo leaves of
//! the machine and not take it from each other; and waited for only by the stories that need them.

use std::fs::{self, File};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::report::Missing;
use crate::tools;

/// What is built in the background, in this order; each is a folder of `integration-tests/clients`.
const QUEUE: [Build; 2] = [SPIRE, KUBERNETES];

/// SPIRE's agent and server. Its server keeps its data with a SQLite that is written in C.
pub(crate) const SPIRE: Build =
    Build { name: "spire", cgo: "1", stories: "SPIRE's own agent, server and command line" };

/// Kubernetes' API server and kubelet.
pub(crate) const KUBERNETES: Build =
    Build { name: "kubernetes", cgo: "0", stories: "real pods, kubelet and API server" };

/// Programs that are built together.
pub(crate) struct Build {
    name: &'static str,
    cgo: &'static str,
    stories: &'static str,
}

/// A queue that is worked off now.
struct Work {
    /// How each build ended, by its place in the queue, once it has; each is taken by whoever waits.
    ended: Vec<(&'static str, Receiver<std::io::Result<ExitStatus>>)>,
    now: Arc<Mutex<Now>>,
}

/// The build of the moment.
#[derive(Default)]
struct Now {
    child: Option<Child>,
    over: bool,
}

static WORK: Mutex<Option<Work>> = Mutex::new(None);

/// Begins with the queue, unless that has begun; Go itself knows what is built already.
pub(crate) fn begin(missing: &mut Vec<Missing>) -> Result<()> {
    let mut work = WORK.lock().expect("nobody panics with it");
    if work.is_some() {
        return Ok(());
    }
    if !tools::runs("go", "version") {
        missing.extend(QUEUE.iter().map(|build| Missing {
            what: format!("every story with {}", build.stories),
            enable: "install Go 1.26 or newer and put it on PATH".into(),
        }));
        return Ok(());
    }
    let now = Arc::<Mutex<Now>>::default();
    let (mut ended, mut said) = (Vec::new(), Vec::new());
    for build in &QUEUE {
        fs::create_dir_all(tools::go_client(build.name)).context("cannot make the folder of the programs")?;
        let (sender, receiver) = mpsc::channel();
        ended.push((build.name, receiver));
        said.push(sender);
    }
    println!("    SPIRE's and Kubernetes' own programs are being built; see {}", KUBERNETES.log().display());
    *work = Some(Work { ended, now: Arc::clone(&now) });
    thread::spawn(move || {
        for (build, sender) in QUEUE.iter().zip(said) {
            // Nobody may wait for it, and then nobody is told.
            let _ = sender.send(build.run(&now));
        }
    });
    Ok(())
}

/// Waits until these programs are built; false where this machine cannot build them, which is listed then.
pub(crate) fn wait(build: &Build, missing: &mut Vec<Missing>) -> Result<bool> {
    begin(missing)?;
    let ended = {
        let mut work = WORK.lock().expect("nobody panics with it");
        let Some(work) = work.as_mut() else { return Ok(false) };
        let place = work.ended.iter().position(|(name, _)| *name == build.name);
        work.ended.swap_remove(place.context("a build is waited for once")?).1
    };
    let status = ended.recv().context("the background builds ended too early")?;
    if !status.with_context(|| format!("cannot build the programs of {}", build.name))?.success() {
        let log = fs::read_to_string(build.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!("the programs of {} were not built:\n{last}", build.name);
    }
    Ok(true)
}

/// Ends what nobody waited for, when the checks are over.
pub(crate) fn end() {
    if let Some(work) = WORK.lock().expect("nobody panics with it").take() {
        let mut now = work.now.lock().expect("nobody panics with it");
        now.over = true;
        if let Some(child) = &mut now.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Build {
    fn log(&self) -> std::path::PathBuf {
        tools::go_client(&format!("{}.log", self.name))
    }

    /// Builds them to the end, unless all is over before.
    fn run(&self, now: &Mutex<Now>) -> std::io::Result<ExitStatus> {
        let log = File::create(self.log())?;
        let mut go = tools::go("build");
        go.env("CGO_ENABLED", self.cgo);
        go.current_dir(tools::root().join("integration-tests/clients").join(self.name));
        go.args(["-trimpath", "-ldflags", "-s -w", "-o"]).arg(tools::go_client(self.name)).arg("./...");
        let mut patient = tools::patient(&go);
        let both = log.try_clone()?;
        {
            let mut now = now.lock().expect("nobody panics with it");
            if now.over {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            now.child = Some(patient.stdin(Stdio::null()).stdout(log).stderr(both).spawn()?);
        }
        loop {
            let mut now = now.lock().expect("nobody panics with it");
            let child = now.child.as_mut().ok_or(std::io::ErrorKind::Interrupted)?;
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            drop(now);
            thread::sleep(Duration::from_millis(200));
        }
    }
}
