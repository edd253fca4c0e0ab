//! Kernels that know less, played by a seccomp filter that answers as they do.

mod harness;

use std::time::Duration;

use harness::{Puppet, forbid, inside, open_directory};
use peer::{Changed, ListenError, Listener, Peer, Pinning};
use tokio::time::timeout;

#[test]
fn before_linux_6_5_the_start_is_refused_with_what_to_do_unless_by_pid_is_accepted() {
    const NAME: &str = "before_linux_6_5_the_start_is_refused_with_what_to_do_unless_by_pid_is_accepted";
    if !inside(NAME, &["env"]) {
        return;
    }
    forbid(libc::SYS_getsockopt, Some((2, libc::SO_PEERPIDFD as u32)), libc::ENOPROTOOPT);
    runtime().block_on(async {
        let directory = open_directory();
        let path = directory.path().join("workload.sock");
        let refused = Listener::bind(&path, 0o600, Pinning::ByPidfd);
        assert!(matches!(refused, Err(ListenError::OldKernel)), "{refused:?}");
        assert!(!path.exists(), "nothing was left behind");
        let listener = Listener::bind(&path, 0o600, Pinning::InsecureByPid).expect("it listens");
        let mut caller = Puppet::start();
        caller.connect(&listener);
        let (_stream, peer) = listener.accept().await;
        assert_eq!(peer.pid(), caller.pid());
        peer.check().expect("nothing changed");
        caller.kill();
        assert!(matches!(peer.check(), Err(Changed::Exited { .. })));
    });
}

#[test]
fn before_linux_6_13_ids_come_from_proc_and_are_the_same() {
    const NAME: &str = "before_linux_6_13_ids_come_from_proc_and_are_the_same";
    if !inside(NAME, &["env"]) {
        return;
    }
    let mut caller = Puppet::start();
    let known = *Peer::open(caller.pid()).expect("held").credentials();
    forbid(libc::SYS_ioctl, Some((1, libc::PIDFD_GET_INFO as u32)), libc::ENOTTY);
    runtime().block_on(async {
        let directory = open_directory();
        let path = directory.path().join("workload.sock");
        let listener = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens");
        caller.connect(&listener);
        let (_stream, peer) = listener.accept().await;
        assert_eq!(*peer.credentials(), known);
        peer.check().expect("nothing changed");
        if nix::unistd::geteuid().is_root() {
            caller.order("become-user 65534");
            assert!(matches!(peer.check(), Err(Changed::Credentials { .. })));
        }
        caller.kill();
        assert!(matches!(peer.check(), Err(Changed::Exited { .. })));
    });
}

/// On Linux 6.8 a process that was reaped looks like this, and it is no reason to go by its pid.
#[test]
fn a_reaped_caller_is_refused_also_where_the_kernel_calls_it_an_invalid_argument() {
    const NAME: &str = "a_reaped_caller_is_refused_also_where_the_kernel_calls_it_an_invalid_argument";
    if !inside(NAME, &["env"]) {
        return;
    }
    runtime().block_on(async {
        let directory = open_directory();
        let path = directory.path().join("workload.sock");
        let listener = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens");
        let mut caller = Puppet::start();
        forbid(libc::SYS_getsockopt, Some((2, libc::SO_PEERPIDFD as u32)), libc::EINVAL);
        caller.connect(&listener);
        let nobody = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(nobody.is_err());
        assert_eq!(listener.counts().refused(), 1);
    });
}

#[test]
fn before_linux_6_9_processes_are_told_apart_by_when_they_started() {
    const NAME: &str = "before_linux_6_9_processes_are_told_apart_by_when_they_started";
    if !inside(NAME, &["env"]) {
        return;
    }
    let (mut one, other) = (Puppet::start(), Puppet::start());
    forbid(libc::SYS_fstatfs, None, libc::ENOSYS);
    let held = Peer::open(one.pid()).expect("held");
    assert_eq!(held.process(), Peer::open(one.pid()).expect("held").process());
    assert_ne!(held.process(), Peer::open(other.pid()).expect("held").process());
    assert!(held.process().is_alive());
    one.kill();
    assert!(!held.process().is_alive());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
