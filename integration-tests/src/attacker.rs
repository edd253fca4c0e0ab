//! Hostile processes, of the small C program `attacker.c`.
//!
//! | order | does |
//! |---|---|
//! | `connect SOCKET` | makes the connection that everything else is about |
//! | `greet` | begins to speak, and waits until the agent does: it has accepted the connection |
//! | `ask`, `hear` | asks for X.509-SVIDs; waits for the next answer on the connection |
//! | `exec PROGRAM` | becomes another attacker, with the connection |
//! | `become ID` | becomes another user and group |
//! | `exec-behind PROGRAM`, `become-behind ID`, `die-behind`, `stay-behind` | the maker of the connection goes on as that, and an accomplice with the connection obeys in its place |
//! | `forge PROGRAM` | makes its exe link show PROGRAM |
//! | `mount FILE FILE` | mounts the one over the other, where it may |
//! | `be-traced` | has a child trace it |
//! | `reuse SOCKET ROUNDS MAKER HEIR AGENT` | asks over connections of processes of user and group MAKER whose pid a process of group HEIR got, every other of which is of user MAKER, too; with the pid of an AGENT, before that has accepted them |
//! | `reuse-streams SOCKET COUNT MAKER HEIR`, `hear-all` | the same of open streams; waits for what comes next on all |
//! | `hang-up`, `where` | closes the connection; says its pid |
//! | `connect-and-die SOCKET ROUNDS`, `storm SOCKET ROUNDS PROGRAM` | crowds |
//! | `flood ROUNDS` | maps code, again and again |

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::needs::built;
use crate::{Folder, Running};

/// How long an answer may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hostile process under command.
#[derive(Debug)]
pub struct Attacker(Running);

/// What came of asking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// These identities, sorted.
    Held(Vec<String>),
    /// The stream ended without one.
    Ended,
    /// The connection was closed.
    Closed,
}

impl Attacker {
    /// Starts a command that becomes the attacker in the end.
    #[must_use]
    pub fn start(command: &mut Command, folder: &Folder) -> Self {
        let attacker = Self(Running::start(command, "attacker", folder.path()));
        attacker.hears("ready");
        attacker
    }

    /// Gives an order and insists that it is carried out.
    #[track_caller]
    pub fn does(&mut self, order: &str) {
        let answer = self.order(order);
        assert_eq!(answer, "ok", "the attacker cannot {order}");
    }

    /// Gives an order that is answered by more than whether it was carried out.
    #[track_caller]
    pub fn order(&mut self, order: &str) -> String {
        self.order_within(order, PATIENCE)
    }

    /// The same for an order that takes long.
    #[track_caller]
    pub fn order_within(&mut self, order: &str, limit: Duration) -> String {
        self.0.say(order);
        self.0.line(limit)
    }

    /// Makes a connection and waits until the agent has accepted it; false if it refused to.
    #[track_caller]
    pub fn is_accepted(&mut self, socket: &Path) -> bool {
        self.does(&format!("connect {}", socket.display()));
        self.order("greet") == "ok"
    }

    /// Asks for X.509-SVIDs on a connection that was greeted on.
    #[track_caller]
    pub fn asks(&mut self) -> Verdict {
        Verdict::read(&self.order("ask"))
    }

    /// Waits for what comes next on the connection.
    #[track_caller]
    pub fn hears_next(&mut self) -> Verdict {
        Verdict::read(&self.order("hear"))
    }

    /// Connects and asks in one go.
    #[track_caller]
    pub fn tries(&mut self, socket: &Path) -> Verdict {
        if self.is_accepted(socket) { self.asks() } else { Verdict::Closed }
    }

    /// The process that was started, whoever obeys now.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    #[track_caller]
    fn hears(&self, line: &str) {
        assert_eq!(self.0.line(PATIENCE), line);
    }
}

impl Verdict {
    fn read(line: &str) -> Self {
        let mut words = line.split(' ');
        match words.next() {
            Some("held") => {
                let mut ids: Vec<_> = words.map(str::to_owned).collect();
                ids.sort();
                Self::Held(ids)
            }
            Some("ended") => Self::Ended,
            Some("closed") => Self::Closed,
            _ => panic!("the attacker answers {line}"),
        }
    }

    /// Whether an identity came of it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }
}

/// The compiled attacker.
#[must_use]
pub fn attacker() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = include_str!("attacker.c");
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let folder = built("attackers");
        let program = folder.join(format!("attacker-{:x}", hasher.finish()));
        if !program.exists() {
            fs::create_dir_all(&folder).expect("cargo's folder is ours");
            let fresh = tempfile::tempdir_in(&folder).expect("cargo's folder is ours");
            let (file, made) = (fresh.path().join("attacker.c"), fresh.path().join("attacker"));
            fs::write(&file, source).expect("the folder is ours");
            let done = Command::new("cc").args(["-O1", "-o"]).arg(&made).arg(&file).status();
            assert!(done.expect("a C compiler named cc is installed").success(), "the attacker compiles");
            // Whole or not at all: other tests look for it too.
            fs::rename(made, &program).expect("the folder is ours");
        }
        program
    })
}
