//! [`Plan`]: which files a command is made of, found with the rights of the user who asks.
//!
//! Nothing here is trusted later: a plan only names what is to be copied. What is then run are the copies,
//! and interpreters that only root can change.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::PermissionsExt as _,
        },
    },
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use peer::launch::{AsUser, Surroundings, is_fixed};

use super::{
    Unmeasurable,
    shape::{Code, Kind, Shape},
    tree::{self, unreadable},
};

/// What is to be copied, and how the copies are run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    /// The file to execute, as it is called when all links are resolved.
    pub(super) program: PathBuf,
    /// Whether only root can change it. If not, its copy is run.
    pub(super) is_fixed: bool,
    pub(super) name: Word,
    pub(super) arguments: Vec<Word>,
    /// The first argument that the program itself gets.
    pub(super) own: usize,
    pub(super) trees: Vec<Tree>,
    /// The file that holds the code, below the tree of this number.
    pub(super) script: Option<(usize, PathBuf)>,
    /// Where the command begins, if that is a part of the program.
    pub(super) directory: Option<PathBuf>,
    /// Arguments of the program itself that name files.
    pub(super) named: Vec<String>,
    /// What the operator's rules call this program.
    pub(super) path: PathBuf,
}

/// Something to copy: a folder, or a file.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) source: PathBuf,
    /// Where it goes, below the folder of the launch.
    pub(super) at: PathBuf,
}

/// An argument.
#[derive(Debug)]
pub(super) enum Word {
    /// As it was given.
    Plain(OsString),
    /// A copy, by its path below the folder of the launch.
    Copy(PathBuf),
    /// Copies for a class path; true is `/*` behind the folder.
    ClassPath(Vec<(PathBuf, bool)>),
}

impl Word {
    /// The argument as the program gets it when its copies lie in `folder`.
    pub(super) fn within(&self, folder: &Path) -> OsString {
        match self {
            Self::Plain(word) => word.clone(),
            Self::Copy(path) => folder.join(path).into_os_string(),
            Self::ClassPath(entries) => {
                let entry = |(path, all): &(PathBuf, bool)| {
                    let mut entry = folder.join(path).into_os_string();
                    if *all {
                        entry.push("/*");
                    }
                    entry
                };
                entries.iter().map(entry).collect::<Vec<_>>().join(OsStr::new(":"))
            }
        }
    }
}

