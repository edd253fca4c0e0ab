//! `writ run`: who a program is follows from what the agent measured before it ran.

mod attacks;
mod languages;
mod running;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration_tests::{Answer, Folder, Writ, test_workload, writ_command};
use serde_json::Value;

/// Whom the launched programs belong to.
const USER: u32 = 65534;

/// An installation and a user's folder with programs in it.
struct Place {
    writ: Writ,
    folder: Folder,
}

impl Place {
    /// Up, with a folder `app` that the user may write to.
    fn up() -> Self {
        let place = Self { writ: Writ::up(), folder: Folder::new() };
        place.make_folder("app");
        place
    }

    fn app(&self) -> PathBuf {
        self.folder.join("app")
    }

    /// Makes a folder of the user's.
    fn make_folder(&self, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).expect("the folder is ours");
        give(&path);
        path
    }

    /// Writes a file of the user's into `app`.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.app().join(name);
        fs::write(&path, text).expect("the folder is ours");
        give(&path);
        path
    }

    /// `writ run …` of the user, in `app`.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = writ_command();
        command.arg("run").args(arguments).current_dir(self.app()).uid(USER).gid(USER);
        command.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", self.writ.workload_socket().display()));
        command
    }

    fn run(&self, program: &[&str]) -> Answer {
        Answer::of(self.command(&["--"]).args(program))
    }

    /// What would be measured.
    #[track_caller]
    fn measure(&self, program: &[&str]) -> Value {
        Answer::of(self.command(&["--measure-only", "--output", "json", "--"]).args(program)).done().json()
    }

    /// Registers an identity for what a program measures now.
    #[track_caller]
    fn register(&self, path: &str, program: &[&str]) {
        let measured = self.measure(program);
        let selector = measured["selectors"][0].as_str().expect("there is one").to_owned();
        assert!(selector.starts_with("launch:measurement:"), "{selector}");
        self.writ.entry(path, &[&selector, &format!("unix:uid:{USER}")]);
    }

    /// The program that each launched one starts to ask who it is.
    fn asks(&self) -> String {
        format!("{} fetch {}", test_workload().display(), self.writ.workload_socket().display())
    }

    /// Insists that the program is told to be `path`.
    #[track_caller]
    fn is(&self, path: &str, program: &[&str]) {
        let answer = self.run(program);
        assert!(answer.out.contains(&format!("\"{}\"", self.writ.id(path))), "{program:?}: {answer:?}");
    }

    /// Insists that it runs and is nobody.
    #[track_caller]
    fn is_nobody(&self, program: &[&str]) {
        let answer = self.run(program);
        assert!(answer.out.contains("PermissionDenied"), "{program:?}: {answer:?}");
    }
}

impl Drop for Place {
    /// Lets the agent tidy up what has ended, so that no cgroup outlives the story.
    fn drop(&mut self) {
        let records = self.writ.data().join("state/agent/launches");
        let end = std::time::Instant::now() + crate::SOON;
        while fs::read_dir(&records).is_ok_and(|mut left| left.next().is_some())
            && std::time::Instant::now() < end
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Makes a file or folder the user's.
fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("root may");
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
