//! Commits to write, and logs to write them to.

use registry::{
    Author, Change, Commit, Key, Object, Revision,
    objects::{NodeName, Token, TokenState},
};
use spiffe::Timestamp;

/// A token of the node `name`, told apart by `mark`.
pub(crate) fn token(name: &str, mark: u64) -> Object {
    Object::from(Token {
        node: name.parse().unwrap(),
        secret_sha256: format!("{mark:064x}").parse().unwrap(),
        expires_at: Timestamp::from_unix_seconds(2_000_000_000),
        state: TokenState::Fresh,
    })
}

pub(crate) fn key(name: &str) -> Key {
    Key::Token(name.parse::<NodeName>().unwrap())
}

pub(crate) fn put(name: &str, version: u64) -> Change {
    Change::Put { version, object: token(name, version) }
}

pub(crate) fn commit(revision: u64, changes: Vec<Change>) -> Commit {
    Commit {
        revision: Revision(revision),
        at: Timestamp::from_unix_millis(1_795_000_000_000 + revision as i64),
        author: Author::Local { uid: 0, pid: 7 },
        changes,
        leaf: format!("{{\"seq\":{revision}}}").into_bytes(),
    }
}
