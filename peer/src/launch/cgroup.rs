//! [`Cgroup`]: a cgroup of version 2 that this process made for one command.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A directory of the cgroup file system, known by its path and by a number that no later one has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cgroup {
    path: String,
    id: u64,
}

/// Why no cgroup can be made, and what is missing.
#[derive(Debug, thiserror::Error)]
pub enum NoCgroup {
    /// Version 2 is not mounted.
    #[error(
        "this machine has no cgroup2 file system; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoVersion2,
    /// A path that leads out of the agent's own view.
    #[error("the cgroup {0} lies outside of the agent's cgroup namespace; run the agent in the host's")]
    Outside(String),
    /// A version 1 hierarchy whose limits could not be kept.
    #[error(
        "the cgroup {path} of the hierarchy {hierarchy} cannot be entered: {source}; mount that hierarchy"
    )]
    Version1 {
        /// Its controllers.
        hierarchy: String,
        /// Where the asker is in it.
        path: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No rights, usually.
    #[error("cannot {doing} the cgroup {}: {source}; run the agent as root", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Cgroup {
    /// Makes one with this name below that in which a process with these `cgroups` lives, so that whatever
    /// limits or ends that one limits or ends this one too.
    pub fn make_below(cgroups: &str, name: &str) -> Result<Self, NoCgroup> {
        let parent = version_2(cgroups).ok_or(NoCgroup::NoVersion2)?;
        if parent.split('/').any(|segment| segment == "..") {
            return Err(NoCgroup::Outside(parent.to_owned()));
        }
        let mut path = parent.trim_end_matches('/').to_owned();
        // Writing to a string cannot fail.
        let _ = write!(path, "/{PREFIX}{name}");
        let directory = directory(&path).ok_or(NoCgroup::NoVersion2)?;
        let failed = |doing| {
            let path = directory.clone();
            move |source| NoCgroup::Io { doing, path, source }
        };
        fs::create_dir(&directory).map_err(failed("make"))?;
        let id = own(&directory).map_err(failed("keep"))?;
        Ok(Self { path, id })
    }

    /// The one of this path that is there now.
    pub fn find(path: &str) -> io::Result<Self> {
        let directory = directory(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { path: path.to_owned(), id: fs::metadata(directory)?.ino() })
    }

    /// As /proc/PID/cgroup shows it behind `0::`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The number of its directory. The kernel gives it to no other before the next boot.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is still there, and not another one of its name.
    pub fn is_there(&self) -> bool {
        Self::find(&self.path).is_ok_and(|found| found == *self)
    }

    /// Whether no process is in it, nor below it. One that is gone is empty.
    pub fn is_empty(&self) -> bool {
        match fs::read_to_string(self.file("cgroup.events")) {
            Ok(events) => events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Returns when no process is in it. Must be awaited inside a Tokio runtime.
    pub async fn emptied(&self) -> io::Result<()> {
        let events = match File::open(self.file("cgroup.events")) {
            Ok(events) => watched(events)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        loop {
            // The kernel says that it changed until it is read again, so it is read before each waiting.
            let mut text = String::new();
            let mut file = events.get_ref();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
            if read.is_err() || text.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            events.ready(Interest::PRIORITY).await?.clear_ready();
        }
    }

    /// Whether a process with these `cgroups` (the text of /proc/PID/cgroup) is in it or below it, now.
    pub fn holds(&self, cgroups: &str) -> bool {
        let is_below = |path: &str| {
            path.strip_prefix(self.path.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        version_2(cgroups).is_some_and(|path| path == self.path || is_below(path)) && self.is_there()
    }

    /// The numbers of the processes that are in it and below it at this moment.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        if self.is_there() {
            processes_below(&directory(&self.path).ok_or(io::ErrorKind::NotFound)?, DEEPEST, &mut found)?;
        }
        Ok(found)
    }

    /// Kills every process in it and below it.
    pub fn kill(&self) -> io::Result<()> {
        if !self.is_ours() || !self.is_there() {
            return Ok(());
        }
        File::options().write(true).open(self.file("cgroup.kill"))?.write_all(b"1")
    }

    /// Removes it with what its processes made below it. It must be empty.
    pub fn remove(&self) -> io::Result<()> {
        match directory(&self.path) {
            Some(directory) if self.is_ours() && self.is_there() => remove_tree(&directory, DEEPEST),
            _ => Ok(()),
        }
    }

    /// Whether it was made here. Whatever a record says, nobody else's cgroup is killed or removed.
    fn is_ours(&self) -> bool {
        self.path.rsplit('/').next().is_some_and(|name| name.starts_with(PREFIX))
    }

    /// The file to which a process writes `0` to enter it.
    pub(super) fn entrance(&self) -> Result<OwnedFd, NoCgroup> {
        let path = self.file("cgroup.procs");
        let opened = File::options().write(true).open(&path);
        opened.map(OwnedFd::from).map_err(|source| NoCgroup::Io { doing: "enter", path, source })
    }

    fn file(&self, name: &str) -> PathBuf {
        directory(&self.path).unwrap_or_default().join(name)
    }
}

/// The entrances to every hierarchy of version 1 in which a process with these `cgroups` is elsewhere than
/// this one, so that a command stays under the limits that it has there.
pub(super) fn entrances_of_version_1(cgroups: &str) -> Result<Vec<OwnedFd>, NoCgroup> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = mounts();
    let mut entrances = Vec::new();
    for line in cgroups.lines().filter(|line| !own.lines().any(|own| own == *line)) {
        let Some((hierarchy, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':')) else {
            continue;
        };
        if hierarchy.is_empty() {
            continue; // version 2
        }
        let failed =
            |source| NoCgroup::Version1 { hierarchy: hierarchy.to_owned(), path: path.to_owned(), source };
        let mount = mounts.iter().find(|mount| mount.is_of(hierarchy));
        let mount = mount.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        if path.split('/').any(|segment| segment == "..") {
            return Err(NoCgroup::Outside(path.to_owned()));
        }
        let procs = mount.at.join(path.trim_start_matches('/')).join("cgroup.procs");
        entrances.push(File::options().write(true).open(procs).map_err(failed)?.into());
    }
    Ok(entrances)
}

/// The path of version 2 in the text of /proc/PID/cgroup.
fn version_2(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where a cgroup of version 2 lies in the file system.
fn directory(path: &str) -> Option<PathBuf> {
    let mounts = mounts();
    let mount = mounts.into_iter().find(|mount| mount.kind == "cgroup2")?;
    Some(mount.at.join(path.trim_start_matches('/')))
}

/// The number of a directory that was just made. Whoever owns the one above may have put another of the same name
/// in its place by now, and would own what is launched in there.
fn own(directory: &Path) -> io::Result<u64> {
    let made = fs::symlink_metadata(directory)?;
    let is_own = made.is_dir() && made.uid() == rustix::process::geteuid().as_raw();
    if is_own { Ok(made.ino()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// A mounted hierarchy.
struct Mount {
    at: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    fn is_of(&self, hierarchy: &str) -> bool {
        let has = |controller: &str| self.options.split(',').any(|option| option == controller);
        self.kind == "cgroup" && hierarchy.split(',').all(has)
    }
}

fn mounts() -> Vec<Mount> {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().filter_map(mount).collect()
}

/// A whole hierarchy as this process sees it; one mounted in part would give paths another meaning.
fn mount(line: &str) -> Option<Mount> {
    let (place, about) = line.split_once(" - ")?;
    let mut about = about.split(' ');
    let kind = about.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    let mut place = place.split(' ').skip(3);
    let (root, at) = (place.next()?, place.next()?);
    let is_plain = root == "/" && !at.contains('\\');
    let options = about.nth(1).unwrap_or_default().to_owned();
    is_plain.then(|| Mount { at: PathBuf::from(at), kind: kind.to_owned(), options })
}

fn watched(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: the AsyncFd owns the file, so its descriptor stays open for as long as it is registered, and
    // the number that a File gives never changes.
    #[expect(unsafe_code, reason = "tokio leaves it to the caller that the descriptor stays open")]
    let watched = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }?;
    Ok(watched)
}

fn processes_below(directory: &Path, deep: usize, found: &mut Vec<u32>) -> io::Result<()> {
    // One of threads alone has no list of processes; those are listed above it.
    let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    found.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
    if deep == 0 {
        return Ok(());
    }
    for below in fs::read_dir(directory)?.flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            match processes_below(&below.path(), deep - 1, found) {
                // It was removed meanwhile, so nobody is in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => read?,
            }
        }
    }
    Ok(())
}

fn remove_tree(directory: &Path, deep: usize) -> io::Result<()> {
    if deep > 0 {
        for below in fs::read_dir(directory)?.flatten() {
            if below.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&below.path(), deep - 1)?;
            }
        }
    }
    fs::remove_dir(directory)
}

const DEEPEST: usize = 32;
/// What the names of all of them begin with.
pub const PREFIX: &str = "writ-launch-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_found_by_all_of_its_controllers() {
        let line =
            "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let found = mount(line).expect("a hierarchy");
        assert!(found.is_of("cpu,cpuacct") && found.is_of("cpu") && !found.is_of("cpu,memory"));
        let named = mount("31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd");
        assert!(named.expect("a hierarchy").is_of("name=systemd"));
    }

    #[test]
    fn a_part_of_a_hierarchy_and_anything_else_is_passed_over() {
        for line in [
            "30 25 0:26 /docker/abc /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            "30 25 0:26 / /sys/fs/cgroup\\040x rw - cgroup2 cgroup2 rw",
            "30 25 8:1 / / rw - ext4 /dev/vda rw",
            "",
        ] {
            assert!(mount(line).is_none(), "{line}");
        }
    }

    #[test]
    fn a_directory_that_somebody_else_put_in_place_of_the_own_one_is_not_taken_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = folder.path().join("made");
        fs::create_dir(&made).expect("it is ours");
        let before = own(&made).expect("it is the one that was made");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&made, &link).expect("it is ours");
        assert!(own(&link).is_err(), "a link leads to what its owner likes");
        // Root gives one away; anybody else finds one of root's.
        let of_another = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&made, Some(65_534), Some(65_534)).expect("root may");
            made.clone()
        } else {
            PathBuf::from("/")
        };
        assert!(own(&of_another).is_err());
        fs::remove_dir(&made).expect("it is ours");
        assert!(own(&made).is_err(), "it is gone");
        fs::create_dir(&made).expect("it is ours");
        assert!(own(&made).is_ok() && before > 0);
    }

    #[test]
    fn a_name_that_is_taken_makes_no_cgroup() {
        let Ok(own) = fs::read_to_string("/proc/self/cgroup") else { return };
        let name = format!("taken-{}", std::process::id());
        // Without rights there is none to begin with.
        let Ok(first) = Cgroup::make_below(&own, &name) else { return };
        assert!(matches!(Cgroup::make_below(&own, &name), Err(NoCgroup::Io { doing: "make", .. })));
        assert!(first.is_there());
        fs::remove_dir(directory(first.path()).expect("it is mounted")).expect("it is empty");
        assert!(!first.is_there());
    }

    #[test]
    fn nothing_is_made_outside_of_the_own_view() {
        assert!(matches!(Cgroup::make_below("0::/../x", "n"), Err(NoCgroup::Outside(_))));
        assert!(matches!(Cgroup::make_below("4:memory:/x", "n"), Err(NoCgroup::NoVersion2)));
    }
}
