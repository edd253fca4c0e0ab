//! The payload: chunks of 64 KiB, each authenticated with its place, the last one as the last.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use zeroize::Zeroizing;

use super::{AgeError, TAG, To, With, cipher, derived, header, random};

/// Seals what is written to it. Nothing counts before [`Sealed::finish`].
pub(crate) struct Sealed<W> {
    out: W,
    chunks: Chunks,
    waiting: Vec<u8>,
}

/// Opens what it reads. No byte is given out before its chunk has been authenticated; whoever reads to
/// the end knows that it is the end.
pub(crate) struct Opened<R> {
    input: R,
    chunks: Chunks,
    /// The next chunk as it came: whether it is the last shows only in what follows it.
    ahead: Vec<u8>,
    open: Zeroizing<Vec<u8>>,
    given: usize,
    is_over: bool,
}

/// The key of all chunks, and which one is next.
struct Chunks {
    key: LessSafeKey,
    next: u64,
}

const CHUNK: usize = 64 * 1024;
const NONCE: usize = 16;

impl<W: Write> Sealed<W> {
    pub(crate) fn new(mut out: W, to: &To) -> io::Result<Self> {
        let file_key = header::write(&mut out, to)?;
        let nonce: [u8; NONCE] = random()?;
        out.write_all(&nonce)?;
        let chunks = Chunks::new(&*file_key, &nonce)?;
        Ok(Self { out, chunks, waiting: Vec::with_capacity(CHUNK + TAG) })
    }

    /// Seals the last chunk and gives back what everything was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.chunk(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn chunk(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = self.chunks.nonce(is_last)?;
        let sealed = self.chunks.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut self.waiting);
        sealed.map_err(|_| AgeError::Unusable)?;
        self.out.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.waiting.len() == CHUNK && !bytes.is_empty() {
            self.chunk(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Half a chunk cannot be sealed, so nothing is flushed before the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: Read> Opened<R> {
    pub(crate) fn new(mut input: R, with: &With) -> io::Result<Self> {
        let file_key = header::read(&mut input, with)?;
        let mut nonce = [0; NONCE];
        input.read_exact(&mut nonce).map_err(cut)?;
        let chunks = Chunks::new(&*file_key, &nonce)?;
        let ahead = read_chunk(&mut input)?;
        Ok(Self { input, chunks, ahead, open: Zeroizing::default(), given: 0, is_over: false })
    }

    fn chunk(&mut self) -> io::Result<()> {
        let following = match self.ahead.len() {
            FULL => read_chunk(&mut self.input)?,
            _ => Vec::new(),
        };
        let is_last = following.is_empty();
        // Only a whole file that is empty ends with an empty chunk.
        if self.ahead.len() < TAG || (self.ahead.len() == TAG && self.chunks.next > 0) {
            return Err(AgeError::Damaged.into());
        }
        let nonce = self.chunks.nonce(is_last)?;
        self.open = Zeroizing::new(std::mem::replace(&mut self.ahead, following));
        let opened = self.chunks.key.open_in_place(nonce, Aad::empty(), self.open.as_mut_slice());
        let length = opened.map_err(|_| AgeError::Damaged)?.len();
        self.open.truncate(length);
        (self.given, self.is_over) = (0, is_last);
        Ok(())
    }
}

const FULL: usize = CHUNK + TAG;

impl<R: Read> Read for Opened<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.open.len() && !self.is_over {
            self.chunk()?;
        }
        let left = &self.open[self.given..];
        let given = left.len().min(into.len());
        into[..given].copy_from_slice(&left[..given]);
        self.given += given;
        Ok(given)
    }
}

impl Chunks {
    fn new(file_key: &[u8], nonce: &[u8]) -> Result<Self, AgeError> {
        Ok(Self { key: cipher(&*derived(file_key, nonce, b"payload")?)?, next: 0 })
    }

    /// Eleven bytes of counter and one that says whether it is the last.
    fn nonce(&mut self, is_last: bool) -> Result<Nonce, AgeError> {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = u8::from(is_last);
        self.next = self.next.checked_add(1).ok_or(AgeError::Unusable)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn read_chunk(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(FULL);
    input.take(FULL as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => AgeError::Damaged.into(),
        _ => error,
    }
}
