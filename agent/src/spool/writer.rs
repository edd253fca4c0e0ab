//! The writer: one thread appends what waits, as one group, and one sync makes all of it durable.

use std::{collections::VecDeque, fs, io, sync::Arc, thread, time::Duration};

use audit::{
    Chain, Kind, Link, Record, RecordError, Sealed,
    spool::{FRAME_HEADER, Frame, MAX_FRAME, SEGMENT_HEADER, SegmentHeader, SpoolId},
};
use tokio::sync::watch;

use super::{
    End, Terms, Unrecorded,
    open::{Begun, set_aside},
    queue::{Answer, Asked, Noted, Queue, Waiting},
    segments::{SPARES, Segment, Shelf, sync_dir},
};
use crate::clock;

/// Owns the files.
pub(super) struct Writer {
    terms: Terms,
    queue: Arc<Queue>,
    shelf: Arc<Shelf>,
    end: watch::Sender<End>,
    begun: Begun,
    /// Endings for which there was no room at all.
    held: VecDeque<Noted>,
    /// A spare segment is being made on another thread.
    making: bool,
    /// The last attempt to make one found no room.
    full: bool,
    /// When another attempt is worth it.
    try_at: std::time::Instant,
    /// Somebody was refused for lack of room, and none has come since.
    starved: bool,
    broken: bool,
}

/// A group under way: bytes for one place, and who waits for them.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    links: Vec<(Link, Answer)>,
}

impl Writer {
    pub(super) fn start(
        terms: Terms,
        begun: Begun,
        queue: Arc<Queue>,
        shelf: Arc<Shelf>,
        end: watch::Sender<End>,
    ) -> io::Result<thread::JoinHandle<()>> {
        let nameless = begun.marks.node.is_empty();
        queue.waiting.lock().trouble = nameless.then_some(Unrecorded::Nameless);
        let writer = Self {
            terms,
            queue,
            shelf,
            end,
            begun,
            held: VecDeque::new(),
            making: false,
            full: false,
            try_at: std::time::Instant::now(),
            starved: false,
            broken: false,
        };
        thread::Builder::new().name("writ-spool".to_owned()).spawn(move || writer.run())
    }

    fn run(mut self) {
        if !self.begun.marks.node.is_empty() {
            self.begin();
        }
        loop {
            let taken = self.take();
            let over = taken.closed && taken.asked.is_empty() && taken.notes.is_empty();
            self.change(taken.known, taken.acknowledged, taken.spare);
            if let Some(why) = taken.anew {
                let node = self.begun.marks.node.clone();
                self.begin_another(&node, why);
            }
            self.append(taken.asked, taken.notes);
            self.make_spares();
            self.publish_trouble();
            if over {
                if self.making {
                    self.await_spare(); // whoever opens the directory next shall find it at rest
                }
                return;
            }
        }
    }

    /// Waits until there is something to do, and takes all of it.
    fn take(&mut self) -> Waiting {
        let mut waiting = self.queue.waiting.lock();
        let idle = |waiting: &Waiting| {
            waiting.asked.is_empty()
                && waiting.notes.is_empty()
                && waiting.known.is_none()
                && waiting.anew.is_none()
                && waiting.acknowledged.is_none()
                && waiting.spare.is_none()
                && !waiting.closed
        };
        if idle(&waiting) {
            let within = if self.full { TRY_AGAIN } else { IDLE };
            self.queue.more.wait_for(&mut waiting, within);
        }
        // Nobody waits for it, and a sync that others need as well comes most likely at once.
        while let Some(since) = waiting.patient
            && !waiting.closed
            && !self.queue.more.wait_until(&mut waiting, since + PATIENT).timed_out()
        {}
        waiting.patient = None;
        let group = waiting.asked.len().min(MOST_IN_GROUP);
        Waiting {
            asked: waiting.asked.drain(..group).collect(),
            notes: std::mem::take(&mut waiting.notes),
            known: waiting.known.take(),
            anew: waiting.anew.take(),
            acknowledged: waiting.acknowledged.take(),
            spare: waiting.spare.take(),
            patient: None,
            trouble: None,
            closed: waiting.closed,
        }
    }

