//! Reading a spool from some record on, as far as it is durable, while it is being written.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use audit::{
    Hash,
    spool::{
        Frame, MAX_FRAME, SEGMENT_HEADER,
        frame::At,
        segment::{Begins, SegmentHeader},
    },
};
use tokio::sync::watch;

use super::{End, segments::Shelf};

/// Reads on where it stopped.
pub struct Reader {
    shelf: Arc<Shelf>,
    end: watch::Receiver<End>,
    /// The last record that was given.
    after: u64,
    /// Where the next one is, if that is known.
    at: Option<Position>,
}

struct Position {
    file: File,
    first: u64,
    offset: u64,
    /// The record that is there.
    seq: u64,
}

/// A record as it lies in the spool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spooled {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// What is sealed beside it; empty where nothing is.
    pub sealed: Vec<u8>,
}

impl Reader {
    pub(super) fn new(shelf: Arc<Shelf>, end: watch::Receiver<End>, after: u64) -> Self {
        Self { shelf, end, after, at: None }
    }

    /// The next records, about as many bytes of them; none where everything durable was given. What is
    /// no longer here is passed over.
    pub fn next(&mut self, bytes: usize) -> io::Result<Vec<Spooled>> {
        let durable = self.end.borrow().seq;
        let (mut records, mut total) = (Vec::new(), 0);
        let mut buffer = Vec::new();
        while self.after < durable && total < bytes {
            if self.at.is_none() {
                let Some(held) = self.shelf.with(self.after + 1) else { break };
                self.at = Some(Position::begin(File::open(&held.path)?, held.first)?);
            }
            let Some(position) = &mut self.at else { break };
            buffer.resize(CHUNK.max(MAX_FRAME), 0);
            let length = read_up_to(&position.file, &mut buffer, position.offset)?;
            let before = records.len();
            let mut rest = &buffer[..length];
            while position.seq <= durable && total < bytes {
                let At::Frame(frame) = Frame::read(rest) else { break };
                rest = &rest[frame.len()..];
                position.offset += frame.len() as u64;
                position.seq += 1;
                if frame.seq > self.after {
                    total += frame.len();
                    self.after = frame.seq;
                    records.push(Spooled {
                        seq: frame.seq,
                        hash: frame.hash,
                        leaf: frame.leaf.to_vec(),
                        sealed: frame.sealed.to_vec(),
                    });
                }
            }
            let (first, passed) = (position.first, rest.len() < length);
            if records.len() == before && !passed {
                // This segment ends here; the next record is in the one behind it.
                match self.shelf.behind(first) {
                    Some(next) => self.at = Some(Position::begin(File::open(&next.path)?, next.first)?),
                    None => break,
                }
            }
        }
        Ok(records)
    }
}

impl Position {
    fn begin(file: File, first: u64) -> io::Result<Self> {
        let mut header = [0; SEGMENT_HEADER];
        file.read_exact_at(&mut header, 0)?;
        match SegmentHeader::read(&header) {
            Begins::With(header) if header.first == first => {
                Ok(Self { file, first, offset: SEGMENT_HEADER as u64, seq: first })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a segment of the spool was altered")),
        }
    }
}

fn read_up_to(file: &File, buffer: &mut [u8], mut at: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], at)? {
            0 => break,
            read => (length, at) = (length + read, at + read as u64),
        }
    }
    Ok(length)
}

const CHUNK: usize = 128 * 1024;
