//! Reads and sends in flight together, over tasks that delegate, end and begin again in one memory, and over a
//! store. An oracle knows what each memory really holds; nothing of it may leave.

use std::{collections::BTreeSet, sync::Arc};

use registry::{
    objects::{Reason, TaskId},
    scope::{Egress, Label},
};
use serde_json::json;

use crate::{
    Chain, Decision, Permit, Situation, ToolCall, World,
    chain::Standing,
    judge,
    labels::{DomainLabels, StoredLabels},
    permit::Spent,
    testing::*,
};

const INTERLEAVINGS: u64 = 10_000;
const STEPS: u32 = 20;
/// Memories: the first holds a task and its child, which can talk unseen; the second one task.
const MEMORIES: [u8; 2] = [0, 1];

#[test]
fn in_no_order_of_reads_writes_and_sends_does_a_secret_leave() {
    let [sent, denied, leaks] = runs(INTERLEAVINGS, true);
    assert_eq!(leaks, 0);
    assert!(sent > INTERLEAVINGS / 4 && denied > INTERLEAVINGS / 20, "{sent} sent, {denied} denied");
}

#[test]
fn the_oracle_sees_what_leaves_where_labels_are_not_raised() {
    let [_, _, leaks] = runs(INTERLEAVINGS / 10, false);
    assert!(leaks > 0);
}

/// How many sends went, were denied, and took a secret along.
fn runs(interleavings: u64, raises: bool) -> [u64; 3] {
    let (world, calls) = (world(), Calls::new());
    let part = |first: u64| {
        let mut counts = [0, 0, 0];
        for seed in (first..interleavings).step_by(PARTS as usize) {
            let mut run = Run::new(seed, raises);
            for _ in 0..STEPS {
                run.step(&world, &calls);
            }
            add(&mut counts, [run.sent, run.denied, run.leaks]);
        }
        counts
    };
    let mut counts = [0, 0, 0];
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..PARTS)
            .map(|first| {
                scope.spawn({
                    let part = &part;
                    move || part(first)
                })
            })
            .collect();
        parts.into_iter().for_each(|part| add(&mut counts, part.join().unwrap()));
    });
    counts
}

/// So many threads share the runs.
const PARTS: u64 = 4;

fn add(counts: &mut [u64; 3], more: [u64; 3]) {
    counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
}

/// What may be known.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Fact {
    Secret,
}

type Knowledge = BTreeSet<Fact>;

struct Calls {
    secret: ToolCall,
    stored: ToolCall,
    send: ToolCall,
    write: ToolCall,
}

impl Calls {
    fn new() -> Self {
        Self {
            secret: call("files/secret", json!({})),
            stored: call("files/read", json!({})),
            send: call("mail/send", json!({ "to": "x" })),
            write: call("files/write", json!({ "path": "/x" })),
        }
    }
}

/// A call that was permitted, on its way.
struct Flight {
    memory: u8,
    task: TaskId,
    call: ToolCall,
    /// What its arguments say, as they were when it was judged.
    payload: Knowledge,
    stage: Stage,
}

enum Stage {
    Permitted(Permit),
    Forwarded(Spent, Knowledge),
    Over,
}

struct Run {
    /// Whether an answer's label is raised before it is released, as it must be.
    raises: bool,
    random: u64,
    chains: [Chain; 2],
    children: u8,
    domains: DomainLabels<u8, ()>,
    stored: StoredLabels,
    known: [Knowledge; 2],
    in_store: Knowledge,
    flights: Vec<Flight>,
    sent: u64,
    denied: u64,
    leaks: u64,
}

impl Run {
    fn new(seed: u64, raises: bool) -> Self {
        let mut domains = DomainLabels::default();
        for memory in MEMORIES {
            domains.raise(&memory, &(), &Label::default());
        }
        Self {
            raises,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            chains: [begin(Label::default()), begin(Label::default())],
            children: 0,
            domains,
            stored: StoredLabels::default(),
            known: [Knowledge::new(), Knowledge::new()],
            in_store: Knowledge::new(),
            flights: Vec::new(),
            sent: 0,
            denied: 0,
            leaks: 0,
        }
    }

