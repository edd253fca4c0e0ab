//! A process that the harness started: its lines, its log, its end.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Looks again and again until `look` finds something; panics with `what` when the time is over.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Standard output is read line by line, standard error goes to a file, standard input stays open
/// until the process is dropped. A panicking test shows the end of the file.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    lines: Mutex<Receiver<String>>,
    log: PathBuf,
}

impl Running {
    /// Starts `command`; its errors go to `folder/name.log`.
    pub fn start(command: &mut Command, name: &str, folder: &Path) -> Self {
        let log = folder.join(format!("{name}.log"));
        let errors = File::options().append(true).create(true).open(&log).expect("the folder is ours");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, name: name.into(), lines: Mutex::new(lines), log }
    }

    /// The next line that it prints; panics if it ends or stays silent.
    #[track_caller]
    pub fn line(&self, limit: Duration) -> String {
        match self.next_line(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} said nothing for {limit:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended", self.name),
        }
    }

    /// The next line that it prints; `None` if it ends instead.
    #[track_caller]
    pub fn line_unless_it_ends(&self, limit: Duration) -> Option<String> {
        match self.next_line(limit) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} said nothing for {limit:?}", self.name),
        }
    }

    /// The next line that is JSON and for which `wanted` holds.
    #[track_caller]
    pub fn json(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let end = Instant::now() + limit;
        let mut seen = Vec::new();
        while let Ok(line) = self.next_line(end.saturating_duration_since(Instant::now())) {
            match serde_json::from_str(&line) {
                Ok(value) if wanted(&value) => return value,
                _ => seen.push(line),
            }
        }
        panic!(
            "{} did not show {what} within {limit:?}, but:\n{}\n{}",
            self.name,
            seen.join("\n"),
            self.log()
        )
    }

    fn next_line(&self, limit: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.lock().expect("nobody panics with it").recv_timeout(limit)
    }

    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error, the last part of it.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(60)..].join("\n");
        format!("--- {} of {} ---\n{last}", self.log.display(), self.name)
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("it is not closed");
        writeln!(input, "{line}").expect("it reads its input");
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended(Duration::from_secs(10))
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, limit, || self.child.try_wait().expect("it is our child"))
    }

    /// Sends it a signal, unless it has been waited for already.
    pub fn signal(&mut self, signal: Signal) {
        if let Ok(None) = self.child.try_wait() {
            kill(pid(self.child.id()), signal).expect("it is our child");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "whoever reads the failed test needs the log")]
            {
                eprintln!("{}", self.log());
            }
        }
        drop(self.child.stdin.take());
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("the kernel's process IDs fit"))
}
