//! The socket's file: who may have it, what it is replaced by, when it goes.

mod harness;

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
};

use harness::{inside, open_directory};
use peer::{ListenError, Listener, Pinning};

#[tokio::test]
async fn a_path_that_is_too_long_is_an_error_that_says_so() {
    let directory = open_directory();
    let room = 107 - directory.path().as_os_str().len() - 1;
    let fits = directory.path().join("s".repeat(room));
    let too_long = directory.path().join("s".repeat(room + 1));
    Listener::bind(&fits, 0o600, Pinning::ByPidfd).expect("107 bytes fit");
    let error = Listener::bind(&too_long, 0o600, Pinning::ByPidfd).expect_err("108 do not");
    assert!(error.to_string().contains("has 108 bytes and Linux takes 107"), "{error}");
}

#[tokio::test]
async fn a_socket_that_somebody_listens_on_is_left_alone() {
    let directory = open_directory();
    let path = directory.path().join("workload.sock");
    let first = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens");
    let second = Listener::bind(&path, 0o600, Pinning::ByPidfd);
    assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
    let _client = UnixStream::connect(&path).expect("the first one still listens");
    first.accept().await; // the question whether anybody listens was a connection too, of this process
}

#[tokio::test]
async fn a_listener_with_a_full_queue_is_alive_too() {
    let directory = open_directory();
    let path = directory.path().join("workload.sock");
    let busy = UnixListener::bind(&path).expect("it listens");
    nix::sys::socket::listen(&busy, nix::sys::socket::Backlog::new(0).expect("a backlog"))
        .expect("it listens");
    let _waiting = UnixStream::connect(&path).expect("one fits");
    let second = Listener::bind(&path, 0o600, Pinning::ByPidfd);
    assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
}

#[tokio::test]
async fn a_socket_left_behind_by_the_dead_is_replaced() {
    let directory = open_directory();
    let path = directory.path().join("workload.sock");
    drop(UnixListener::bind(&path).expect("it listens"));
    assert!(path.exists(), "nobody removed it");
    let listener = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens");
    let _client = UnixStream::connect(&path).expect("somebody listens again");
    listener.accept().await;
}

#[tokio::test]
async fn anything_but_a_socket_is_left_alone() {
    let directory = open_directory();
    let path = directory.path().join("workload.sock");
    fs::write(&path, "precious").expect("written");
    let refused = Listener::bind(&path, 0o600, Pinning::ByPidfd);
    assert!(matches!(refused, Err(ListenError::NotASocket { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "precious");
    let link = directory.path().join("link.sock");
    std::os::unix::fs::symlink("/nowhere/at/all", &link).expect("a link");
    assert!(matches!(Listener::bind(&link, 0o600, Pinning::ByPidfd), Err(ListenError::NotASocket { .. })));
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named() {
    let directory = open_directory();
    let path = directory.path().join("missing/workload.sock");
    let error = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect_err("nowhere to put it");
    assert!(error.to_string().contains("missing/workload.sock"), "{error}");
}

#[test]
fn the_mode_is_what_was_asked_for_under_any_umask() {
    const NAME: &str = "the_mode_is_what_was_asked_for_under_any_umask";
    for umask in ["000", "022", "077", "777"] {
        // The umask belongs to the whole process, so each has one of its own.
        if !inside(NAME, &["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"]) {
            continue;
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _entered = runtime.enter();
        let directory = open_directory();
        for mode in [0o600, 0o660, 0o777] {
            let path = directory.path().join(format!("{mode:o}.sock"));
            let _listener = Listener::bind(&path, mode, Pinning::ByPidfd).expect("it listens");
            let found = fs::symlink_metadata(&path).expect("it is there");
            assert!(found.file_type().is_socket());
            assert_eq!(found.permissions().mode() & 0o7777, mode);
        }
        return;
    }
}

#[tokio::test]
async fn the_file_goes_with_its_listener_but_never_with_a_successor() {
    let directory = open_directory();
    let path = directory.path().join("workload.sock");
    drop(Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens"));
    assert!(!path.exists());
    let first = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens");
    fs::rename(&path, directory.path().join("moved.sock")).expect("moved away");
    let _second = Listener::bind(&path, 0o600, Pinning::ByPidfd).expect("it listens");
    drop(first);
    assert!(path.exists());
}
