//! Copying a file or a folder while it is hashed, so that what was measured is what runs.
//!
//! The source is read with the rights of the user, who may change it at any moment; the copy can be written by
//! root alone. Whatever races there are at the source, the digest is of the bytes that lie in the copy.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256};
use nix::fcntl::OFlag;
use peer::launch::{AsUser, is_fixed};

use super::{Unmeasurable, measurement::Digest};

/// How much has been read, and how much may be.
pub(super) struct Meter<'a> {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) most_files: usize,
    pub(super) most_bytes: u64,
    pub(super) until: Instant,
    /// Is told now and then; `false` means that nobody waits any more.
    pub(super) progress: &'a mut dyn FnMut(usize, u64) -> bool,
    told: Instant,
}

/// What a copy holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// By path below the root of the copy, which is the empty path.
    entries: Vec<(PathBuf, Entry)>,
}

#[derive(Debug, Eq, PartialEq)]
enum Entry {
    Folder,
    File { is_executable: bool, size: u64, sha256: Digest },
    Link(PathBuf),
}

impl<'a> Meter<'a> {
    pub(super) fn new(
        files: usize,
        bytes: u64,
        time: Duration,
        progress: &'a mut dyn FnMut(usize, u64) -> bool,
    ) -> Self {
        let now = Instant::now();
        Self {
            files: 0,
            bytes: 0,
            most_files: files,
            most_bytes: bytes,
            until: now + time,
            progress,
            told: now,
        }
    }

    fn count(&mut self, files: usize, bytes: u64, of: &Path) -> Result<(), Unmeasurable> {
        self.files += files;
        self.bytes += bytes;
        if self.files > self.most_files {
            return Err(Unmeasurable::TooMany {
                what: "files",
                most: self.most_files as u64,
                of: of.to_owned(),
            });
        }
        if self.bytes > self.most_bytes {
            return Err(Unmeasurable::TooMany { what: "bytes", most: self.most_bytes, of: of.to_owned() });
        }
        let now = Instant::now();
        if now > self.until {
            return Err(Unmeasurable::TooSlow { of: of.to_owned() });
        }
        if now.duration_since(self.told) > TOLD_EVERY {
            self.told = now;
            if !(self.progress)(self.files, self.bytes) {
                return Err(Unmeasurable::NobodyWaits);
            }
        }
        Ok(())
    }
}

impl Contents {
    /// The hash of one file in it.
    pub(super) fn file(&self, path: &Path) -> Option<Digest> {
        self.entries.iter().find_map(|(known, entry)| match entry {
            Entry::File { sha256, .. } if known == path => Some(*sha256),
            _ => None,
        })
    }

    /// Whether there is anything below this path.
    pub(super) fn has_folder(&self, path: &Path) -> bool {
        self.entries.iter().any(|(known, entry)| known == path && *entry == Entry::Folder)
    }

    /// One digest over names, kinds and contents of everything below `within`.
    pub(super) fn digest(&self, within: &Path) -> Digest {
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(path, entry)| Some((path.strip_prefix(within).ok()?, entry)))
            .collect();
        entries.sort_by_key(|(path, _)| path.as_os_str());
        let mut context = Context::new(&SHA256);
        let mut put = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        put(b"writ-tree/v1");
        for (path, entry) in entries {
            put(path.as_os_str().as_bytes());
            match entry {
                Entry::Folder => put(b"folder"),
                Entry::File { is_executable, size, sha256 } => {
                    put(if *is_executable { b"program" } else { b"file" });
                    put(&size.to_be_bytes());
                    put(&sha256.0);
                }
                Entry::Link(target) => {
                    put(b"link");
                    put(target.as_os_str().as_bytes());
                }
            }
        }
        Digest::of(context.finish())
    }

    /// Paths of all files of this name.
    pub(super) fn named<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b Path> {
        self.entries
            .iter()
            .map(|(path, _)| path.as_path())
            .filter(move |path| path.file_name() == Some(OsStr::new(name)))
    }

    /// Paths of all files with this ending that lie directly in a folder called `folder`.
    pub(super) fn files_in<'b>(&'b self, folder: &'b str, ending: &'b str) -> impl Iterator<Item = &'b Path> {
        self.entries.iter().map(|(path, _)| path.as_path()).filter(move |path| {
            path.parent().and_then(Path::file_name) == Some(OsStr::new(folder))
                && path.extension() == Some(OsStr::new(ending))
        })
    }
}

/// Hashes what lies at `source`, and copies it to `copy` if there is one, which must not exist yet.
pub(super) fn take(
    user: &AsUser,
    source: &Path,
    copy: Option<&Path>,
    meter: &mut Meter<'_>,
) -> Result<Contents, Unmeasurable> {
    let mut contents = Contents::default();
    let found = user.act(|| fs::symlink_metadata(source)).map_err(unreadable(source))?;
    take_entry(user, source, Path::new(""), &found, copy, &mut contents, meter, 0)?;
    Ok(contents)
}

