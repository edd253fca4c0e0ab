//! The header: the file key, wrapped once for each who may open the file, under a MAC by that key.

use std::io::{self, Read, Write};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use zeroize::Zeroizing;

use super::{
    AgeError, FileKey, To, With, derived,
    key::{self, Identity, Recipient},
    random, unwrap, wrap,
};

/// One way to the file key.
struct Stanza {
    arguments: Vec<String>,
    body: Vec<u8>,
}

const VERSION: &str = "age-encryption.org/v1";
const X25519: &str = "X25519";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SCRYPT: &str = "scrypt";
const SCRYPT_SALT: &[u8] = b"age-encryption.org/v1/scrypt";
/// A guess costs about a second and 256 MiB, as with age itself.
const WORK: u8 = 18;
/// More work than this a file cannot ask for: 1 GiB.
const MOST_WORK: u8 = 20;
/// Hundreds of recipients.
const MOST_BYTES: usize = 64 * 1024;
const COLUMNS: usize = 64;

/// Writes the header for a fresh file key.
pub(super) fn write(out: &mut impl Write, to: &To) -> io::Result<FileKey> {
    let file_key: FileKey = Zeroizing::new(random()?);
    let stanzas = match to {
        To::Passphrase(passphrase) => vec![for_passphrase(passphrase, &file_key)?],
        To::Recipients(all) if all.is_empty() => return Err(AgeError::Unusable.into()),
        To::Recipients(all) => {
            all.iter().map(|one| for_recipient(one, &file_key)).collect::<Result<_, _>>()?
        }
    };
    let mut text = format!("{VERSION}\n");
    for stanza in stanzas {
        text.push_str(&format!("-> {}\n", stanza.arguments.join(" ")));
        let body = STANDARD_NO_PAD.encode(stanza.body);
        // The last line is shorter than the others, if need be empty.
        body.as_bytes().chunks(COLUMNS).for_each(|line| {
            text.push_str(std::str::from_utf8(line).unwrap_or_default());
            text.push('\n');
        });
        if body.len().is_multiple_of(COLUMNS) {
            text.push('\n');
        }
    }
    text.push_str("---");
    let tag = hmac::sign(&mac_key(&file_key)?, text.as_bytes());
    text.push_str(&format!(" {}\n", STANDARD_NO_PAD.encode(tag)));
    out.write_all(text.as_bytes())?;
    Ok(file_key)
}

/// Reads a header to its end, and nothing beyond it.
pub(super) fn read(input: &mut impl Read, with: &With) -> io::Result<FileKey> {
    let mut lines = Lines { input, text: Vec::new() };
    if lines.next()? != VERSION {
        return Err(AgeError::NotAge.into());
    }
    let mut stanzas = Vec::new();
    let (covered, tag) = loop {
        let start = lines.text.len();
        let line = lines.next()?;
        if let Some(tag) = line.strip_prefix("--- ") {
            break (start + "---".len(), decoded(tag)?);
        }
        let arguments = line.strip_prefix("-> ").ok_or(AgeError::Damaged)?;
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        let mut body = String::new();
        loop {
            let line = lines.next()?;
            body.push_str(&line);
            match line.len() {
                COLUMNS => {}
                0..COLUMNS => break,
                _ => return Err(AgeError::Damaged.into()),
            }
        }
        stanzas.push(Stanza { arguments, body: decoded(&body)? });
    };
    let file_key = file_key(&stanzas, with)?;
    let held = hmac::verify(&mac_key(&file_key)?, &lines.text[..covered], &tag);
    held.map_err(|_| AgeError::Damaged)?;
    Ok(file_key)
}

fn file_key(stanzas: &[Stanza], with: &With) -> Result<FileKey, AgeError> {
    let is = |kind: &str| stanzas.iter().any(|stanza| stanza.arguments[0] == kind);
    match with {
        With::Passphrase(_) if !is(SCRYPT) => {
            Err(AgeError::OtherKind("for keys", "name the file of one with --identity-file"))
        }
        // A passphrase stands alone: otherwise whoever holds a key could pass for who knows it.
        With::Passphrase(_) if stanzas.len() != 1 => Err(AgeError::Damaged),
        With::Passphrase(passphrase) => by_passphrase(&stanzas[0], passphrase),
        With::Identities(_) if is(SCRYPT) => {
            Err(AgeError::OtherKind("with a passphrase", "leave --identity-file away"))
        }
        With::Identities(all) => {
            let mut tries =
                stanzas.iter().flat_map(|stanza| all.iter().map(move |one| by_identity(stanza, one)));
            tries.find_map(|found| found).ok_or(AgeError::NotOpened)
        }
    }
}

