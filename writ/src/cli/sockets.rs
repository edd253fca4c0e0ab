//! Which server and which agent a command speaks to: `--socket`, then `--data` (or `WRIT_DATA`), then
//! `SPIFFE_ENDPOINT_SOCKET` for commands of workloads, then the places where `writ up` or a package
//! puts them.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use daemon::{Layout, disk::socket_path};

use super::Usage;

/// Options that every command has for finding its server or agent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Sockets {
    /// The Unix socket to speak to, as a path or as unix:///path.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The data directory of the `writ up` to speak to.
    #[arg(long, global = true, value_name = "DIR", env = "WRIT_DATA", hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
}

impl Sockets {
    /// The directories that `--data` or the defaults name.
    pub(crate) fn layout(&self) -> Result<Layout> {
        let data =
            self.data.as_deref().map(std::path::absolute).transpose().context("cannot resolve --data")?;
        Layout::choose(data.as_deref())
            .context("there is no home directory to look in; name one with --data DIR")
    }

    /// The server's administrative socket.
    pub(crate) fn server(&self) -> Result<PathBuf> {
        match &self.socket {
            Some(path) => named(path),
            None => Ok(self.layout()?.server_socket()?),
        }
    }

    /// The agent's administrative socket.
    pub(crate) fn agent(&self) -> Result<PathBuf> {
        match &self.socket {
            Some(path) => named(path),
            None => Ok(self.layout()?.agent_socket()?),
        }
    }

    /// The socket on which a workload asks who it is.
    pub(crate) fn workload(&self) -> Result<PathBuf> {
        if let Some(path) = &self.socket {
            return named(path);
        }
        match env::var_os("SPIFFE_ENDPOINT_SOCKET") {
            Some(address) if self.data.is_none() => {
                from_address(&address).map_err(|why| wrong("SPIFFE_ENDPOINT_SOCKET is", &address, &why))
            }
            _ => Ok(self.layout()?.workload_socket()?),
        }
    }

    /// The agent's socket for gates.
    #[cfg(feature = "agent")]
    pub(crate) fn authz(&self) -> Result<PathBuf> {
        match &self.socket {
            Some(path) => named(path),
            None => Ok(self.layout()?.authz_socket()?),
        }
    }

    /// Where to ask about another process: an administrator's socket where this user may use it, as it
    /// says more, else the workloads'.
    pub(crate) fn explain(&self) -> Result<PathBuf> {
        if let Some(path) = &self.socket {
            return named(path);
        }
        match self.layout().and_then(|layout| Ok(layout.agent_socket()?)) {
            Ok(path) if UnixStream::connect(&path).is_ok() => Ok(path),
            _ => self.workload(),
        }
    }
}

/// What to do where nobody answers on `socket`.
pub(crate) fn way_out(socket: &Path, role: &str) -> String {
    match UnixStream::connect(socket) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("ask as root or as the user that runs the {role}")
        }
        _ => format!("start one with `writ up`, or name the {role}'s socket with --socket or --data"),
    }
}

/// A path that a person gave, in either form.
fn named(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().as_bytes().starts_with(b"unix:") {
        return from_address(path.as_os_str()).map_err(|why| wrong("--socket is", path.as_os_str(), &why));
    }
    Ok(socket_path(path.to_owned())?)
}

fn wrong(what: &str, address: &OsStr, why: &anyhow::Error) -> anyhow::Error {
    Usage(format!("{what} {address:?}: {why}")).into()
}

/// SPIFFE Workload Endpoint, section 4: `unix:///absolute/path`, without an authority.
fn from_address(address: &OsStr) -> Result<PathBuf> {
    let Some(rest) = address.as_bytes().strip_prefix(b"unix:") else {
        anyhow::bail!("only Unix sockets are spoken to; write unix:///path/to/workload.sock");
    };
    let path = rest.strip_prefix(b"//").unwrap_or(rest);
    if !path.starts_with(b"/") || path.contains(&b'?') || path.contains(&b'#') {
        anyhow::bail!(
            "the address of a Unix socket is unix:// and an absolute path, for example unix:///run/writ/public/workload.sock"
        );
    }
    Ok(socket_path(PathBuf::from(OsStr::from_bytes(path)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_unix_and_an_absolute_path() {
        assert_eq!(from_address(OsStr::new("unix:///run/w.sock")).unwrap(), Path::new("/run/w.sock"));
        for wrong in
            ["unix://host/w.sock", "unix:relative", "tcp://127.0.0.1:1", "/run/w.sock", "unix:///w?x", ""]
        {
            assert!(from_address(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_named_socket_wins_over_a_named_directory() {
        let both = Sockets { socket: Some("/a.sock".into()), data: Some("/srv/w".into()) };
        assert_eq!(both.server().unwrap(), Path::new("/a.sock"));
        let data = Sockets { socket: None, data: Some("/srv/w".into()) };
        assert_eq!(data.server().unwrap(), Path::new("/srv/w/private/server.sock"));
        assert_eq!(data.workload().unwrap(), Path::new("/srv/w/public/workload.sock"));
    }
}