    fn change(
        &mut self,
        known: Option<String>,
        acknowledged: Option<(SpoolId, u64)>,
        spare: Option<io::Result<Segment>>,
    ) {
        if let Some(made) = spare {
            self.making = false;
            match made {
                Ok(segment) => {
                    self.begun.spares.push_back(segment);
                    (self.full, self.starved) = (false, false);
                }
                Err(error) => {
                    if !self.full {
                        tracing::error!(%error, "no room for more audit records; nothing new is permitted when what is left is used up");
                    }
                    self.full = true;
                    self.try_at = std::time::Instant::now() + TRY_AGAIN;
                }
            }
        }
        if let Some(node) = known.filter(|node| *node != self.begun.marks.node) {
            self.rename(&node);
        }
        if let Some((spool, seq)) = acknowledged.filter(|(spool, _)| *spool == self.begun.spool) {
            // On a full disk room is worth more.
            let seq = if self.full { seq } else { self.queue.spendable(spool, seq) };
            self.forget(spool, seq);
        }
    }

    /// The node has a name now, or another one, under which its records are another spool's.
    fn rename(&mut self, node: &str) {
        let before = self.begun.marks.node.clone();
        if !before.is_empty() {
            return self.begin_another(node, format!("this node was {before} before"));
        }
        self.begun.marks.node = node.to_owned();
        let (last, head) = (self.begun.chain.last(), self.begun.chain.head());
        self.begun.chain = Chain::after(Some(node.to_owned()), last, head);
        self.begin();
    }

    /// Sets the spool aside, for whoever looks into it, and begins another one.
    fn begin_another(&mut self, node: &str, why: String) {
        if self.making {
            self.await_spare(); // it would come into the new spool
        }
        let anew = set_aside(&self.terms.dir).and_then(|aside| {
            tracing::error!(aside = %aside.display(), "another spool of audit records begins: {why}");
            Begun::anew(node, why, self.terms.share)
        });
        match anew {
            Ok(begun) => self.begun = begun,
            Err(error) => return self.fence(&error),
        }
        self.shelf.clear();
        self.begin();
    }

    /// Writes down whose records follow, takes the room for them, and records how it begins.
    fn begin(&mut self) {
        if let Err(error) = self.begun.marks.write(&self.terms.dir) {
            return self.fence(&error);
        }
        while self.begun.spares.len() < SPARES && self.has_quota() {
            match self.make_spare() {
                Ok(segment) => self.begun.spares.push_back(segment),
                Err(error) => {
                    tracing::error!(%error, "no room for audit records");
                    self.full = true;
                    break;
                }
            }
        }
        let first = self.begun.first.take();
        self.append(VecDeque::new(), first.into_iter().map(noted).collect());
        self.publish_trouble();
    }

    fn append(&mut self, asked: VecDeque<Asked>, notes: VecDeque<Noted>) {
        self.held.extend(notes);
        if self.broken || self.begun.marks.node.is_empty() {
            let why = if self.broken { Unrecorded::Broken } else { Unrecorded::Nameless };
            asked.into_iter().for_each(|asked| refuse(asked, why));
            return;
        }
        let mut group = Group::default();
        // What ends goes first: it waits for nothing.
        while let Some(Noted { record, answer }) = self.held.pop_front() {
            let link = self.begun.chain.link(&record);
            let link = link.or_else(|_| self.begun.chain.link(&record.shortened()));
            let Ok(link) = link else { continue }; // a shortened record always fits
            let none = Sealed(Vec::new());
            if let Err((_, answer)) = self.put(&mut group, link, record.tenant.as_deref(), &none, answer, 0) {
                self.held.push_front(Noted { record, answer });
                break;
            }
        }
        let mut stopped = VecDeque::new();
        for Asked { record, sealed, answer } in asked {
            let tenant = record.tenant.as_deref();
            // Counts of denials are few, and tell of many.
            if record.kind != Kind::Denials && self.begun.shares.is_used_up(tenant) {
                stopped.extend(tenant.filter(|tenant| self.begun.shares.refuse(tenant)).map(str::to_owned));
                answer.give(Err(Unrecorded::Share));
                continue;
            }
            let sealed = sealed.unwrap_or(Sealed(Vec::new()));
            match self.begun.chain.link(&record) {
                Ok(link) => {
                    if let Err((why, answer)) = self.put(&mut group, link, tenant, &sealed, answer, 1) {
                        answer.give(Err(why));
                    }
                }
                Err(RecordError::Length(_) | RecordError::Form(_)) => {
                    answer.give(Err(Unrecorded::TooLong));
                }
            }
        }
        self.flush(group);
        self.tell_of_shares(Kind::SpoolFull, stopped);
    }