fn for_recipient(recipient: &Recipient, file_key: &FileKey) -> Result<Stanza, AgeError> {
    let (share, secret) = key::share_with(recipient).ok_or(AgeError::Unusable)?;
    let wrapping = derived(&*secret, &[share, recipient.0].concat(), X25519_INFO)?;
    let arguments = vec![X25519.to_owned(), STANDARD_NO_PAD.encode(share)];
    Ok(Stanza { arguments, body: wrap(&wrapping, file_key)? })
}

fn by_identity(stanza: &Stanza, identity: &Identity) -> Option<FileKey> {
    let [kind, share] = stanza.arguments.as_slice() else { return None };
    let share: [u8; 32] = decoded(share).ok()?.try_into().ok().filter(|_| kind == X25519)?;
    let secret = identity.shared(&share)?;
    let wrapping = derived(&*secret, &[share, identity.recipient().0].concat(), X25519_INFO).ok()?;
    unwrap(&wrapping, &stanza.body)
}

fn for_passphrase(passphrase: &str, file_key: &FileKey) -> Result<Stanza, AgeError> {
    let salt: [u8; 16] = random()?;
    let arguments = vec![SCRYPT.to_owned(), STANDARD_NO_PAD.encode(salt), WORK.to_string()];
    Ok(Stanza { arguments, body: wrap(&*stretched(passphrase, &salt, WORK)?, file_key)? })
}

fn by_passphrase(stanza: &Stanza, passphrase: &str) -> Result<FileKey, AgeError> {
    let [_, salt, work] = stanza.arguments.as_slice() else { return Err(AgeError::Damaged) };
    let salt: [u8; 16] = decoded(salt)?.try_into().map_err(|_| AgeError::Damaged)?;
    let is_canonical = work.bytes().all(|digit| digit.is_ascii_digit()) && !work.starts_with('0');
    let work: u8 =
        work.parse().ok().filter(|work| is_canonical && *work <= MOST_WORK).ok_or(AgeError::Damaged)?;
    unwrap(&*stretched(passphrase, &salt, work)?, &stanza.body).ok_or(AgeError::NotOpened)
}

fn stretched(passphrase: &str, salt: &[u8; 16], work: u8) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    let params = scrypt::Params::new(work, 8, 1, 32).map_err(|_| AgeError::Damaged)?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt::scrypt(passphrase.as_bytes(), &[SCRYPT_SALT, salt].concat(), &params, key.as_mut_slice())
        .map_err(|_| AgeError::Unusable)?;
    Ok(key)
}

fn mac_key(file_key: &FileKey) -> Result<hmac::Key, AgeError> {
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &*derived(file_key.as_slice(), &[], b"header")?))
}

/// Base64 in its one canonical form.
fn decoded(text: &str) -> Result<Vec<u8>, AgeError> {
    STANDARD_NO_PAD.decode(text).map_err(|_| AgeError::Damaged)
}

/// Lines of the header, byte by byte, so that nothing of what follows is taken.
struct Lines<'a, R> {
    input: &'a mut R,
    text: Vec<u8>,
}

impl<R: Read> Lines<'_, R> {
    fn next(&mut self) -> io::Result<String> {
        let start = self.text.len();
        loop {
            let mut byte = [0];
            if self.input.read(&mut byte)? == 0 || self.text.len() >= MOST_BYTES {
                return Err(AgeError::NotAge.into());
            }
            self.text.extend(byte);
            if byte == *b"\n" {
                let line = &self.text[start..self.text.len() - 1];
                let line = std::str::from_utf8(line).ok().filter(|line| line.is_ascii());
                return Ok(line.ok_or(AgeError::NotAge)?.to_owned());
            }
            if self.text.len() > start + LONGEST_LINE {
                return Err(AgeError::NotAge.into());
            }
        }
    }
}

const LONGEST_LINE: usize = 1024;
