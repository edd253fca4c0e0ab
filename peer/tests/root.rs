//! What only root can stage: other users, set-uid programs, pid reuse, namespaces.

mod harness;

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use harness::{Puppet, as_root, copy_of_puppet, forbid, inside, listen, open_directory, puppet};
use peer::{Changed, ListenError, Listener, Peer, PinError, Pinning};
use tokio::time::timeout;

#[tokio::test]
async fn becoming_another_user_or_group_after_connecting_is_noticed() {
    if !as_root("becoming_another_user_or_group_after_connecting_is_noticed") {
        return;
    }
    for order in ["become-user 65534", "act-as-user 65534", "become-group 65534"] {
        let (_directory, listener) = listen();
        let mut caller = Puppet::start();
        caller.connect(&listener);
        let (_stream, peer) = listener.accept().await;
        peer.check().expect("still itself");
        caller.order(order);
        assert!(matches!(peer.check(), Err(Changed::Credentials { .. })), "{order}");
    }
}

#[tokio::test]
async fn a_caller_that_became_somebody_else_before_being_accepted_is_refused() {
    if !as_root("a_caller_that_became_somebody_else_before_being_accepted_is_refused") {
        return;
    }
    let (_directory, listener) = listen();
    let mut caller = Puppet::start();
    caller.connect(&listener);
    caller.order("become-user 65534");
    let mut honest = Puppet::start();
    honest.connect(&listener);
    let (_stream, peer) = timeout(DEADLINE, listener.accept()).await.expect("the honest one is served");
    assert_eq!((peer.pid(), listener.counts().refused()), (honest.pid(), 1));
}

/// The attack: connect, leave the descriptor to an accomplice, run a set-uid program.
#[tokio::test]
async fn a_connection_made_by_a_user_never_speaks_for_a_set_uid_program() {
    if !as_root("a_connection_made_by_a_user_never_speaks_for_a_set_uid_program") {
        return;
    }
    let (directory, listener) = listen();
    let plain = copy_of_puppet(&directory.path().join("plain"));
    let privileged = copy_of_puppet(&directory.path().join("privileged"));
    fs::set_permissions(&privileged, fs::Permissions::from_mode(0o4755)).expect("set-uid root");
    let mut attacker = Puppet::start_as(65534, &plain);
    attacker.connect(&listener);
    attacker.order("lend");
    attacker.exec(&privileged);
    let now = Peer::open(attacker.pid()).expect("held").credentials().uid.effective;
    assert_eq!(now, 0, "the program does run as root");
    let mut honest = Puppet::start();
    honest.connect(&listener);
    let (_stream, peer) = timeout(DEADLINE, listener.accept()).await.expect("the honest one is served");
    assert_eq!((peer.pid(), listener.counts().refused()), (honest.pid(), 1));
}

/// A pid namespace of its own makes reuse certain instead of likely: writing ns_last_pid picks the next pid.
#[test]
fn a_process_with_a_reused_pid_is_never_taken_for_the_one_that_connected() {
    const NAME: &str = "a_process_with_a_reused_pid_is_never_taken_for_the_one_that_connected";
    if as_root(NAME) && inside(NAME, &["unshare", "--pid", "--fork", "--mount-proc"]) {
        reuse_pids(rounds(200), true);
    }
}

/// There the ids, too, are read by the number, so only the order of things keeps the heir's out.
#[test]
fn a_process_with_a_reused_pid_is_never_taken_for_another_before_linux_6_13_either() {
    const NAME: &str = "a_process_with_a_reused_pid_is_never_taken_for_another_before_linux_6_13_either";
    if as_root(NAME) && inside(NAME, &["unshare", "--pid", "--fork", "--mount-proc"]) {
        forbid(libc::SYS_ioctl, Some((1, libc::PIDFD_GET_INFO as u32)), libc::ENOTTY);
        forbid(libc::SYS_fstatfs, None, libc::ENOSYS);
        reuse_pids(rounds(200), false);
    }
}

fn reuse_pids(rounds: u64, has_serials: bool) {
    runtime().block_on(async {
        let (_directory, listener) = listen();
        for round in 0..rounds {
            // One connection waits to be accepted while its maker dies, one is held while it does.
            let mut maker = Puppet::start();
            maker.connect(&listener);
            let (_stream, held) = listener.accept().await;
            maker.connect(&listener);
            let (pid, born) = (maker.pid(), held.start_time().ok());
            maker.kill();
            let heir = born_as(pid);
            assert_eq!(heir.pid(), pid, "round {round}: the kernel reused the pid");
            let second = Peer::open(pid).expect("held");
            // Start times have ticks of 10 ms, which two processes of this test can share.
            let can_be_alike = second.start_time().ok() == born;
            assert!(second.process() != held.process() || !has_serials && can_be_alike);
            assert!(matches!(held.check(), Err(Changed::Exited { .. })));
            assert!(held.exe_link().is_err(), "its /proc directory never shows the heir");
            assert!(!held.process().is_alive() || !has_serials && can_be_alike, "nor is it thought alive");
            let mut honest = Puppet::start();
            honest.connect(&listener);
            let (_stream, peer) = listener.accept().await;
            assert_eq!(peer.pid(), honest.pid());
            assert_eq!(listener.counts().refused(), round + 1);
        }
    });
}

