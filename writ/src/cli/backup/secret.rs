//! What seals and opens backups: passphrases and keys. None of them is ever an argument, since every
//! process sees arguments.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::json;
use server::backup::age::{Identity, Passphrase, Recipient, With};
use zeroize::Zeroizing;

use crate::cli::{Shared, Usage, output};

/// Shorter ones are guessed.
const SHORTEST: usize = 12;
const MOST_BYTES: u64 = 64 * 1024;

/// A passphrase for a new backup: from a file, or asked for twice.
pub(super) fn new_passphrase(file: Option<&Path>) -> Result<Passphrase> {
    let passphrase = match file {
        Some(file) => first_line(file)?,
        None => {
            let once = ask("Passphrase for the backup: ")?;
            if once != ask("Once more: ")? {
                bail!("the two were not the same; try again");
            }
            once
        }
    };
    if passphrase.chars().count() < SHORTEST {
        bail!("a passphrase has at least {SHORTEST} characters; or make a key with: writ backup key FILE");
    }
    Ok(passphrase)
}

/// What opens a backup.
pub(super) fn opens(passphrase_file: Option<&Path>, identity_file: Option<&Path>) -> Result<With> {
    Ok(match (identity_file, passphrase_file) {
        (Some(file), _) => With::Identities(identities(file)?),
        (None, Some(file)) => With::Passphrase(first_line(file)?),
        (None, None) => With::Passphrase(ask("Passphrase of the backup: ")?),
    })
}

/// The recipients in a file, each checked.
pub(super) fn recipients(file: &Path) -> Result<Vec<String>> {
    let recipients = keys::<Recipient>(file)?;
    Ok(recipients.iter().map(ToString::to_string).collect())
}

fn identities(file: &Path) -> Result<Vec<Identity>> {
    keys(file)
}

/// Makes a key in a new file, and prints for whom to seal.
pub(super) fn make(file: &Path, shared: &Shared) -> Result<()> {
    let identity = Identity::generate()?;
    let recipient = identity.recipient().to_string();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut made = made.with_context(|| format!("cannot create {}", file.display()))?;
    let text = Zeroizing::new(format!("# public key: {recipient}\n{}\n", identity.to_secret_line().as_str()));
    made.write_all(text.as_bytes()).and_then(|()| made.sync_all())?;
    output::show(shared.output, &json!({ "recipient": recipient }), |_| recipient.clone())?;
    Ok(())
}

/// Keys, one a line; empty lines and comments do not count.
fn keys<K: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(file: &Path) -> Result<Vec<K>> {
    let text = read(file)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<K> =
        lines.map(str::parse).collect::<Result<_, _>>().with_context(|| file.display().to_string())?;
    match keys.is_empty() {
        true => bail!("{} holds no key; make one with: writ backup key FILE", file.display()),
        false => Ok(keys),
    }
}

fn first_line(file: &Path) -> Result<Passphrase> {
    let text = read(file)?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => bail!("{} begins with an empty line; the passphrase is its first line", file.display()),
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    opened
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(text)
}

/// Asks on the terminal, whatever standard input is, and shows nothing of what is typed.
fn ask(question: &str) -> Result<Passphrase> {
    let opened = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let Ok(mut terminal) = opened else {
        let how = "there is no terminal to ask for the passphrase; name the file of one with --passphrase-file, or of keys \
                   with --recipients-file (create) or --identity-file (restore)";
        return Err(Usage(how.to_owned()).into());
    };
    terminal.write_all(question.as_bytes())?;
    let hidden = Hidden::on(terminal.try_clone()?)?;
    let mut line = Zeroizing::new(String::new());
    BufReader::new(&terminal).read_line(&mut line)?;
    drop(hidden);
    terminal.write_all(b"\n")?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn on(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
