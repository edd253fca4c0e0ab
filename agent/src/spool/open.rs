//! What a former process left: a crash's half-written end is cut off, and what no crash can have done is
//! set aside, named in the first record of another spool.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use audit::{
    Chain, Kind, Record,
    flood::Floods,
    spool::{
        Damage, Found, Recovered, SEGMENT_HEADER, SpoolId, recover,
        segment::{Begins, SegmentHeader},
    },
};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use daemon::{DiskError, private_dir};
use parking_lot::Mutex;
use spiffe::PrivateKey;
use tokio::sync::watch;

use super::{
    End, Last, Spool, SpoolError, Terms, heads,
    marks::{MARKS, Marks},
    queue::Queue,
    segments::{self, Segment, Shelf, sync_dir},
    shares::Shares,
    writer::Writer,
};
use crate::clock;

/// Where a writer goes on.
pub(super) struct Begun {
    pub(super) spool: SpoolId,
    pub(super) chain: Chain,
    /// The segment that is written, and where; nothing before the first record.
    pub(super) current: Option<(Segment, u64)>,
    /// Segments that lie ready.
    pub(super) spares: VecDeque<Segment>,
    /// The next segment's number.
    pub(super) number: u64,
    pub(super) marks: Marks,
    /// What each tenant's records take of the room.
    pub(super) shares: Shares,
    /// What must be recorded of the beginning.
    pub(super) first: Option<Record>,
}

impl Spool {
    /// Opens the spool of this node, or begins one. `key` is what the node has signed heads with.
    pub fn open(terms: Terms, node: Option<&str>, key: &PrivateKey) -> Result<Self, SpoolError> {
        private_dir(&terms.dir)?;
        let shelf = Arc::new(Shelf::default());
        let marks = Marks::read(&terms.dir).map_err(failed("read the marks in", &terms.dir))?;
        let node = node.map_or_else(|| marks.node.clone(), str::to_owned);
        let begun = match node != marks.node && !marks.node.is_empty() {
            true => {
                set_aside(&terms.dir)?;
                Begun::anew(&node, format!("this node was {} before", marks.node), terms.share)?
            }
            false => continued(&terms, marks, &node, key, &shelf)?,
        };
        let end = End { node, spool: begun.spool, seq: begun.chain.last(), hash: begun.chain.head() };
        let acknowledged = watch::Sender::new((end.spool, begun.marks.acknowledged));
        let (sender, end) = watch::channel(end);
        let queue = Arc::new(Queue::at(terms.dir.clone()));
        let floods = Arc::new(Mutex::new(Floods::new(terms.floods)));
        let writer = Writer::start(terms, begun, queue.clone(), shelf.clone(), sender)
            .map_err(|error| SpoolError::Start(error.to_string()))?;
        let _last = Arc::new(Last { queue: queue.clone(), writer: Some(writer) });
        Ok(Self { _last, queue, shelf, floods, acknowledged, wanted: watch::channel(0).0, end })
    }
}

/// Goes on with what is there.
fn continued(
    terms: &Terms,
    marks: Marks,
    node: &str,
    key: &PrivateKey,
    shelf: &Shelf,
) -> Result<Begun, SpoolError> {
    let dir = &terms.dir;
    let listed = segments::list(dir).map_err(failed("read", dir))?;
    let mut contents = Vec::new();
    for (_, path) in &listed {
        contents.push(fs::read(path).map_err(failed("read", path))?);
    }
    let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let signed = heads::kept(dir, key)?;
    match recover(&slices, signed.as_ref(), marks.acknowledged) {
        Found::Nothing => {
            for (_, path) in &listed {
                fs::remove_file(path).map_err(failed("remove", path))?; // spare ones
            }
            Begun::anew(node, "this node records for the first time".to_owned(), terms.share)
        }
        Found::Spool(Recovered { damage: Some(damage), .. }) | Found::Unreadable(damage) => {
            damaged(terms, node, &damage)
        }
        Found::Spool(found) => {
            let shares = Shares::of(terms.share);
            resumed(&listed, &slices, found, (marks, shares), node, shelf)
        }
    }
}

