//! [`Watch`]: whoever has something open is looked at when the kernel says that it may have changed.
//!
//! The proc connector tells of programs executed and ids changed, fanotify of moves between cgroups, and
//! each peer's own pidfd of its end ([`Peer::exited`]). None of them is believed about what happened: they
//! only say when to look. What cannot be had is made up for by a look at everybody, once a second.

mod connector;
mod moves;

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use self::{
    connector::{Connector, What},
    moves::Moves,
};
use crate::{Changed, Peer};

/// Looks at those who are watched, whenever there is a reason to.
#[derive(Debug)]
pub struct Watch {
    watched: Mutex<HashMap<u32, Vec<Arc<Held>>>>,
    connector: Result<Connector, String>,
    moves: Result<Moves, String>,
    lost: AtomicU64,
}

/// A peer that is watched until this is dropped.
#[derive(Debug)]
pub struct Watched {
    held: Arc<Held>,
    watch: Arc<Watch>,
}

#[derive(Debug)]
struct Held {
    peer: Arc<Peer>,
    /// What was told to have happened before this is no news.
    since: Duration,
    changed: Mutex<Option<Changed>>,
    told: Notify,
}

/// Why there is no word from the kernel about something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Silence {
    /// About programs executed and ids changed.
    pub exec_and_ids: Option<String>,
    /// About moves between cgroups.
    pub moves: Option<String>,
}

impl Watch {
    /// Asks the kernel for whatever it tells this process. Must be called inside a Tokio runtime.
    pub fn open() -> Self {
        Self::with_room(ROOM)
    }

    /// The same, with so many bytes for what has been told and not yet been read.
    pub fn with_room(room: usize) -> Self {
        Self::new(Connector::open(room), Moves::open())
    }

    /// Hears nothing, and so looks at everybody once a second.
    pub fn deaf() -> Self {
        let why = || "it was not asked for".to_owned();
        Self::new(Err(why()), Err(why()))
    }

    fn new(connector: Result<Connector, String>, moves: Result<Moves, String>) -> Self {
        Self { watched: Mutex::default(), connector, moves, lost: AtomicU64::new(0) }
    }

    /// What the kernel does not tell, and why. Whoever is watched is then looked at once a second.
    pub fn silence(&self) -> Silence {
        let why = |heard: Option<&String>| heard.cloned();
        Silence { exec_and_ids: why(self.connector.as_ref().err()), moves: why(self.moves.as_ref().err()) }
    }

    /// How often the kernel told more than was read in time. Each time everybody was looked at.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Watches this peer from now on. Whatever happened to it before, its next check will see.
    pub fn watch(self: &Arc<Self>, peer: &Arc<Peer>) -> Watched {
        let since = clock_gettime(ClockId::Monotonic);
        let held = Arc::new(Held {
            peer: peer.clone(),
            since: Duration::new(since.tv_sec.unsigned_abs(), since.tv_nsec.unsigned_abs() as u32),
            changed: Mutex::default(),
            told: Notify::new(),
        });
        self.lock().entry(peer.pid()).or_default().push(held.clone());
        Watched { held, watch: self.clone() }
    }

    /// Listens and looks, for ever.
    pub async fn run(&self) -> Infallible {
        let mut clock = interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let by_the_clock = self.connector.is_err() || self.moves.is_err();
        loop {
            tokio::select! {
                readable = readable(&self.connector, Connector::readable) => match readable {
                    Ok(()) => self.hear().await,
                    Err(error) => self.cannot_hear(&error).await,
                },
                readable = readable(&self.moves, Moves::readable) => match readable {
                    Ok(()) => if self.moves.as_ref().is_ok_and(Moves::take) { self.look_at_all().await },
                    Err(error) => self.cannot_hear(&error).await,
                },
                _ = clock.tick(), if by_the_clock => self.look_at_all().await,
            }
        }
    }

    /// Reads what the proc connector has told, and looks at those whom it concerns.
    async fn hear(&self) {
        let Ok(connector) = &self.connector else { return };
        let mut concerned = HashSet::new();
        for _ in 0..EVENTS_AT_ONCE {
            match connector.read() {
                Ok(Some(event)) => {
                    for held in self.those_of(event.pid) {
                        // Also where it is the same file again: an interpreter runs something else then.
                        if event.what == What::Exec && event.at > held.since {
                            held.tell(Changed::Executed { pid: event.pid });
                        } else {
                            concerned.insert(event.pid);
                        }
                    }
                }
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.lost.fetch_add(1, Relaxed);
                    self.look_at_all().await;
                }
                Err(error) => return self.cannot_hear(&error).await,
            }
        }
        concerned.into_iter().flat_map(|pid| self.those_of(pid)).for_each(|held| held.look());
        tokio::task::yield_now().await;
    }

    /// Not expected of the kernel, and not silently a reason to stop looking.
    async fn cannot_hear(&self, error: &io::Error) {
        tracing::warn!(%error, "cannot read what the kernel tells of processes; looking at all of them");
        self.look_at_all().await;
        sleep(LOOK_EVERY).await;
    }

    /// Takes as long a break afterwards as it took: whoever can cause this can do so without end.
    async fn look_at_all(&self) {
        let began = Instant::now();
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        for some in all.chunks(LOOKS_AT_ONCE) {
            some.iter().for_each(|held| held.look());
            tokio::task::yield_now().await;
        }
        sleep(began.elapsed()).await;
    }

    fn those_of(&self, pid: u32) -> Vec<Arc<Held>> {
        self.lock().get(&pid).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Vec<Arc<Held>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for ever where there is nothing to hear.
async fn readable<'a, T, F: Future<Output = io::Result<()>>>(
    heard: &'a Result<T, String>,
    readable: impl FnOnce(&'a T) -> F,
) -> io::Result<()> {
    match heard {
        Ok(heard) => readable(heard).await,
        Err(_) => std::future::pending().await,
    }
}

impl Watched {
    /// Returns when the process has changed. That it ended is told by [`Peer::exited`], and here only if
    /// something else led to a look at it.
    pub async fn changed(&self) -> Changed {
        loop {
            let told = self.held.told.notified();
            if let Some(changed) = self.held.lock().take() {
                return changed;
            }
            told.await;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let pid = self.held.peer.pid();
        let mut watched = self.watch.lock();
        if let Some(of_pid) = watched.get_mut(&pid) {
            of_pid.retain(|held| !Arc::ptr_eq(held, &self.held));
            if of_pid.is_empty() {
                watched.remove(&pid);
            }
        }
    }
}

impl Held {
    fn look(&self) {
        if let Err(changed) = self.peer.check_closely() {
            self.tell(changed);
        }
    }

    fn tell(&self, changed: Changed) {
        self.lock().get_or_insert(changed);
        self.told.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Changed>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for some ten thousand events.
const ROOM: usize = 4 << 20;
const EVENTS_AT_ONCE: usize = 1024;
const LOOKS_AT_ONCE: usize = 256;
/// How often everybody is looked at where the kernel does not tell.
const LOOK_EVERY: Duration = Duration::from_secs(1);
