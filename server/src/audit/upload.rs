//! A node's upload: its records become entries in their order, each once, and what is missing or
//! contradicts is an alarm that is on record itself.

use audit::{Hash, Head, MAX_RECORD, SignedHead, chain::Place, keys::MAX_SEALED, spool::SpoolId};
use registry::objects::Sha256;
use serde::{Deserialize, Serialize};
use spiffe::json;
use store::NewEntry;

use super::{Audit, New, NotAppended, Step};
use crate::callers::NodeCaller;

/// The conversation with one agent.
pub(crate) struct Upload {
    audit: Audit,
    node: String,
    key_sha256: Sha256,
    source: String,
    spool: SpoolId,
    cursor: Cursor,
    /// The cursor's bytes as they are on disk.
    kept: Option<Vec<u8>>,
}

/// How far a spool is merged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Cursor {
    /// The last record.
    seq: u64,
    /// Its hash; unknown where records before the next one are missing.
    hash: Option<Hash>,
    /// The newest head that the node has signed for beyond that.
    signed: Option<(u64, Hash)>,
}

/// Where an upload begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Begun {
    pub(crate) next: u64,
    pub(crate) contradiction: Option<String>,
}

/// Why an upload cannot go on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Broken {
    /// What comes contradicts what is there; the alarm is on record.
    #[error("{0}")]
    Contradiction(String),
    /// What comes is nothing that an agent sends.
    #[error("{0}")]
    Nonsense(String),
    /// Not now.
    #[error(transparent)]
    NotAppended(#[from] NotAppended),
}

/// A record as it comes.
pub(crate) struct Coming {
    pub(crate) leaf: Vec<u8>,
    pub(crate) sealed: Vec<u8>,
}

impl Upload {
    /// The agent says what it has.
    pub(crate) async fn begin(
        audit: Audit,
        caller: &NodeCaller,
        spool: SpoolId,
        oldest: u64,
        newest: u64,
    ) -> Result<(Self, Begun), Broken> {
        let node = caller.id.to_string();
        let source = format!("node:{node}/{spool}");
        let unavailable = |error: store::StoreError| NotAppended::Unavailable(error.to_string());
        let reader = audit.reader().map_err(unavailable)?;
        let kept = reader.cursor(&source).map_err(unavailable)?;
        let newest_spool = reader.cursor(&format!("node:{node}")).map_err(unavailable)?;
        let before = newest_spool.filter(|before| *before != spool.to_string().into_bytes());
        let lost = before.as_ref().and_then(|before| {
            let source = format!("node:{node}/{}", String::from_utf8_lossy(before));
            reader.cursor(&source).ok().flatten().as_deref().and_then(Cursor::read)
        });
        drop(reader);
        let fresh = Cursor { seq: 0, hash: Some(Hash::default()), signed: None };
        let cursor = kept.as_deref().and_then(Cursor::read).unwrap_or(fresh);
        let mut upload = Self { audit, node, key_sha256: caller.key_sha256, source, spool, cursor, kept };
        if upload.kept.is_none() {
            upload.note_new_spool(before, lost).await?;
        }
        let next = upload.cursor.seq + 1;
        if newest < upload.cursor.seq {
            let why = format!(
                "the node's spool {spool} ends at record {newest}, and {} of it were acknowledged: it was put back or cut off",
                upload.cursor.seq
            );
            upload.audit.alarm(&upload.node, next, why.clone()).await;
            return Ok((upload, Begun { next, contradiction: Some(why) }));
        }
        if oldest > next {
            let why = format!(
                "records {next} to {} of the node's spool {spool} are at neither side any more",
                oldest - 1
            );
            upload.audit.alarm(&upload.node, oldest, why).await;
            let passed = Cursor { seq: oldest - 1, hash: None, ..upload.cursor.clone() };
            upload.step(Vec::new(), passed).await?;
            return Ok((upload, Begun { next: oldest, contradiction: None }));
        }
        Ok((upload, Begun { next, contradiction: None }))
    }

    /// Another spool than before: what the node had signed for in that one must all have come.
    async fn note_new_spool(&mut self, before: Option<Vec<u8>>, lost: Option<Cursor>) -> Result<(), Broken> {
        if let Some(Cursor { seq, signed: Some((signed, _)), .. }) = lost
            && signed > seq
        {
            let spool = before.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let (first, last) = (seq + 1, signed);
            let why = format!(
                "records {first} to {last} of the node's spool {spool} never came, and it has begun another one"
            );
            self.audit.alarm(&self.node, 1, why).await;
        }
        let step = Step {
            source: format!("node:{}", self.node),
            from: before,
            to: self.spool.to_string().into_bytes(),
        };
        match self.audit.append(Vec::new(), Some(step)).await {
            Ok(()) | Err(NotAppended::Overtaken) => Ok(()), // an older spool that has come back
            Err(error) => Err(error.into()),
        }
    }

