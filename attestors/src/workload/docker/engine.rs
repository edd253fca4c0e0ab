//! [`Engines`]: which engine is asked about which container, and how often.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{
    answer::{Described, Unusable},
    ask::{self, Silence},
};
use crate::{
    BadConfig, Evidence,
    cgroups::{self, Container, ContainerId, Owner},
};

/// The sockets of container engines: the table `[attestors.docker]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Docker's.
    pub socket: PathBuf,
    /// Podman's, of the system.
    pub podman_socket: PathBuf,
    /// Podman's, of the users in `rootless_uids`, with `{uid}` in the place of the number.
    pub rootless_podman_socket: String,
    /// Users whose own Podman is asked about their containers. Each of them can then make any selector of this
    /// attestor hold for its processes.
    pub rootless_uids: Vec<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            podman_socket: "/run/podman/podman.sock".into(),
            rootless_podman_socket: "/run/user/{uid}/podman/podman.sock".into(),
            rootless_uids: Vec::new(),
        }
    }
}

/// All engines that are asked.
pub(super) struct Engines {
    docker: Engine,
    podman: Engine,
    rootless: Vec<Engine>,
}

/// One engine.
pub(super) struct Engine {
    name: &'static str,
    socket: PathBuf,
    /// As whom it runs, if not as root.
    uid: u32,
    at_once: Semaphore,
    /// It hung, and is left alone until then: whoever comes meanwhile does not wait in vain.
    left_alone: Mutex<Option<Instant>>,
}

/// Why a container is not known.
#[derive(Debug)]
pub(super) enum Unknown {
    Silent(Silence),
    Unusable(Unusable),
    /// It hung lately.
    LeftAlone,
    /// The process that it names as the first one is not in the container, or its pid is of a namespace
    /// that is not this one.
    FirstProcess,
}

impl Engines {
    pub(super) fn new(config: &Config) -> Result<Self, BadConfig> {
        let own = nix::unistd::geteuid().as_raw();
        if !config.rootless_uids.is_empty() && !config.rootless_podman_socket.contains("{uid}") {
            return Err(BadConfig::new(
                "attestors.docker.rootless_podman_socket needs {uid} in it, so that each user has a socket of its own",
            ));
        }
        let rootless = config.rootless_uids.iter().map(|uid| {
            let socket = config.rootless_podman_socket.replace("{uid}", &uid.to_string());
            Engine::new("rootless Podman", socket.into(), *uid)
        });
        Ok(Self {
            docker: Engine::new("Docker", config.socket.clone(), own),
            podman: Engine::new("Podman", config.podman_socket.clone(), own),
            rootless: rootless.collect(),
        })
    }

    /// Why none of them can be asked, if none is there.
    pub(super) fn absent(&self) -> Option<String> {
        let all = || [&self.docker, &self.podman].into_iter().chain(&self.rootless);
        let sockets: Vec<_> = all().map(|engine| engine.socket.display().to_string()).collect();
        let is_there = all().any(|engine| engine.socket.exists());
        (!is_there).then(|| {
            format!(
                "no engine listens here: looked at {}; name its socket in [attestors.docker]",
                sockets.join(", ")
            )
        })
    }

    /// The engine that knows this container; none if it is of another kind, or is not to be asked.
    pub(super) fn of(&self, container: &Container, evidence: &mut Evidence) -> Option<&Engine> {
        match (&container.owner, container.engine) {
            (Owner::User(uid), cgroups::Engine::Podman) => {
                let engine = self.rootless.iter().find(|engine| engine.uid == *uid);
                if engine.is_none() {
                    evidence.note(format!(
                        "its container is of the rootless Podman of uid {uid}, who could say anything of it; to \
                         believe that user, add {uid} to attestors.docker.rootless_uids"
                    ));
                }
                engine
            }
            (Owner::User(_), _) => None,
            (_, cgroups::Engine::Docker) => Some(&self.docker),
            (_, cgroups::Engine::Podman) => Some(&self.podman),
            _ => None,
        }
    }
}

impl Engine {
    fn new(name: &'static str, socket: PathBuf, uid: u32) -> Self {
        let left_alone = Mutex::new(None);
        Self { name, socket, uid, at_once: Semaphore::new(AT_ONCE), left_alone }
    }

    /// What it says of a container, with or without its environment.
    pub(super) async fn describe(&self, id: &ContainerId, env: bool) -> Result<Described, Unknown> {
        // The semaphore is never closed; without a permit there would only be more questions at once.
        let _permit = self.at_once.acquire().await;
        if self.left_alone.lock().is_some_and(|until| Instant::now() < until) {
            return Err(Unknown::LeftAlone);
        }
        let answer = ask::inspect(&self.socket, self.uid, id).await;
        let late = matches!(answer, Err(Silence::Late));
        *self.left_alone.lock() = late.then(|| Instant::now() + LEFT_ALONE);
        Described::parse(&answer.map_err(Unknown::Silent)?, id, env).map_err(Unknown::Unusable)
    }
}

impl Unknown {
    /// Tells an administrator.
    pub(super) fn tell(&self, engine: &Engine, evidence: &mut Evidence) {
        let sentence = format!("{} at {} {self}", engine.name, engine.socket.display());
        match self {
            // Of this container alone, and for good.
            Self::Silent(Silence::NoSuchContainer | Silence::TooLong) | Self::FirstProcess => {
                evidence.note(sentence)
            }
            Self::Unusable(Unusable::NotRunning) => evidence.note_for_now(sentence),
            Self::Unusable(_) => evidence.note(sentence),
            Self::Silent(_) | Self::LeftAlone => evidence.fail(sentence),
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(silence) => silence.fmt(f),
            Self::Unusable(unusable) => unusable.fmt(f),
            Self::LeftAlone => f.write_str("hung lately and is asked again in a few seconds"),
            Self::FirstProcess => f.write_str(
                "names a first process of its container that is not in that container here; run the agent in the \
                 pid namespace of the engine",
            ),
        }
    }
}

/// Questions to one engine at a time.
const AT_ONCE: usize = 8;
/// How long an engine that hung is not asked.
const LEFT_ALONE: Duration = Duration::from_secs(5);