#[expect(clippy::too_many_arguments, reason = "a walk carries where it is on both sides")]
fn take_entry(
    user: &AsUser,
    source: &Path,
    path: &Path,
    found: &Metadata,
    copy: Option<&Path>,
    contents: &mut Contents,
    meter: &mut Meter<'_>,
    depth: usize,
) -> Result<(), Unmeasurable> {
    meter.count(1, 0, source)?;
    if depth > DEEPEST {
        return Err(Unmeasurable::TooDeep { of: source.to_owned() });
    }
    if found.is_dir() {
        if let Some(copy) = copy {
            fs::create_dir(copy).and_then(|()| mode(copy, 0o555 | 0o200)).map_err(uncopied(copy))?;
        }
        contents.entries.push((path.to_owned(), Entry::Folder));
        for name in names(user, source, meter)? {
            let below = source.join(&name);
            let found = match user.act(|| fs::symlink_metadata(&below)) {
                Ok(found) => found,
                // Gone while we looked; the copy lacks it too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(&below)(error)),
            };
            let copy = copy.map(|copy| copy.join(&name));
            take_entry(user, &below, &path.join(&name), &found, copy.as_deref(), contents, meter, depth + 1)?;
        }
    } else if found.is_symlink() {
        let target = user.act(|| fs::read_link(source)).map_err(unreadable(source))?;
        if !stays_inside(path, &target) && !leads_to_what_is_fixed(user, &target) {
            return Err(Unmeasurable::LeadsOut { link: source.to_owned(), target });
        }
        if let Some(copy) = copy {
            symlink(&target, copy).map_err(uncopied(copy))?;
        }
        contents.entries.push((path.to_owned(), Entry::Link(target)));
    } else if found.is_file() {
        let entry = take_file(user, source, copy, meter)?;
        contents.entries.push((path.to_owned(), entry));
    }
    // Sockets, pipes and devices are no program; the copy lacks them.
    Ok(())
}

fn take_file(
    user: &AsUser,
    source: &Path,
    copy: Option<&Path>,
    meter: &mut Meter<'_>,
) -> Result<Entry, Unmeasurable> {
    let mut file = open(user, source, OFlag::O_NOFOLLOW)?;
    let is_executable = file.metadata().map_err(unreadable(source))?.permissions().mode() & 0o111 != 0;
    let (size, sha256) = copy_file(&mut file, source, copy, is_executable, meter)?;
    Ok(Entry::File { is_executable, size, sha256 })
}

/// Opens a regular file as `user` could, and nothing that would make the agent wait, such as a pipe.
pub(super) fn open(user: &AsUser, path: &Path, how: OFlag) -> Result<File, Unmeasurable> {
    let flags = how | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = user.act(|| OpenOptions::new().read(true).custom_flags(flags.bits()).open(path));
    let file = opened.map_err(unreadable(path))?;
    match file.metadata().map_err(unreadable(path))?.is_file() {
        true => Ok(file),
        false => Err(Unmeasurable::NoFormat(path.to_owned())),
    }
}

/// Hashes an open file, and writes the same bytes to `copy`.
pub(super) fn copy_file(
    file: &mut File,
    source: &Path,
    copy: Option<&Path>,
    is_executable: bool,
    meter: &mut Meter<'_>,
) -> Result<(u64, Digest), Unmeasurable> {
    let mut to = match copy {
        Some(copy) => Some(
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy).map_err(uncopied(copy))?,
        ),
        None => None,
    };
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(source)(error)),
        };
        size += n as u64;
        meter.count(0, n as u64, source)?;
        context.update(&buffer[..n]);
        if let (Some(to), Some(copy)) = (&mut to, copy) {
            to.write_all(&buffer[..n]).map_err(uncopied(copy))?;
        }
    }
    if let (Some(to), Some(copy)) = (to, copy) {
        to.set_permissions(fs::Permissions::from_mode(if is_executable { 0o555 } else { 0o444 }))
            .map_err(uncopied(copy))?;
    }
    Ok((size, Digest::of(context.finish())))
}