    /// Takes records; when it returns they are durable, up to the number that it gives.
    pub(crate) async fn take(&mut self, coming: Vec<Coming>) -> Result<u64, Broken> {
        let mut cursor = self.cursor.clone();
        let mut entries = Vec::with_capacity(coming.len());
        for Coming { leaf, sealed } in coming {
            if leaf.len() > MAX_RECORD || sealed.len() > MAX_SEALED {
                return Err(Broken::Nonsense("a record is too long".to_owned()));
            }
            let place =
                place(&leaf).ok_or_else(|| Broken::Nonsense("not a record of a node's".to_owned()))?;
            if place.node.as_deref() != Some(self.node.as_str()) {
                return Err(self
                    .contradiction(place.seq, "a record names another node than the one that sends it")
                    .await);
            }
            if place.seq != cursor.seq + 1 {
                return Err(Broken::Nonsense(format!("record {} does not follow {}", place.seq, cursor.seq)));
            }
            if cursor.hash.is_some_and(|hash| place.prev_hash != Some(hash)) {
                let why =
                    "a record names another one before it than the one that came: there are two histories";
                return Err(self.contradiction(place.seq, why).await);
            }
            let hash = Hash::leaf(&leaf);
            match cursor.signed {
                Some((seq, signed)) if seq == place.seq && signed != hash => {
                    let why = "a record is not the one that the node has signed for: there are two histories";
                    return Err(self.contradiction(place.seq, why).await);
                }
                Some((seq, _)) if seq == place.seq => cursor.signed = None,
                _ => {}
            }
            (cursor.seq, cursor.hash) = (place.seq, Some(hash));
            entries.push(New::Leaf(NewEntry { leaf, sealed }));
        }
        self.step(entries, cursor).await?;
        Ok(self.cursor.seq)
    }

    /// Takes a head that the node has signed.
    pub(crate) async fn hear(&mut self, signed: SignedHead, public_key: &[u8]) -> Result<(), Broken> {
        let Head { node, spool, seq, hash, .. } = &signed.head;
        if *node != self.node
            || *spool != self.spool
            || Sha256::of(public_key) != self.key_sha256
            || !signed.is_signed_by(public_key)
        {
            return Err(Broken::Nonsense("a head is not signed by the node that sends it".to_owned()));
        }
        let (seq, hash) = (*seq, *hash);
        if seq == self.cursor.seq && self.cursor.hash.is_some_and(|mine| mine != hash) {
            let why =
                "the node has signed for another record than the one that came: there are two histories";
            return Err(self.contradiction(seq, why).await);
        }
        // What is here already needs no head. What is not must come.
        let is_news = seq > self.cursor.seq && self.cursor.signed.is_none_or(|(before, _)| seq > before);
        if is_news {
            let cursor = Cursor { signed: Some((seq, hash)), ..self.cursor.clone() };
            self.step(Vec::new(), cursor).await?;
        }
        Ok(())
    }

    async fn step(&mut self, entries: Vec<New>, cursor: Cursor) -> Result<(), Broken> {
        let to = serde_json::to_vec(&cursor).unwrap_or_default();
        let step = Step { source: self.source.clone(), from: self.kept.clone(), to: to.clone() };
        self.audit.append(entries, Some(step)).await?;
        (self.cursor, self.kept) = (cursor, Some(to));
        Ok(())
    }

    async fn contradiction(&self, seq: u64, why: &str) -> Broken {
        let why = format!("record {seq} of spool {}: {why}", self.spool);
        self.audit.alarm(&self.node, seq, why.clone()).await;
        Broken::Contradiction(why)
    }
}

/// Where a record stands. A record of a node's is read alike by everybody (one canonical object, no name twice), and says
/// nothing of an author: that is how the server's own commits are told from it.
fn place(leaf: &[u8]) -> Option<Place> {
    let value = json::parse(leaf).ok()?;
    let is_canonical = json::canonical(&value).is_ok_and(|canonical| canonical == leaf);
    let is_a_nodes = is_canonical && value.get("author").is_none();
    is_a_nodes.then(|| serde_json::from_value(value).ok()).flatten()
}

impl Cursor {
    fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
