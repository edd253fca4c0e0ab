//! Deltas of a node's view, in parts on the wire and whole everywhere else.

use std::vec;

use bytes::Bytes;
use proto::writ::node::v1 as node;
use registry::{Delta, Key, LogId, Object, Revision, Snapshot, Stored};
use spiffe::{SignedBundle, Timestamp};

use super::{WireError, bundle};

/// How many keys are signed in one call.
pub const MAX_BATCH: usize = 500;

/// A part is closed when it has this many bytes of objects.
const PART_BYTES: usize = 1024 * 1024;
/// An object's JSON beyond this is refused.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// A delta of more objects and keys than this is refused.
const MAX_OBJECTS: usize = 4_000_000;

/// What one step of a stream says, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// What is different now.
    pub change: Change,
    /// The server's clock when it looked.
    pub at: Timestamp,
    /// The signed bundle, where the change touched it or the view is replaced.
    pub bundle: Option<SignedBundle>,
    /// The newest revision of the log when the server looked.
    pub head: Head,
}

/// The newest revision of a log, which its server can recognise later by the proof.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// The log.
    pub log: LogId,
    /// Its newest revision.
    pub revision: Revision,
    /// Opaque but to the server.
    pub proof: Bytes,
}

impl Head {
    /// As an agent shows it to a server.
    pub fn to_wire(&self) -> node::Head {
        let Self { log, revision, proof } = self.clone();
        node::Head { log: log.0, revision: revision.0, proof }
    }

    /// Of what an agent shows; longer than any of ours it means nothing.
    pub fn from_wire(head: node::Head) -> Option<Self> {
        let node::Head { log, revision, proof } = head;
        let is_short = log.len() <= MAX_LOG_ID && proof.len() <= MAX_PROOF;
        is_short.then_some(Self { log: LogId(log), revision: Revision(revision), proof })
    }
}

const MAX_LOG_ID: usize = 128;
const MAX_PROOF: usize = 256;

/// What a step does to the view.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The view is changed; a heartbeat is a delta without changes.
    Delta(Delta),
    /// The view is replaced.
    Snapshot(Snapshot),
}

/// A step on its way to the wire, part by part: each is made when it is asked for, so that a large view
/// is never in memory as a whole a second time.
#[derive(Debug)]
pub struct Parts {
    /// What all parts say alike.
    head: node::Delta,
    gone: vec::IntoIter<Key>,
    put: vec::IntoIter<Stored>,
    bundle: Option<node::SignedBundle>,
    done: bool,
}

impl Parts {
    /// The parts of a step.
    pub fn of(followed: Followed) -> Self {
        let Followed { change, at, bundle, head: newest } = followed;
        let head = |log: LogId, from: Revision, to: Revision, snapshot| node::Delta {
            log: log.0,
            from: from.0,
            to: to.0,
            snapshot,
            at: at.unix_millis(),
            head: newest.revision.0,
            head_proof: newest.proof.clone(),
            ..node::Delta::default()
        };
        let (head, gone, put) = match change {
            Change::Delta(delta) => (head(delta.log, delta.from, delta.to, false), delta.gone, delta.put),
            Change::Snapshot(view) => (head(view.log, view.at, view.at, true), Vec::new(), view.objects),
        };
        let bundle = bundle.as_ref().map(bundle::to_wire);
        Self { head, gone: gone.into_iter(), put: put.into_iter(), bundle, done: false }
    }
}

impl Iterator for Parts {
    type Item = node::Delta;

    fn next(&mut self) -> Option<node::Delta> {
        if self.done {
            return None;
        }
        let mut part = node::Delta { bundle: self.bundle.take(), ..self.head.clone() };
        let mut bytes = 0;
        while bytes <= PART_BYTES {
            if let Some(key) = self.gone.next() {
                let key = key.to_string();
                bytes += key.len();
                part.gone.push(key);
            } else if let Some(stored) = self.put.next() {
                let body = stored.object.to_json();
                bytes += body.len();
                let key = stored.object.key().to_string();
                part.put.push(node::Object { key, version: stored.version, body: body.into() });
            } else {
                break;
            }
        }
        part.more = self.gone.len() + self.put.len() > 0;
        self.done = !part.more;
        Some(part)
    }
}

/// Collects parts until a step is whole.
#[derive(Debug, Default)]
pub struct Assembler(Option<Unfinished>);

#[derive(Debug)]
struct Unfinished {
    log: String,
    from: u64,
    to: u64,
    snapshot: bool,
    put: Vec<Stored>,
    gone: Vec<Key>,
    bundle: Option<SignedBundle>,
}

