//! The file of a listening Unix socket: made with its mode from the first moment, a stale one replaced,
//! a living one left alone, and taken away at the end.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use rustix::fs::{Mode, fchmod};

use crate::Image;

/// Why a socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Longer than the kernel takes.
    #[error("socket path {} has {} bytes and Linux takes 107; choose a shorter directory", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens there.
    #[error("another process listens on {}; stop it or choose another directory", path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something else by that name.
    #[error("{} exists and is not a socket; move it away", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// This kernel cannot say who connected.
    #[error(
        "this kernel has no SO_PEERPIDFD, so a process cannot be told from a later one with its pid; use Linux 6.5 or later, or set insecure_peer_by_pid = true to accept that"
    )]
    OldKernel,
    /// /proc belongs to another pid namespace.
    #[error("/proc shows another pid namespace than this process lives in; mount the right one on /proc")]
    ForeignProc,
    /// Anything else.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// The name of a bound socket in the file system; dropping it removes the file, if it is still that one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    file: Image,
}

impl SocketFile {
    /// Binds and listens on `path`, which gets exactly `mode` whatever the umask.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<(UnixListener, Self), ListenError> {
        let failed = |doing| move |source| ListenError::Io { doing, path: path.to_owned(), source };
        if path.as_os_str().as_bytes().len() > MAX_PATH {
            return Err(ListenError::PathTooLong { path: path.to_owned() });
        }
        clear_stale(path)?;
        let socket = new_socket(mode).map_err(failed("make a socket for"))?;
        match UnixAddr::new(path).and_then(|address| bind(socket.as_raw_fd(), &address)) {
            Err(nix::Error::EADDRINUSE) => return Err(ListenError::InUse { path: path.to_owned() }),
            done => done.map_err(|error| failed("bind")(error.into()))?,
        }
        // The umask has taken from the mode what it would; only widening is left to do, so that at no
        // time it was wider than asked for.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of"))?;
        let file = Image::at_name(path).map_err(failed("examine"))?;
        let name = Self { path: path.to_owned(), file };
        listen(&socket, Backlog::MAXCONN).map_err(|error| failed("listen on")(error.into()))?;
        Ok((socket.into(), name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Image::at_name(&self.path).is_ok_and(|found| found.is(&self.file)) {
            // If it stays, the next start finds it stale.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn new_socket(mode: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Linux gives the file of a bound socket the mode of the socket itself, less the umask.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    Ok(socket)
}

/// Removes what a killed process left behind. That nobody listens is asked, never assumed.
fn clear_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |doing| move |source| ListenError::Io { doing, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("examine")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match probe(path) {
        Ok(()) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => fs::remove_file(path).map_err(failed("remove the stale")),
            Some(libc::EAGAIN) => Err(ListenError::InUse { path: path.to_owned() }), // its queue is full
            _ => Err(failed("find out who listens on")(error)),
        },
    }
}

/// Connects without waiting: a listener whose queue is full would block a plain connect for ever.
fn probe(path: &Path) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    drop(UnixStream::from(socket));
    Ok(())
}

/// `sun_path` less its final NUL.
const MAX_PATH: usize = 107;