    fn step(&mut self, world: &World, calls: &Calls) {
        let memory = self.pick(2) as u8;
        match self.pick(12) {
            0 | 1 => self.ask(memory, world, &calls.secret),
            2 => self.ask(memory, world, &calls.stored),
            3 | 4 => self.ask(memory, world, &calls.send),
            5 => self.ask(memory, world, &calls.write),
            6 | 7 => self.forward(),
            8 | 9 => self.answer(),
            10 => self.start_over(memory),
            _ => self.delegate(),
        }
    }

    fn ask(&mut self, memory: u8, world: &World, call: &ToolCall) {
        let good = Good::default();
        let (domain, stored) = (self.domains.of(&memory, &()), self.stored.of(&call.tool().resource()));
        let situation = Situation { domain: &domain, stored: &stored, ..good.situation() };
        let tasks: Vec<_> = self.chains[usize::from(memory)].tasks().map(|(id, _)| id.clone()).collect();
        let task = tasks[self.pick(tasks.len() as u64) as usize].clone();
        let verdict = judge(&mut self.chains[usize::from(memory)], &task, world, &situation, call, NOW);
        let is_send = call.tool().as_str() == "mail/send";
        if !matches!(verdict.decision, Decision::Permit { .. }) {
            self.denied += u64::from(is_send);
            return;
        }
        let permit = Permit::from_record(verdict, durable(), NOW).unwrap();
        let payload = self.known[usize::from(memory)].clone();
        self.flights.push(Flight {
            memory,
            task,
            call: call.clone(),
            payload,
            stage: Stage::Permitted(permit),
        });
    }

    /// One of the permitted calls reaches its upstream.
    fn forward(&mut self) {
        let Some(at) = self.find(|stage| matches!(stage, Stage::Permitted(_))) else { return };
        let flight = &mut self.flights[at];
        let Stage::Permitted(permit) = std::mem::replace(&mut flight.stage, Stage::Over) else { return };
        if let Some(stores) = permit.stores() {
            self.stored.raise(&stores.resource, &stores.label);
        }
        let Ok(spent) = permit.spend(&flight.call, NOW) else { return };
        let answer = match flight.call.tool().as_str() {
            "files/secret" => [Fact::Secret].into(),
            "files/read" => self.in_store.clone(),
            "files/write" => {
                self.in_store.extend(flight.payload.iter().copied());
                Knowledge::new()
            }
            _ => {
                self.sent += 1;
                self.leaks += u64::from(flight.payload.contains(&Fact::Secret));
                Knowledge::new()
            }
        };
        flight.stage = Stage::Forwarded(spent, answer);
    }

    /// One of the answers comes back, and is released if it may be.
    fn answer(&mut self) {
        let Some(at) = self.find(|stage| matches!(stage, Stage::Forwarded(..))) else { return };
        let flight = &mut self.flights[at];
        let Stage::Forwarded(spent, answer) = std::mem::replace(&mut flight.stage, Stage::Over) else {
            return;
        };
        let stored = self.stored.of(&flight.call.tool().resource());
        let mut carries = spent.carries(&stored, &Label::default());
        if !self.raises {
            carries = Label::default();
        }
        let chain = &mut self.chains[usize::from(flight.memory)];
        let Ok(raised) = chain.release(&flight.task, &carries, NOW) else { return };
        for raised in raised {
            self.domains.raise(&flight.memory, &(), &raised.label);
        }
        self.domains.raise(&flight.memory, &(), &carries);
        self.known[usize::from(flight.memory)].extend(answer);
    }

    /// The task ends, and another begins in the same memory.
    fn start_over(&mut self, memory: u8) {
        let chain = &mut self.chains[usize::from(memory)];
        chain.end(&id(1), Reason::Done);
        *chain = begin(self.domains.of(&memory, &()));
    }

    fn delegate(&mut self) {
        self.children += 1;
        let child = Arc::new(grant(1 + self.children, Some(1)));
        let standing = Standing { label: self.domains.of(&0, &()), ..Standing::default() };
        drop(self.chains[0].delegate(child, standing, NOW));
    }

    fn find(&mut self, is: impl Fn(&Stage) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.flights.len()).filter(|at| is(&self.flights[*at].stage)).collect();
        let which = self.pick(fitting.len().max(1) as u64) as usize;
        fitting.get(which).copied()
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

fn begin(label: Label) -> Chain {
    let mut root = grant(1, None);
    root.egress = Egress::Open;
    (root.budget.denials, root.budget.children) = (1000, 200);
    Chain::begin(Arc::new(root), Standing { label, ..Standing::default() }, NOW)
}
