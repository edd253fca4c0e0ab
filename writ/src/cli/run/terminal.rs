//! [`Terminal`]: a terminal of its own for a command that is not a child of this process, and so not in its
//! session: what is typed goes there, and what it shows comes here.

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::pty::openpty;
use rustix::{
    process::getpgrp,
    termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize},
};

/// A pair: the command gets the one end, this process relays the other.
pub(super) struct Terminal {
    own: OwnedFd,
    command: OwnedFd,
    /// Which of standard input, output and error are terminals here, and so are this one there.
    replaced: [bool; 3],
}

/// A terminal that is being relayed.
pub(super) struct Relay {
    own: OwnedFd,
    shown: JoinHandle<()>,
    raw: Raw,
}

/// Puts the user's terminal back as it was.
struct Raw(Termios);

impl Terminal {
    /// One for the command, if this process has a terminal to relay it to and is what the user works with.
    pub(super) fn open() -> io::Result<Option<Self>> {
        let replaced = [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
        let input = io::stdin();
        if !replaced[0] || tcgetpgrp(&input).ok() != Some(getpgrp()) {
            return Ok(None);
        }
        let pair = openpty(None, None)?;
        tcsetattr(&pair.slave, OptionalActions::Now, &tcgetattr(&input)?)?;
        tcsetwinsize(&pair.slave, tcgetwinsize(&input)?)?;
        Ok(Some(Self { own: pair.master, command: pair.slave, replaced }))
    }

    /// The descriptors that the command gets, and which of them is its controlling terminal.
    pub(super) fn descriptors(&self) -> ([u32; 3], Option<usize>) {
        let number = u32::try_from(self.command.as_raw_fd()).unwrap_or(0);
        let of = |n: u32| if self.replaced[n as usize] { number } else { n };
        ([of(0), of(1), of(2)], Some(0))
    }

    /// Relays from now on; the command holds its end itself.
    pub(super) fn relay(self) -> io::Result<Relay> {
        let Self { own, command, .. } = self;
        drop(command);
        let raw = Raw::begin()?;
        let (mut from, mut to) = (File::from(own.try_clone()?), File::from(own.try_clone()?));
        // It ends with this process: nothing else wakes a read of standard input.
        thread::spawn(move || copy(&mut io::stdin().lock(), &mut to));
        let shown = thread::spawn(move || copy(&mut from, &mut io::stdout()));
        Ok(Relay { own, shown, raw })
    }
}

impl Relay {
    /// The user's window has another size.
    pub(super) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(io::stdin().as_fd()) {
            // A size that is not known does no harm.
            let _ = tcsetwinsize(&self.own, size);
        }
    }

    /// Shows what the command said last. What it left running may still hold the terminal.
    pub(super) fn finish(self) {
        let until = Instant::now() + LAST_WORDS;
        while !self.shown.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        drop(self.raw);
    }
}

impl Raw {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If it fails, the terminal is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

fn copy(from: &mut impl io::Read, to: &mut impl io::Write) {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that nobody holds any more answers with an error.
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        }
    }
}

const LAST_WORDS: Duration = Duration::from_secs(2);