/// A program file with the arguments for it.
struct Found {
    /// Absolute; links are not resolved.
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Plan {
    /// What this command is made of for a process with these surroundings.
    pub(super) fn of(
        user: &AsUser,
        surroundings: &Surroundings,
        command: &[OsString],
    ) -> Result<Self, Unmeasurable> {
        let here = directory(surroundings)?;
        let (name, arguments) = command.split_first().ok_or(Unmeasurable::NoProgram)?;
        let path = find(user, name, surroundings.variable("PATH"), &here)?;
        let found = Found { path, arguments: arguments.to_vec() };
        let Found { path, arguments } = interpreted(user, found, surroundings.variable("PATH"), &here)?;
        let program = user.act(|| fs::canonicalize(&path)).map_err(unreadable(&path))?;
        let kind = Kind::of(program.file_name().unwrap_or_default())?;
        let fixed = is_fixed(&program).map_err(unreadable(&program))?;
        if let (Err(place), Kind::Python | Kind::Java | Kind::Shell) = (&fixed, kind) {
            return Err(Unmeasurable::Loose { program, place: place.clone() });
        }
        let shape = Shape::of(kind, &arguments)?;
        let name = if fixed.is_err() {
            Word::Copy(Path::new("bin").join(program.file_name().unwrap_or_default()))
        } else if matches!(is_fixed(&path), Ok(Ok(_))) {
            Word::Plain(path.clone().into())
        } else {
            // Some programs look for more beside the name that they were called by.
            Word::Plain(program.clone().into())
        };
        let mut plan = Self {
            kind,
            is_fixed: fixed.is_ok(),
            name,
            own: shape.own,
            arguments: arguments.into_iter().map(Word::Plain).collect(),
            trees: Vec::new(),
            script: None,
            directory: None,
            named: Vec::new(),
            path: program.clone(),
            program,
        };
        match shape.code {
            Code::Itself => {}
            Code::Script(at) => plan.take_script(user, at, &here)?,
            Code::Module(module) => plan.take_module(user, &module, &here)?,
            Code::Jar(at) => plan.take_file(user, at, &here)?,
            Code::ClassPath(at) => plan.take_class_path(user, at, &here)?,
        }
        if kind == Kind::Python {
            plan.take_virtual_environment(user, &path)?;
        }
        plan.named = plan.named_files(user, &here);
        Ok(plan)
    }

    /// Python and Node look for more code beside the script, shells and Java do not.
    fn take_script(&mut self, user: &AsUser, at: usize, here: &Path) -> Result<(), Unmeasurable> {
        if !matches!(self.kind, Kind::Python | Kind::Node) {
            return self.take_file(user, at, here);
        }
        let script = self.file(user, at, here)?;
        let folder = script.parent().unwrap_or(Path::new("/"));
        let root = match root_of(user, folder, self.kind) {
            Some(root) => root,
            // A script among programs of the system is alone.
            None if folder.ends_with("bin") || folder.ends_with("sbin") => {
                return self.take_file(user, at, here);
            }
            None => folder.to_owned(),
        };
        let within =
            script.strip_prefix(&root).map_err(|_| Unmeasurable::Changed(script.clone()))?.to_owned();
        self.set(at, Word::Copy(Path::new(PROGRAM).join(&within)));
        self.script = Some((self.trees.len(), within));
        self.trees.push(Tree { source: root, at: PROGRAM.into() });
        self.path = script;
        Ok(())
    }

    /// The current directory is where modules are looked for, so its copy becomes the current directory.
    fn take_module(&mut self, user: &AsUser, module: &str, here: &Path) -> Result<(), Unmeasurable> {
        let root = root_of(user, here, self.kind).unwrap_or_else(|| here.to_owned());
        let within = here.strip_prefix(&root).map_err(|_| Unmeasurable::Changed(here.to_owned()))?;
        self.directory = Some(Path::new(PROGRAM).join(within));
        let module = module.replace('.', "/");
        let files = [within.join(format!("{module}/__main__.py")), within.join(format!("{module}.py"))];
        self.script = files
            .into_iter()
            .find(|file| user.act(|| fs::metadata(root.join(file))).is_ok())
            .map(|file| (self.trees.len(), file));
        self.path = root.clone();
        self.trees.push(Tree { source: root, at: PROGRAM.into() });
        Ok(())
    }

    /// A file alone.
    fn take_file(&mut self, user: &AsUser, at: usize, here: &Path) -> Result<(), Unmeasurable> {
        let file = self.file(user, at, here)?;
        let copy = Path::new(PROGRAM).join(file.file_name().unwrap_or_default());
        self.set(at, Word::Copy(copy.clone()));
        self.script = Some((self.trees.len(), PathBuf::new()));
        self.path = file.clone();
        self.trees.push(Tree { source: file, at: copy });
        Ok(())
    }

    fn take_class_path(&mut self, user: &AsUser, at: Option<usize>, here: &Path) -> Result<(), Unmeasurable> {
        let given = match at {
            Some(at) => self.plain(at).ok_or(Unmeasurable::NoProgram)?,
            None => OsString::from("."),
        };
        let mut entries = Vec::new();
        for (number, entry) in given.as_bytes().split(|byte| *byte == b':').enumerate() {
            let (entry, all) = match entry.strip_suffix(b"/*") {
                Some(folder) => (folder, true),
                None if entry == b"*" => (&b"."[..], true),
                None => (entry, false),
            };
            let entry = here.join(OsStr::from_bytes(if entry.is_empty() { b"." } else { entry }));
            let source = user.act(|| fs::canonicalize(&entry)).map_err(unreadable(&entry))?;
            let is_folder = user.act(|| fs::metadata(&source)).map_err(unreadable(&source))?.is_dir();
            let mut copy = Path::new(PROGRAM).join(number.to_string());
            if !is_folder {
                // Java knows archives by their ending.
                copy.set_file_name(format!(
                    "{number}-{}",
                    source.file_name().unwrap_or_default().to_string_lossy()
                ));
            }
            entries.push((copy.clone(), all));
            self.trees.push(Tree { source, at: copy });
        }
        if let Some(tree) = self.trees.first() {
            self.path = tree.source.clone();
        }
        match at {
            Some(at) => self.set(at, Word::ClassPath(entries)),
            None => {
                let added = [Word::Plain("-cp".into()), Word::ClassPath(entries)];
                self.arguments.splice(0..0, added);
                self.own += 2;
            }
        }
        Ok(())
    }

    /// A virtual environment is known by `pyvenv.cfg` above the folder of the interpreter that was called.
    fn take_virtual_environment(&mut self, user: &AsUser, called: &Path) -> Result<(), Unmeasurable> {
        let Some(folder) = called.parent() else { return Ok(()) };
        let folder = user.act(|| fs::canonicalize(folder)).map_err(unreadable(folder))?;
        let Some(environment) = folder.parent().filter(|root| is_there(user, &root.join("pyvenv.cfg")))
        else {
            return Ok(());
        };
        let interpreter = folder.strip_prefix(environment).unwrap_or(Path::new("bin")).join("python");
        let inside = self.trees.first().and_then(|tree| environment.strip_prefix(&tree.source).ok());
        let at = match inside {
            Some(within) => Path::new(PROGRAM).join(within),
            None => {
                self.trees.push(Tree { source: environment.to_owned(), at: "venv".into() });
                PathBuf::from("venv")
            }
        };
        self.name = Word::Copy(at.join(interpreter));
        Ok(())
    }

    /// Which of the program's own arguments are called like files that are there.
    fn named_files(&self, user: &AsUser, here: &Path) -> Vec<String> {
        let own = self.arguments.iter().skip(self.own).take(MOST_NAMED).filter_map(|word| match word {
            Word::Plain(word) if !word.is_empty() => Some(word),
            _ => None,
        });
        own.filter(|word| user.act(|| fs::metadata(here.join(word))).is_ok_and(|found| found.is_file()))
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    /// The regular file that an argument names, with all links resolved.
    fn file(&self, user: &AsUser, at: usize, here: &Path) -> Result<PathBuf, Unmeasurable> {
        let named = here.join(self.plain(at).ok_or(Unmeasurable::NoProgram)?);
        let file = user.act(|| fs::canonicalize(&named)).map_err(unreadable(&named))?;
        match user.act(|| fs::metadata(&file)).map_err(unreadable(&file))? {
            found if found.is_file() => Ok(file),
            _ => Err(Unmeasurable::NoFormat(file)),
        }
    }

    fn plain(&self, at: usize) -> Option<OsString> {
        match self.arguments.get(at)? {
            Word::Plain(word) => Some(word.clone()),
            _ => None,
        }
    }

    fn set(&mut self, at: usize, word: Word) {
        if let Some(argument) = self.arguments.get_mut(at) {
            *argument = word;
        }
    }
}

/// The current directory of the asker, by its name.
fn directory(surroundings: &Surroundings) -> Result<PathBuf, Unmeasurable> {
    let link = PathBuf::from(format!("/proc/self/fd/{}", surroundings.directory().as_raw_fd()));
    let path = fs::read_link(&link).map_err(unreadable(&link))?;
    if !path.is_absolute() || path.as_os_str().as_bytes().ends_with(b" (deleted)") {
        return Err(unreadable(&path)(io::ErrorKind::NotFound.into()));
    }
    Ok(path)
}

/// As execvp finds a program.
fn find(user: &AsUser, name: &OsStr, path: Option<&OsStr>, here: &Path) -> Result<PathBuf, Unmeasurable> {
    if name.is_empty() || name.as_bytes().contains(&0) {
        return Err(Unmeasurable::NoProgram);
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(here.join(name));
    }
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let candidates =
        std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
    let is_program = |file: &PathBuf| {
        let found = user.act(|| fs::metadata(file));
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    candidates
        .take(MOST_FOLDERS)
        .find(is_program)
        .ok_or_else(|| Unmeasurable::NotFound(name.to_string_lossy().into_owned()))
}

/// Follows `#!` to the binary that reads the script.
fn interpreted(
    user: &AsUser,
    mut found: Found,
    path: Option<&OsStr>,
    here: &Path,
) -> Result<Found, Unmeasurable> {
    for _ in 0..DEEPEST {
        let mut head = Vec::new();
        let file = tree::open(user, &found.path, OFlag::empty())?;
        file.take(LONGEST_LINE).read_to_end(&mut head).map_err(unreadable(&found.path))?;
        if head.starts_with(b"\x7fELF") {
            return Ok(found);
        }
        let line = head.strip_prefix(b"#!").ok_or_else(|| Unmeasurable::NoFormat(found.path.clone()))?;
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let mut words = line.splitn(2, |byte| matches!(byte, b' ' | b'\t'));
        let interpreter = words.next().filter(|word| word.starts_with(b"/"));
        let interpreter = interpreter.ok_or_else(|| Unmeasurable::NoFormat(found.path.clone()))?;
        let option = words.next().map(<[u8]>::trim_ascii).filter(|option| !option.is_empty());
        let (interpreter, mut arguments) = match (interpreter.ends_with(b"/env"), option) {
            // `env` only looks the interpreter up, unless it is told to do more.
            (true, Some(option)) => {
                let option = option.strip_prefix(b"-S").map_or(option, <[u8]>::trim_ascii);
                let mut words =
                    option.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
                let name = words.next().filter(|name| !name.starts_with(b"-") && !name.contains(&b'='));
                let name = name.ok_or_else(|| Unmeasurable::Option("of env in the first line".to_owned()))?;
                let rest: Vec<_> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
                (find(user, OsStr::from_bytes(name), path, here)?, rest)
            }
            (_, option) => {
                let option = option.map(|option| OsString::from_vec(option.to_vec()));
                (PathBuf::from(OsStr::from_bytes(interpreter)), option.into_iter().collect())
            }
        };
        arguments.push(found.path.into_os_string());
        arguments.append(&mut found.arguments);
        found = Found { path: interpreter, arguments };
    }
    Err(Unmeasurable::NoFormat(found.path))
}

/// The folder of the whole program: the nearest one, upwards, that is marked as one. Folders that everybody
/// may write to are nobody's.
fn root_of(user: &AsUser, folder: &Path, kind: Kind) -> Option<PathBuf> {
    let marks = if kind == Kind::Node { NODE_MARKS } else { PYTHON_MARKS };
    folder
        .ancestors()
        .take(HIGHEST)
        .take_while(|folder| {
            let found = user.act(|| fs::metadata(folder));
            folder.parent().is_some() && found.is_ok_and(|found| found.permissions().mode() & 0o002 == 0)
        })
        .find(|folder| marks.iter().any(|mark| is_there(user, &folder.join(mark))))
        .map(Path::to_owned)
}

fn is_there(user: &AsUser, path: &Path) -> bool {
    user.act(|| fs::symlink_metadata(path)).is_ok()
}

/// Where the program goes, below the folder of the launch.
pub(super) const PROGRAM: &str = "program";
const PYTHON_MARKS: &[&str] = &[
    "pyproject.toml",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "Pipfile.lock",
    "requirements.lock",
    "requirements.txt",
    "setup.py",
    "setup.cfg",
    "pyvenv.cfg",
];
const NODE_MARKS: &[&str] = &[
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "node_modules",
];
/// What the kernel reads of a first line.
const LONGEST_LINE: u64 = 256;
const DEEPEST: usize = 4;
const HIGHEST: usize = 8;
const MOST_FOLDERS: usize = 64;
const MOST_NAMED: usize = 64;
