//! Where everything lies.

use std::{
    env,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;

use crate::disk::{DiskError, socket_path};

const PACKAGED_STATE: &str = "/var/lib/writ";
const PACKAGED_RUN: &str = "/run/writ";

/// The directories of one installation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// What survives a reboot; below it `server` and `agent`, closed to others.
    pub state: PathBuf,
    /// Sockets for administrators, and what lives as long as the machine is up; closed to others.
    pub private: PathBuf,
    /// The sockets for every process, and nothing else: it can be mounted into a container whole.
    pub public: PathBuf,
}

impl Layout {
    /// Everything under one directory.
    pub fn under(data: &Path) -> Self {
        Self { state: data.join("state"), private: data.join("private"), public: data.join("public") }
    }

    /// Where a package puts it.
    pub fn packaged() -> Self {
        let run = Path::new(PACKAGED_RUN);
        Self { state: PACKAGED_STATE.into(), private: run.join("private"), public: run.join("public") }
    }

    /// `data` where it is given; else the packaged places for root on a machine where a package
    /// made them; else `$XDG_DATA_HOME/writ`. `None` where no home directory is known either.
    pub fn choose(data: Option<&Path>) -> Option<Self> {
        match data {
            Some(data) => Some(Self::under(data)),
            None if geteuid().is_root() && Path::new(PACKAGED_STATE).is_dir() => Some(Self::packaged()),
            None => own_data_dir().map(|data| Self::under(&data)),
        }
    }

    /// The server's state: log, keys.
    pub fn server_state(&self) -> PathBuf {
        self.state.join("server")
    }

    /// The agent's state: its key, its certificate, its view.
    pub fn agent_state(&self) -> PathBuf {
        self.state.join("agent")
    }

    /// The socket on which a server's administrator speaks.
    pub fn server_socket(&self) -> Result<PathBuf, DiskError> {
        socket_path(self.private.join("server.sock"))
    }

    /// The socket on which an agent's administrator speaks.
    pub fn agent_socket(&self) -> Result<PathBuf, DiskError> {
        socket_path(self.private.join("agent.sock"))
    }

    /// The socket on which any process asks who it is.
    pub fn workload_socket(&self) -> Result<PathBuf, DiskError> {
        socket_path(self.public.join("workload.sock"))
    }

    /// The socket on which gates ask what a process's task may do.
    pub fn authz_socket(&self) -> Result<PathBuf, DiskError> {
        socket_path(self.public.join("authz.sock"))
    }
}

/// `$XDG_DATA_HOME/writ`, where XDG's rule is that a relative path does not count.
fn own_data_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data_home =
        absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")))?;
    Some(data_home.join("writ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_holds_three_trees() {
        let layout = Layout::choose(Some(Path::new("/srv/w"))).unwrap();
        assert_eq!(layout.server_state(), Path::new("/srv/w/state/server"));
        assert_eq!(layout.agent_state(), Path::new("/srv/w/state/agent"));
        assert_eq!(layout.server_socket().unwrap(), Path::new("/srv/w/private/server.sock"));
        assert_eq!(layout.agent_socket().unwrap(), Path::new("/srv/w/private/agent.sock"));
        assert_eq!(layout.workload_socket().unwrap(), Path::new("/srv/w/public/workload.sock"));
        assert_eq!(layout.authz_socket().unwrap(), Path::new("/srv/w/public/authz.sock"));
    }
}