/// The names in a folder, sorted, without those that no program needs and that would change its measurement.
fn names(user: &AsUser, folder: &Path, meter: &Meter<'_>) -> Result<Vec<std::ffi::OsString>, Unmeasurable> {
    let entries = user.act(|| fs::read_dir(folder)).map_err(unreadable(folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable(folder))?.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if names.len() >= meter.most_files {
            return Err(Unmeasurable::TooMany {
                what: "files",
                most: meter.most_files as u64,
                of: folder.to_owned(),
            });
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// Whether a link that lies at `path` of a tree leads nowhere else: `..` only at its start, and no more of them
/// than there are folders above it. What it passes on the way are folders of the tree, or links like it.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let above = path.components().count().saturating_sub(1);
    let mut parts = target.components().peekable();
    let mut up = 0;
    while parts.next_if(|part| matches!(part, Component::ParentDir)).is_some() {
        up += 1;
    }
    up <= above
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        && !target.as_os_str().is_empty()
}

fn leads_to_what_is_fixed(user: &AsUser, target: &Path) -> bool {
    target.is_absolute() && matches!(user.act(|| is_fixed(target)), Ok(Ok(_)))
}

fn mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(super) fn unreadable(path: &Path) -> impl Fn(io::Error) -> Unmeasurable + use<> {
    let path = path.to_owned();
    move |source| Unmeasurable::Unreadable { path: path.clone(), source }
}

pub(super) fn uncopied(path: &Path) -> impl Fn(io::Error) -> Unmeasurable + use<> {
    let path = path.to_owned();
    move |source| Unmeasurable::Uncopied { path: path.clone(), source }
}

/// Not a part of any program: what tools for sources keep, and what Python makes of sources it is given.
const LEFT_OUT: [&str; 4] = [".git", ".hg", ".svn", "__pycache__"];
const DEEPEST: usize = 64;
const TOLD_EVERY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(source: &Path, copy: Option<&Path>) -> Result<Contents, Unmeasurable> {
        let mut nobody = |_, _| true;
        let mut meter = Meter::new(100, 1 << 20, Duration::from_secs(60), &mut nobody);
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let source = source.to_owned();
        let user = AsUser::on_this_thread(uid, gid, &[]).unwrap();
        take(&user, &source, copy, &mut meter)
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        fs::create_dir_all(app.join("lib/__pycache__")).unwrap();
        fs::write(app.join("main.py"), "import lib").unwrap();
        fs::write(app.join("lib/a.py"), "1").unwrap();
        fs::write(app.join("lib/__pycache__/a.pyc"), "evil").unwrap();
        symlink("lib/a.py", app.join("link")).unwrap();
        (folder, app)
    }

    #[test]
    fn the_copy_holds_what_was_hashed_and_lacks_what_is_left_out() {
        let (folder, app) = folder();
        let copy = folder.path().join("copy");
        let contents = taken(&app, Some(&copy)).unwrap();
        assert_eq!(fs::read(copy.join("main.py")).unwrap(), b"import lib");
        assert_eq!(fs::read(copy.join("link")).unwrap(), b"1");
        assert!(!copy.join("lib/__pycache__").exists());
        let again = taken(&copy, None).unwrap();
        assert_eq!(contents.digest(Path::new("")), again.digest(Path::new("")), "the copy measures the same");
    }

    #[test]
    fn every_change_changes_the_digest() {
        let (_folder, app) = folder();
        let digest = || taken(&app, None).unwrap().digest(Path::new(""));
        let mut seen = vec![digest()];
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(app.join("lib/a.py"), "2").unwrap(),
            &|| fs::rename(app.join("lib/a.py"), app.join("lib/b.py")).unwrap(),
            &|| mode(&app.join("main.py"), 0o755).unwrap(),
            &|| fs::create_dir(app.join("empty")).unwrap(),
            &|| {
                fs::remove_file(app.join("link")).unwrap();
                symlink("main.py", app.join("link")).unwrap();
            },
        ];
        for change in changes {
            change();
            let now = digest();
            assert!(!seen.contains(&now));
            seen.push(now);
        }
    }

    #[test]
    fn a_link_out_of_the_tree_is_refused_unless_only_root_can_change_what_is_there() {
        for (path, target, stays) in [
            ("a/b", "../c", true),
            ("a/b", "c/d", true),
            ("a/b", "../../c", false),
            ("a/b", "c/../../../d", false),
            ("a/b", "c/../d", false),
            ("b", "/etc/passwd", false),
            ("b", "", false),
        ] {
            assert_eq!(stays_inside(Path::new(path), Path::new(target)), stays, "{path} -> {target}");
        }
        let (folder, app) = folder();
        fs::write(folder.path().join("outside"), "x").unwrap();
        symlink("../outside", app.join("out")).unwrap();
        assert!(matches!(taken(&app, None), Err(Unmeasurable::LeadsOut { .. })));
    }

    #[test]
    fn a_tree_that_is_too_large_is_refused() {
        let (_folder, app) = folder();
        fs::write(app.join("big"), vec![0; (1 << 20) + 1]).unwrap();
        assert!(matches!(taken(&app, None), Err(Unmeasurable::TooMany { what: "bytes", .. })));
        fs::remove_file(app.join("big")).unwrap();
        for n in 0..100 {
            fs::write(app.join(format!("{n}")), "").unwrap();
        }
        assert!(matches!(taken(&app, None), Err(Unmeasurable::TooMany { what: "files", .. })));
    }
}
