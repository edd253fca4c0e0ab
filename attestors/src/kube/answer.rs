//! [`Answer`]: what was answered, to be read in one of three ways, each of them bounded.

use std::io::{self, Read};

use futures::TryStreamExt;
use http_body_util::{BodyDataStream, BodyExt, Limited};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Incoming},
};
use tokio::task::spawn_blocking;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{Address, Trouble};
use crate::https::Connection;

/// An answer whose body has not been read.
#[derive(Debug)]
pub struct Answer {
    address: Address,
    status: StatusCode,
    body: Incoming,
    connection: Connection,
}

/// An answer that comes line by line, for as long as it goes on.
#[derive(Debug)]
pub struct Lines {
    answer: Answer,
    pending: Vec<u8>,
}

impl Answer {
    pub(super) fn new(address: Address, answer: Response<Incoming>, connection: Connection) -> Self {
        Self { address, status: answer.status(), body: answer.into_body(), connection }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// All of it, if it is not longer than `most` bytes.
    pub async fn whole(self, most: usize) -> Result<Bytes, Trouble> {
        let Self { address, body, connection: _open, .. } = self;
        let body = Limited::new(body, most).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| unusable(&address, error))
    }

    /// Has it read while it comes, on a thread where reading may wait, so that it is never whole in memory.
    /// Whatever comes after `most` bytes is missing.
    pub async fn read<T: Send + 'static>(
        self,
        most: u64,
        parse: impl FnOnce(&mut dyn Read) -> Result<T, serde_json::Error> + Send + 'static,
    ) -> Result<T, Trouble> {
        let Self { address, body, connection: _open, .. } = self;
        let body = StreamReader::new(BodyDataStream::new(body).map_err(io::Error::other));
        let bridge = SyncIoBridge::new(Box::pin(body));
        let parsing = spawn_blocking(move || parse(&mut io::BufReader::new(bridge.take(most))));
        match parsing.await {
            Ok(Ok(parsed)) => Ok(parsed),
            Ok(Err(error)) => Err(unusable(&address, form(&error))),
            Err(broken) => Err(unusable(&address, broken)),
        }
    }

    /// Reads it line by line.
    pub fn lines(self) -> Lines {
        Lines { answer: self, pending: Vec::new() }
    }
}

impl Lines {
    /// The next line, if it is not longer than `most` bytes; `None` at the end.
    pub async fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>, Trouble> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.pending[looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(looked + end + 1);
                return Ok(Some(std::mem::replace(&mut self.pending, rest)));
            }
            looked = self.pending.len();
            if looked > most {
                return Err(unusable(&self.answer.address, "a line is too long"));
            }
            match self.answer.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(unusable(&self.answer.address, error)),
                Some(Ok(frame)) => self.pending.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
        }
    }

    /// Whose lines they are.
    pub fn address(&self) -> &Address {
        &self.answer.address
    }
}

/// What is wrong with JSON, without a word of it.
fn form(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "it breaks off",
        serde_json::error::Category::Syntax => "it is no JSON",
        serde_json::error::Category::Data => "it has another form",
        serde_json::error::Category::Eof => "it ends too early, or is too long",
    };
    format!("{what} (at line {}, column {})", error.line(), error.column())
}

fn unusable(address: &Address, why: impl ToString) -> Trouble {
    Trouble::Unusable { address: address.clone(), why: why.to_string() }
}