fn resumed(
    listed: &[(u64, PathBuf)],
    contents: &[&[u8]],
    found: Recovered,
    (marks, mut shares): (Marks, Shares),
    node: &str,
    shelf: &Shelf,
) -> Result<Begun, SpoolError> {
    let mut spares = VecDeque::new();
    for ((_, path), content) in listed.iter().zip(contents) {
        let segment = Segment::open(path).map_err(failed("open", path))?;
        match SegmentHeader::read(content) {
            Begins::With(header) => {
                shelf.put(path.clone(), header.first);
                shares.turn();
                for (_, frame) in &header.frames(content).frames {
                    shares.take(tenant(frame.leaf).as_deref(), frame.len());
                }
            }
            Begins::Spare | Begins::Rubbish => {
                let header = [0; SEGMENT_HEADER]; // perhaps half of one
                segment.write(&header, 0).map_err(failed("write", path))?;
                spares.push_back(segment);
            }
        }
    }
    let path = &listed[found.segment].1;
    let current = Segment::open(path).map_err(failed("open", path))?;
    let mut first = None;
    if found.torn > 0 {
        let zeros = vec![0; contents[found.segment].len() - found.offset];
        current.write(&zeros, found.offset as u64).map_err(failed("write", path))?;
        let why = format!("a crash left {} bytes of records that nobody had been promised", found.torn);
        first = Some(Record { reason: Some(why), ..Record::new(Kind::SpoolTorn, clock::now()) });
    }
    Ok(Begun {
        spool: found.spool,
        chain: found.chain((!node.is_empty()).then(|| node.to_owned())),
        current: Some((current, found.offset as u64)),
        spares,
        number: listed.last().map_or(1, |(number, _)| number + 1),
        marks: Marks { node: node.to_owned(), ..marks },
        shares,
        first,
    })
}

/// Whose record this is; one that says nothing to this version is nobody's.
fn tenant(leaf: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Whose {
        tenant: Option<String>,
    }
    serde_json::from_slice::<Whose>(leaf).ok()?.tenant
}

/// What no crash can have done stays for whoever looks into it; the records after it are another spool's.
fn damaged(terms: &Terms, node: &str, damage: &Damage) -> Result<Begun, SpoolError> {
    let aside = set_aside(&terms.dir)?;
    tracing::error!(%damage, aside = %aside.display(), "the spool of audit records was altered outside of writ");
    Begun::anew(
        node,
        format!("the spool before was altered outside of writ: {damage}; it lies in {}", aside.display()),
        terms.share,
    )
}

/// Moves everything of a spool into a directory of its own.
pub(super) fn set_aside(dir: &Path) -> Result<PathBuf, SpoolError> {
    let aside = dir.join(format!("aside-{}", clock::now().unix_millis()));
    private_dir(&aside)?;
    let mut paths: Vec<PathBuf> =
        segments::list(dir).map_err(failed("read", dir))?.into_iter().map(|(_, path)| path).collect();
    paths.extend([dir.join(MARKS), dir.join(heads::HEAD)].into_iter().filter(|path| path.exists()));
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        fs::rename(&path, aside.join(name)).map_err(failed("move", &path))?;
    }
    sync_dir(&aside.join("x")).and_then(|()| sync_dir(&aside)).map_err(failed("sync", &aside))?;
    Ok(aside)
}

impl Begun {
    /// A spool without records.
    pub(super) fn anew(node: &str, why: String, share: u64) -> Result<Self, SpoolError> {
        let mut id = [0; 16];
        let random = SystemRandom::new().fill(&mut id);
        random.map_err(|_| SpoolError::Start("the operating system gives no randomness".to_owned()))?;
        let spool = SpoolId(id);
        let why = format!("spool {spool}: {why}");
        Ok(Self {
            spool,
            chain: Chain::new((!node.is_empty()).then(|| node.to_owned())),
            current: None,
            spares: VecDeque::new(),
            number: 1,
            marks: Marks::of(node),
            shares: Shares::of(share),
            first: Some(Record { reason: Some(why), ..Record::new(Kind::SpoolBegin, clock::now()) }),
        })
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> DiskError + 'a {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}