    /// Records whose share of the room is used up, and who has room again.
    fn tell_of_shares(&mut self, kind: Kind, tenants: impl IntoIterator<Item = String>) {
        let told = |tenant: String| {
            tracing::warn!(%kind, tenant, "a tenant's share of the room for audit records");
            noted(Record { tenant: Some(tenant), ..Record::new(kind, clock::now()) })
        };
        let told: VecDeque<_> = tenants.into_iter().map(told).collect();
        if !told.is_empty() {
            self.append(VecDeque::new(), told);
        }
    }

    /// Puts a record behind the group if there is room and `reserve` more segments are left after it; otherwise says why
    /// not, and whom to tell.
    fn put(
        &mut self,
        group: &mut Group,
        link: Link,
        tenant: Option<&str>,
        sealed: &Sealed,
        answer: Answer,
        reserve: usize,
    ) -> Result<(), (Unrecorded, Answer)> {
        let synced = self.end.borrow().seq;
        let frame = Frame { seq: link.seq, synced, hash: link.hash, leaf: &link.leaf, sealed: &sealed.0 };
        debug_assert!(frame.len() <= MAX_FRAME);
        let fits = self.begun.current.as_ref().is_some_and(|(_, at)| {
            at + (group.bytes.len() + frame.len()) as u64 <= u64::from(self.terms.segment)
        });
        let ready = self.begun.spares.len();
        let has_room = if fits { ready >= reserve } else { ready > reserve };
        let why = if self.broken { Unrecorded::Broken } else { Unrecorded::Full };
        if self.broken || !has_room {
            if !self.broken && reserve > 0 && self.making {
                // The next segment is nearly there; it is worth a few milliseconds.
                self.flush(std::mem::take(group));
                self.await_spare();
                if self.begun.spares.len() > ready {
                    return self.put(group, link, tenant, sealed, answer, reserve);
                }
            }
            self.starved |= reserve > 0;
            return Err((why, answer));
        }
        if !fits {
            self.flush(std::mem::take(group));
            if !self.turn() {
                return Err((Unrecorded::Broken, answer));
            }
            let synced = self.end.borrow().seq;
            Frame { synced, ..frame }.write(&mut group.bytes);
        } else {
            frame.write(&mut group.bytes);
        }
        self.begun.shares.take(tenant, FRAME_HEADER + link.leaf.len() + sealed.0.len());
        self.begun.chain.take(&link);
        group.links.push((link, answer));
        Ok(())
    }

    /// Makes a group durable and answers.
    fn flush(&mut self, group: Group) {
        let Group { bytes, links } = group;
        let (Some((segment, at)), Some((last, _))) = (&mut self.begun.current, links.last()) else { return };
        let written = if self.broken {
            Err(io::Error::other("an earlier write failed"))
        } else {
            segment.write(&bytes, *at)
        };
        match written {
            Ok(()) => {
                *at += bytes.len() as u64;
                self.end.send_replace(End {
                    node: self.begun.marks.node.clone(),
                    spool: self.begun.spool,
                    seq: last.seq,
                    hash: last.hash,
                });
                for (link, answer) in links {
                    answer.give(Ok(link.synced()));
                }
            }
            Err(error) => {
                // What reached the disk is unknown, and a second sync would not say.
                self.fence(&error);
                for (_, answer) in links {
                    answer.give(Err(Unrecorded::Broken));
                }
            }
        }
    }

    /// Goes on in the next segment. The one before is durable as a whole.
    fn turn(&mut self) -> bool {
        let Some(next) = self.begun.spares.pop_front() else { return false };
        let Begun { spool, chain, .. } = &self.begun;
        let header = SegmentHeader { spool: *spool, first: chain.last() + 1, before: chain.head() };
        match next.write(&header.to_bytes(), 0) {
            Ok(()) => {
                self.shelf.put(next.path.clone(), header.first);
                self.begun.shares.turn();
                self.begun.current = Some((next, SEGMENT_HEADER as u64));
                self.make_spares();
                !self.broken
            }
            Err(error) => {
                self.fence(&error);
                false
            }
        }
    }

