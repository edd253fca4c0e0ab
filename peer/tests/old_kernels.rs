//! Kernels that know less, played by a seccomp filter that answers as they do.

mod harness;

use harness::{Puppet, inside, open_directory};
use peer::{Changed, ListenError, Listener, Pinning};

#[test]
fn before_linux_6_5_the_start_is_refused_with_what_to_do_unless_by_pid_is_accepted() {
    const NAME: &str = "before_linux_6_5_the_start_is_refused_with_what_to_do_unless_by_pid_is_accepted";
    if !inside(NAME, &["env"]) {
        return;
    }
    forbid(libc::SYS_getsockopt, 2, libc::SO_PEERPIDFD as u32, libc::ENOPROTOOPT);
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
    let known = *peer::Peer::open(caller.pid()).expect("held").credentials();
    forbid(libc::SYS_ioctl, 1, libc::PIDFD_GET_INFO as u32, libc::ENOTTY);
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

/// From now on, in this thread and what it starts, `call` fails with `error` when its argument number
/// `index` is `value`.
fn forbid(call: libc::c_long, index: u32, value: u32, error: i32) {
    let step = |code: u32, jump_true: u8, jump_false: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let ret = libc::BPF_RET | libc::BPF_K;
    // struct seccomp_data: nr at 0, args at 16, each of 8 bytes with the low half first on this machine.
    const { assert!(cfg!(target_endian = "little")) };
    let mut steps = [
        step(load, 0, 0, 0),
        step(equals, 0, 3, call as u32),
        step(load, 0, 0, 16 + 8 * index),
        step(equals, 0, 1, value),
        step(ret, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(ret, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: both calls only read what is passed: numbers, and a program that lives until they return.
    #[expect(unsafe_code, reason = "no safe wrapper of seccomp filters is at hand")]
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