impl Assembler {
    /// Takes one more part; the last one of a step makes it whole.
    pub fn add(&mut self, part: node::Delta) -> Result<Option<Followed>, WireError> {
        let (at, more) = (Timestamp::from_unix_millis(part.at), part.more);
        let (head, head_proof) = (Revision(part.head), part.head_proof.clone());
        let mut step = match self.0.take() {
            None => Unfinished {
                log: part.log.clone(),
                from: part.from,
                to: part.to,
                snapshot: part.snapshot,
                put: Vec::new(),
                gone: Vec::new(),
                bundle: None,
            },
            Some(step) => step,
        };
        step.add(part)?;
        if more {
            self.0 = Some(step);
            return Ok(None);
        }
        let (log, to) = (LogId(step.log), Revision(step.to));
        let head = Head { log: log.clone(), revision: head, proof: head_proof };
        if head.proof.len() > MAX_PROOF {
            return Err(WireError::field("head_proof", format_args!("{} bytes", head.proof.len())));
        }
        let change = match step.snapshot {
            true => Change::Snapshot(Snapshot { log, at: to, objects: step.put }),
            false => {
                Change::Delta(Delta { log, from: Revision(step.from), to, put: step.put, gone: step.gone })
            }
        };
        Ok(Some(Followed { change, at, bundle: step.bundle, head }))
    }
}

impl Unfinished {
    fn add(&mut self, part: node::Delta) -> Result<(), WireError> {
        let same =
            (&part.log, part.from, part.to, part.snapshot) == (&self.log, self.from, self.to, self.snapshot);
        if !same {
            return Err(WireError("parts of different deltas are mixed".to_owned()));
        }
        if self.put.len() + self.gone.len() + part.put.len() + part.gone.len() > MAX_OBJECTS {
            return Err(WireError::field("put", format_args!("more than {MAX_OBJECTS} objects")));
        }
        for object in part.put {
            self.put.push(stored(&object)?);
        }
        for key in part.gone {
            self.gone.push(key.parse().map_err(|error| WireError::field("gone", error))?);
        }
        if let Some(signed) = part.bundle {
            self.bundle = Some(bundle::from_wire(signed)?);
        }
        Ok(())
    }
}

/// An object as the wire has it.
pub(super) fn stored(object: &node::Object) -> Result<Stored, WireError> {
    if object.body.len() > MAX_BODY {
        return Err(WireError::field("body", format_args!("{} bytes", object.body.len())));
    }
    let key: Key = object.key.parse().map_err(|error| WireError::field("key", error))?;
    let read = Object::from_json(&key, &object.body).map_err(|error| WireError::field("body", error))?;
    Ok(Stored { version: object.version, object: read })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize) -> Stored {
        let body = serde_json::json!({
            "id": format!("e{n}"), "spiffe_id": format!("spiffe://acme.example/w{n}"),
            "parent_id": "spiffe://acme.example/spire/agent/join_token/n", "selectors": ["unix:uid:1"],
            "hint": "h".repeat(1024), "created_at": "2026-11-22T00:00:00Z",
        });
        let key = format!("entry/e{n}").parse().unwrap();
        Stored { version: 3, object: Object::from_json(&key, body.to_string().as_bytes()).unwrap() }
    }

    fn log() -> LogId {
        LogId("log-1".to_owned())
    }

    fn followed(change: Change) -> Followed {
        let head = Head { log: log(), revision: Revision(11), proof: vec![1; 64].into() };
        Followed { change, at: Timestamp::from_unix_millis(7), bundle: None, head }
    }

    fn assembled(parts: Vec<node::Delta>) -> Option<Followed> {
        let mut assembler = Assembler::default();
        let last = parts.len() - 1;
        for (n, part) in parts.into_iter().enumerate() {
            let followed = assembler.add(part).unwrap();
            assert_eq!(followed.is_some(), n == last);
            if followed.is_some() {
                return followed;
            }
        }
        None
    }

    #[test]
    fn a_view_of_many_parts_arrives_whole() {
        let snapshot = Snapshot { log: log(), at: Revision(9), objects: (0..3000).map(entry).collect() };
        let parts: Vec<_> = Parts::of(followed(Change::Snapshot(snapshot.clone()))).collect();
        assert!(parts.len() > 2, "{} parts", parts.len());
        let whole = assembled(parts).unwrap();
        assert_eq!(whole.at, Timestamp::from_unix_millis(7));
        assert_eq!((whole.head.revision, whole.head.proof.len()), (Revision(11), 64));
        assert_eq!(whole.change, Change::Snapshot(snapshot));
    }

    #[test]
    fn a_delta_arrives_with_what_came_and_what_went() {
        let gone = vec!["entry/e7".parse().unwrap()];
        let delta = Delta { log: log(), from: Revision(3), to: Revision(4), put: vec![entry(1)], gone };
        let whole = assembled(Parts::of(followed(Change::Delta(delta.clone()))).collect()).unwrap();
        assert_eq!(whole.change, Change::Delta(delta));
    }

    #[test]
    fn parts_of_two_deltas_do_not_make_one() {
        let part = |to| node::Delta { to, more: true, ..node::Delta::default() };
        let mut assembler = Assembler::default();
        assembler.add(part(4)).unwrap();
        assert!(assembler.add(part(5)).is_err());
        assert!(assembler.add(node::Delta::default()).unwrap().is_some(), "what was mixed is forgotten");
    }

    #[test]
    fn an_object_that_is_not_what_its_key_says_is_refused() {
        let object =
            node::Object { key: "entry/e1".into(), version: 1, body: entry(2).object.to_json().into() };
        let part = node::Delta { put: vec![object], ..node::Delta::default() };
        assert!(Assembler::default().add(part).is_err());
    }
}
