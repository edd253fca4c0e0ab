//! Fair turns: one thread serves many connections, and nobody's flood delays another.
//!
//! Every piece of work belongs to a process, and every process to a user. Users take turns, a user's
//! processes take turns, and a process's jobs take turns. So a process that opens a thousand
//! connections makes only itself wait: another process is served after one job of its own, whatever
//! stands in the queue. A task for each connection would be served first come, first served.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{future::BoxFuture, task::AtomicWaker};
use parking_lot::Mutex;

/// Jobs that run before the runtime gets to look for new readiness.
const JOBS_A_ROUND: usize = 4;

/// Whose work a job is. That a pid may be used again does not matter for taking turns.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Owner {
    /// The user.
    pub(super) uid: u32,
    /// The process.
    pub(super) pid: u32,
}

/// Where work is handed in.
#[derive(Clone)]
pub(super) struct Turns(Arc<Shared>);

/// Runs the work that was handed in. It never ends by itself.
pub(super) struct Driver(Arc<Shared>);

struct Shared {
    ready: Mutex<Ready>,
    driver: AtomicWaker,
}

/// Jobs that can go on, in the order in which they will.
#[derive(Default)]
struct Ready {
    users: Ring<u32, Ring<u32, VecDeque<Arc<Job>>>>,
}

struct Job {
    owner: Owner,
    /// Whether it stands in the queue already.
    queued: AtomicBool,
    work: Mutex<Option<BoxFuture<'static, ()>>>,
    shared: Arc<Shared>,
}

impl Turns {
    /// A queue and what works it off.
    pub(super) fn new() -> (Self, Driver) {
        let shared = Arc::new(Shared { ready: Mutex::default(), driver: AtomicWaker::new() });
        (Self(shared.clone()), Driver(shared))
    }

    /// Hands in work; it begins when its owner's turn comes.
    pub(super) fn start(&self, owner: Owner, work: impl Future<Output = ()> + Send + 'static) {
        let work = Mutex::new(Some(Box::pin(work) as BoxFuture<'static, ()>));
        let job = Job { owner, queued: AtomicBool::new(false), work, shared: self.0.clone() };
        Arc::new(job).wake();
    }
}

impl Future for Driver {
    type Output = std::convert::Infallible;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.driver.register(context.waker());
        for _ in 0..JOBS_A_ROUND {
            let Some(job) = self.0.ready.lock().next() else { return Poll::Pending };
            job.go_on();
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Job {
    fn go_on(self: Arc<Self>) {
        // Before the work runs, so that what wakes it meanwhile queues it again.
        self.queued.store(false, Ordering::Release);
        let mut work = self.work.lock();
        let Some(future) = work.as_mut() else { return };
        let waker = Waker::from(self.clone());
        let done = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        }));
        // A panic is a defect, and it ends the one connection that met it.
        if done.unwrap_or(true) {
            *work = None;
        }
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let shared = self.shared.clone();
            shared.ready.lock().add(self);
            shared.driver.wake();
        }
    }
}

impl Ready {
    fn add(&mut self, job: Arc<Job>) {
        let Owner { uid, pid } = job.owner;
        self.users.entry(uid).entry(pid).push_back(job);
    }

    /// One job of the process whose turn it is, of the user whose turn it is.
    fn next(&mut self) -> Option<Arc<Job>> {
        self.users.turn(|processes| processes.turn(VecDeque::pop_front, VecDeque::is_empty), Ring::is_empty)
    }
}

/// Queues by name, which take turns.
struct Ring<K, Q> {
    order: VecDeque<K>,
    queues: HashMap<K, Q>,
}

impl<K, Q> Default for Ring<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<K: Copy + Eq + std::hash::Hash, Q: Default> Ring<K, Q> {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The queue of this name; a new one takes its place at the end.
    fn entry(&mut self, name: K) -> &mut Q {
        self.queues.entry(name).or_insert_with(|| {
            self.order.push_back(name);
            Q::default()
        })
    }

    /// Takes one from the queue whose turn it is, which then goes to the end, or away once it is empty.
    fn turn<T>(
        &mut self,
        take: impl FnOnce(&mut Q) -> Option<T>,
        is_empty: impl FnOnce(&Q) -> bool,
    ) -> Option<T> {
        let name = self.order.pop_front()?;
        let queue = self.queues.get_mut(&name)?;
        let taken = take(queue);
        if is_empty(queue) {
            self.queues.remove(&name);
        } else {
            self.order.push_back(name);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn owner(uid: u32, pid: u32) -> Owner {
        Owner { uid, pid }
    }

    /// Hands in jobs that note their owner, runs everything, and gives the notes.
    fn order_of(owners: impl IntoIterator<Item = Owner>) -> Vec<(u32, u32)> {
        let (turns, driver) = Turns::new();
        let notes = Arc::new(Mutex::new(Vec::new()));
        for owner in owners {
            let notes = notes.clone();
            turns.start(owner, async move { notes.lock().push((owner.uid, owner.pid)) });
        }
        run(driver);
        Arc::into_inner(notes).expect("all jobs are done").into_inner()
    }

    fn run(mut driver: Driver) {
        while !driver.0.ready.lock().users.is_empty() {
            assert!((&mut driver).now_or_never().is_none(), "a driver never ends");
        }
    }

    #[test]
    fn a_flood_of_one_process_makes_only_itself_wait() {
        let flood = std::iter::repeat_n(owner(1000, 1), 1000);
        let order = order_of(flood.chain([owner(1000, 2), owner(1001, 3)]));
        assert_eq!(order.len(), 1002);
        let turn_of = |pid| order.iter().position(|(_, who)| *who == pid).expect("it ran");
        assert_eq!(turn_of(3), 1, "another user waits for one job");
        assert_eq!(turn_of(2), 2, "another process of the flooding user for one of each user");
    }

    #[test]
    fn a_user_with_many_processes_has_one_turn_like_any_other() {
        let crowd = (0..500).map(|pid| owner(1000, pid));
        let order = order_of(crowd.chain([owner(1001, 900), owner(1001, 900)]));
        let turns: Vec<_> =
            order.iter().enumerate().filter(|(_, who)| who.1 == 900).map(|(n, _)| n).collect();
        assert_eq!(turns, [1, 3]);
    }

    #[test]
    fn work_that_waits_goes_on_when_it_is_woken() {
        let (turns, mut driver) = Turns::new();
        let (send, receive) = futures::channel::oneshot::channel::<u8>();
        let got = Arc::new(Mutex::new(None));
        let into = got.clone();
        turns.start(owner(0, 1), async move { *into.lock() = receive.await.ok() });
        assert!((&mut driver).now_or_never().is_none());
        assert_eq!(*got.lock(), None);
        send.send(5).unwrap();
        assert!((&mut driver).now_or_never().is_none());
        assert_eq!(*got.lock(), Some(5));
    }

    #[test]
    fn a_panic_ends_the_job_that_met_it_and_no_other() {
        let (turns, driver) = Turns::new();
        let done = Arc::new(AtomicBool::new(false));
        turns.start(owner(0, 1), async { panic!("this test panics on purpose") });
        let flag = done.clone();
        turns.start(owner(0, 1), async move { flag.store(true, Ordering::Release) });
        run(driver);
        assert!(done.load(Ordering::Acquire));
    }
}
