//! Attacks on attestation, by real processes on a real agent: none of them ever gets what is not its own.
//! `docs/attacks.md` is the table of them; `cargo xtask attack` repeats them as often as asked.

mod cgroups;
mod connections;
mod crowds;
mod files;
mod limits;
mod pids;
mod records;

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::attacker::{Attacker, Verdict, attacker};
use integration_tests::{Answer, Folder, Writ, eventually};

use crate::SOON;

/// Who attacks.
const ATTACKER: u32 = 65_534;

/// Who is meant by entries of its own.
const VICTIM: u32 = 65_533;

/// An agent, a program that entries are about, and one that they are not about.
struct Stage {
    writ: Writ,
    folder: Folder,
    /// The program that `/path` and `/hash` are for, if the attacker's user runs it.
    good: PathBuf,
    /// One that no entry names.
    evil: PathBuf,
}

impl Stage {
    fn set() -> Self {
        let (writ, folder) = (Writ::up(), Folder::new());
        // A folder of its own, for what is mounted over.
        std::fs::create_dir(folder.join("good")).expect("the folder is ours");
        let (good, evil) = (folder.join("good/program"), folder.join("evil"));
        put(attacker(), &good, "good");
        put(attacker(), &evil, "evil");
        let hash = Answer::of(Command::new("sha256sum").arg(&good)).done().out[..64].to_owned();
        let user = format!("unix:uid:{ATTACKER}");
        writ.entry("/path", &[&user, &format!("unix:path:{}", good.display())]);
        writ.entry("/hash", &[&user, &format!("unix:sha256:{hash}")]);
        writ.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
        writ.entry("/root", &["unix:uid:0"]);
        let stage = Self { writ, folder, good, evil };
        // What is attacked is there to be had by those whom it is meant for.
        assert_eq!(stage.start(ATTACKER, &stage.good).tries(&stage.socket()), stage.program());
        assert_eq!(stage.start(VICTIM, &stage.evil).tries(&stage.socket()), stage.held(&["/victim"]));
        assert_eq!(stage.start(0, &stage.evil).tries(&stage.socket()), stage.held(&["/root"]));
        assert!(!stage.start(ATTACKER, &stage.evil).tries(&stage.socket()).is_held());
        stage
    }

    fn socket(&self) -> PathBuf {
        self.writ.workload_socket()
    }

    /// A process of this user and this program.
    fn start(&self, user: u32, program: &Path) -> Attacker {
        Attacker::start(Command::new(program).uid(user).gid(user), &self.folder)
    }

    /// The attacker's user and its own program.
    fn intruder(&self) -> Attacker {
        self.start(ATTACKER, &self.evil)
    }

    /// As the attacker's user, what this script becomes.
    fn script(&self, wrapped_in: &[&str], script: &str) -> Attacker {
        let mut command = Command::new(wrapped_in[0]);
        command.args(&wrapped_in[1..]).args(["sh", "-c", script]).uid(ATTACKER).gid(ATTACKER);
        Attacker::start(&mut command, &self.folder)
    }

    fn held(&self, paths: &[&str]) -> Verdict {
        Verdict::Held(paths.iter().map(|path| self.writ.id(path)).collect())
    }

    /// What is for the good program.
    fn program(&self) -> Verdict {
        self.held(&["/hash", "/path"])
    }
}

/// A copy of a program that has a hash of its own. Not written by this process: whatever it starts
/// meanwhile would inherit the open file, and a file that is open for writing cannot be executed.
fn put(program: &Path, at: &Path, mark: &str) {
    let script = "cp \"$1\" \"$2\" && printf %s \"$3\" >> \"$2\" && chmod 755 \"$2\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program).arg(at).arg(mark);
    let _ = Answer::of(&mut command).done();
}

/// Makes these entries for as long as `meanwhile` takes. If they stayed, answers would grow with each round
/// until one fills more than a frame, of which the attacker reads one at a time.
fn meanwhile<T>(writ: &Writ, entries: &[(String, String)], meanwhile: impl FnOnce() -> T) -> T {
    let before = writ.known();
    let made: Vec<_> = entries.iter().map(|(path, selector)| writ.entry(path, &[selector])).collect();
    let answer = meanwhile();
    made.iter().for_each(|entry| writ.delete(entry));
    eventually("the entries are gone", SOON * 3, || (writ.known() == before).then_some(()));
    answer
}

/// How often an attack is tried: `usually`, or as `cargo xtask attack` asks.
fn rounds(usually: u64) -> u64 {
    env::var("WRIT_ATTACK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}