    /// The server has these: their segments may go.
    fn forget(&mut self, spool: SpoolId, seq: u64) {
        let gone = self.shelf.take_upto(seq);
        if gone.is_empty() {
            return;
        }
        // First that they are not missed, then that they are gone.
        let marks = &mut self.begun.marks;
        (marks.spool, marks.acknowledged) = (Some(spool), seq.max(marks.acknowledged));
        if let Err(error) = marks.write(&self.terms.dir) {
            return self.fence(&error);
        }
        for path in &gone {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "a segment that the server has cannot be deleted");
            }
        }
        if let Err(error) = gone.first().map_or(Ok(()), |path| sync_dir(path)) {
            tracing::warn!(%error, "the deletion of segments is not durable yet");
        }
        self.try_at = std::time::Instant::now();
        let again = self.begun.shares.forget(gone.len());
        self.tell_of_shares(Kind::SpoolRoom, again);
    }

    /// Has another segment made beside the writing, so that nobody waits for it.
    fn make_spares(&mut self) {
        let wanted = self.begun.spares.len() < SPARES && !self.making && !self.broken;
        let worth = !self.full || std::time::Instant::now() >= self.try_at;
        if !wanted || !worth || self.begun.marks.node.is_empty() {
            return;
        }
        if !self.has_quota() {
            self.full = true;
            self.try_at = std::time::Instant::now() + TRY_AGAIN;
            return;
        }
        let (queue, number) = (self.queue.clone(), self.next_number());
        let (dir, bytes) = (self.terms.dir.clone(), self.terms.segment);
        let made = thread::Builder::new().name("writ-spool-room".to_owned()).spawn(move || {
            let made = Segment::make(&dir, number, bytes);
            queue.waiting.lock().spare = Some(made);
            queue.more.notify_one();
        });
        match made {
            Ok(_) => self.making = true,
            Err(error) => tracing::error!(%error, "no thread for the next segment of audit records"),
        }
    }

    fn make_spare(&mut self) -> io::Result<Segment> {
        let number = self.next_number();
        Segment::make(&self.terms.dir, number, self.terms.segment)
    }

    fn next_number(&mut self) -> u64 {
        let number = self.begun.number;
        self.begun.number += 1;
        number
    }

    fn await_spare(&mut self) {
        let made = {
            let mut waiting = self.queue.waiting.lock();
            self.queue.more.wait_while_for(&mut waiting, |waiting| waiting.spare.is_none(), SPARE_WITHIN);
            waiting.spare.take()
        };
        self.change(None, None, made);
    }

    /// All segments, those that lie ready too, have their share of the disk.
    fn has_quota(&self) -> bool {
        let segments = self.shelf.len() + self.begun.spares.len() + 1;
        segments as u64 * u64::from(self.terms.segment) <= self.terms.most
    }

    /// Says why nothing new can be recorded, and records when that begins and ends.
    fn publish_trouble(&mut self) {
        let trouble = if self.broken {
            Some(Unrecorded::Broken)
        } else if self.begun.marks.node.is_empty() {
            Some(Unrecorded::Nameless)
        } else {
            (self.full && self.starved).then_some(Unrecorded::Full)
        };
        let before = std::mem::replace(&mut self.queue.waiting.lock().trouble, trouble);
        let kind = match (before, trouble) {
            (before, Some(Unrecorded::Full)) if before != trouble => Kind::SpoolFull,
            (Some(Unrecorded::Full), None) => Kind::SpoolRoom,
            _ => return,
        };
        tracing::warn!(%kind, "room for audit records");
        self.append(VecDeque::new(), [noted(Record::new(kind, clock::now()))].into());
    }

    fn fence(&mut self, error: &dyn std::fmt::Display) {
        if !self.broken {
            tracing::error!(%error, "the disk of the audit records failed; nothing is permitted until the agent is restarted");
        }
        self.broken = true;
    }
}

fn noted(record: Record) -> Noted {
    Noted { record: Arc::new(record), answer: Answer::Nobody }
}

fn refuse(asked: Asked, why: Unrecorded) {
    asked.answer.give(Err(why));
}

/// So many become durable by one sync at most.
const MOST_IN_GROUP: usize = 512;
/// So long a record may wait that nobody waits for.
const PATIENT: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_secs(3600);
/// On a full disk room is looked for so often.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// A segment that is being made is there within this time, or there is none.
const SPARE_WITHIN: Duration = Duration::from_millis(500);