/// Why it is called insecure: nothing tells the heir from the maker before it is held. Afterwards it is safe.
#[test]
fn by_pid_the_window_before_accept_is_open_and_the_one_after_it_is_not() {
    const NAME: &str = "by_pid_the_window_before_accept_is_open_and_the_one_after_it_is_not";
    if !as_root(NAME) || !inside(NAME, &["unshare", "--pid", "--fork", "--mount-proc"]) {
        return;
    }
    runtime().block_on(async {
        let directory = open_directory();
        let socket = directory.path().join("workload.sock");
        let listener = Listener::bind(&socket, 0o777, Pinning::InsecureByPid).expect("it listens");
        let mut maker = Puppet::start();
        maker.connect(&listener);
        let pid = maker.pid();
        maker.kill();
        let mut heir = born_as(pid);
        let (_stream, held) = listener.accept().await;
        assert_eq!(held.pid(), pid);
        held.check().expect("the heir is taken for the maker");
        heir.kill();
        let _next = born_as(pid);
        assert!(matches!(held.check(), Err(Changed::Exited { .. })), "what is held is held by pidfd");
    });
}

#[test]
fn a_caller_from_a_pid_namespace_out_of_sight_is_refused() {
    const NAME: &str = "a_caller_from_a_pid_namespace_out_of_sight_is_refused";
    if !as_root(NAME) {
        return;
    }
    if let Some(socket) = env::var_os("WRIT_TEST_SOCKET").map(PathBuf::from) {
        assert!(inside(NAME, &[]));
        runtime().block_on(async {
            let listener = Listener::bind(&socket, 0o777, Pinning::ByPidfd).expect("it listens");
            let mut honest = Puppet::start();
            // The stranger connects from outside, over and over, until one of its connections is refused.
            let deadline = Instant::now() + DEADLINE;
            while listener.counts().refused() == 0 {
                assert!(Instant::now() < deadline, "the stranger came");
                honest.connect(&listener);
                let (_stream, peer) = listener.accept().await;
                assert_eq!(peer.pid(), honest.pid(), "only the caller in sight is served");
            }
        });
    } else {
        let directory = open_directory();
        let socket = directory.path().join("workload.sock");
        let stranger = Stranger::keep_connecting(&socket);
        let below = [
            "env",
            &format!("WRIT_TEST_SOCKET={}", socket.display()),
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
        ];
        inside(NAME, &below);
        drop(stranger);
    }
}

#[test]
fn a_proc_of_another_pid_namespace_is_refused_at_the_start() {
    const NAME: &str = "a_proc_of_another_pid_namespace_is_refused_at_the_start";
    if !as_root(NAME) || !inside(NAME, &["unshare", "--pid", "--fork"]) {
        return;
    }
    let directory = open_directory();
    let refused = Listener::bind(&directory.path().join("workload.sock"), 0o600, Pinning::ByPidfd);
    assert!(matches!(refused, Err(ListenError::ForeignProc)), "{refused:?}");
}

#[test]
fn a_user_without_a_number_here_is_nobody_in_particular_and_refused() {
    const NAME: &str = "a_user_without_a_number_here_is_nobody_in_particular_and_refused";
    if !as_root(NAME) || !inside(NAME, &["unshare", "--user"]) {
        return;
    }
    let myself = Peer::open(std::process::id());
    assert!(matches!(myself, Err(PinError::UnmappedUser { .. })), "{myself:?}");
}

#[tokio::test]
async fn without_rights_over_a_process_nothing_is_said_about_it() {
    const NAME: &str = "without_rights_over_a_process_nothing_is_said_about_it";
    if !as_root(NAME) || !inside(NAME, &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]) {
        return;
    }
    let init = Peer::open(1);
    assert!(matches!(init, Err(PinError::NoRights { pid: 1 })), "{init:?}");
    Peer::open(std::process::id()).expect("its own processes it may examine");
}

/// The next process of this pid namespace has this pid.
fn born_as(pid: u32) -> Puppet {
    for _ in 0..100 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root may choose");
        let born = Puppet::run(&mut Command::new(puppet()));
        if born.pid() == pid {
            return born;
        }
    }
    panic!("something else in this namespace takes the pids");
}

/// A thread of this process, so outside of whatever namespace the other side of the test runs in.
struct Stranger {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stranger {
    fn keep_connecting(socket: &Path) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let socket = socket.to_owned();
        let thread = std::thread::spawn(move || {
            while stopped
                .recv_timeout(Duration::from_millis(1))
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                drop(UnixStream::connect(&socket));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the stranger leaves");
        }
    }
}

/// More of them on demand: WRIT_TEST_ROUNDS=1000000.
fn rounds(usually: u64) -> u64 {
    env::var("WRIT_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

const DEADLINE: Duration = Duration::from_secs(20);
