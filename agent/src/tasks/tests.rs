//! Tasks of real processes, without a server.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
};

use authz::chain::{Standing, State};
use peer::Peer;
use registry::objects::{Reason, Task};
use serde_json::json;
use spiffe::Timestamp;

use super::{
    Book, Domain, Live,
    book::{Closed, Entered, Which},
    live::Measured,
};
use crate::clock;

fn id(n: u8) -> String {
    format!("01K000000000000000000000{n:02}")
}

fn task(n: u8, parent: Option<u8>) -> Arc<Task> {
    let depth = parent.map_or(0, |parent| parent + 1);
    let task = json!({
        "id": id(n), "actor": "spiffe://acme.example/agent", "tenant": "acme", "mandate": "m", "mandate_version": 1,
        "purpose": "p", "home": "spiffe://acme.example/spire/agent/join_token/n", "environment": "default",
        "beginner": parent.map_or(json!("itself"), |parent| json!({ "parent": id(parent) })),
        "parent": parent.map(id), "root": id(0), "depth": depth, "depth_left": 5 - depth, "scope": [],
        "data_max": 0, "tier": 0, "isolation": "process", "egress": "open",
        "budget": { "actions": 10, "denials": 3, "children": 8 }, "asked_sha256": "00".repeat(32),
        "began_at": Timestamp::default(), "expires_at": clock::now() + std::time::Duration::from_secs(600),
        "state": { "is": "active" },
    });
    Arc::new(serde_json::from_value(task).unwrap())
}

fn enter(book: &Book, n: u8, parent: Option<u8>, domain: Domain) -> Arc<Live> {
    let grant = task(n, parent);
    let entered = Entered {
        spiffe_id: grant.spiffe_id().unwrap(),
        signed: "".into(),
        place: domain.place().unwrap(),
        measured: Measured { entry: "e".parse().unwrap(), selectors: Default::default() },
        standing: Standing::default(),
        grant,
        domain,
    };
    book.enter(entered, clock::both()).unwrap()
}

fn ids(closed: &Closed) -> Vec<String> {
    closed.tasks.iter().map(|live| live.id().to_string()).collect()
}

/// A process that lives until it is told to end.
struct Waiting(Child);

impl Waiting {
    fn start() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn held(&self) -> Arc<Peer> {
        Arc::new(Peer::open(self.0.id()).unwrap())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_has_its_task_and_nobody_elses() {
    let (book, one, other) = (Book::default(), Waiting::start(), Waiting::start());
    enter(&book, 0, None, Domain::process(one.held()));
    assert_eq!(book.speaks_of(&one.held(), None).unwrap().id().as_str(), id(0));
    assert_eq!(book.speaks_of(&other.held(), None).unwrap_err(), Which::None);
    let named = id(0).parse().unwrap();
    assert_eq!(book.speaks_of(&other.held(), Some(&named)).unwrap_err(), Which::NotYours(named));
}

#[test]
fn a_process_of_several_tasks_names_the_one_that_it_means() {
    let (book, one) = (Book::default(), Waiting::start());
    enter(&book, 0, None, Domain::process(one.held()));
    enter(&book, 1, Some(0), Domain::shared(one.held()));
    assert_eq!(book.speaks_of(&one.held(), None).unwrap_err(), Which::Several(2));
    assert_eq!(book.speaks_of(&one.held(), Some(&id(1).parse().unwrap())).unwrap().grant.depth, 1);
}

#[test]
fn an_end_closes_children_first_and_nothing_brings_a_task_back() {
    let (book, one, other) = (Book::default(), Waiting::start(), Waiting::start());
    let root = enter(&book, 0, None, Domain::process(one.held()));
    let child = enter(&book, 1, Some(0), Domain::process(other.held()));
    let epoch = child.chain.lock().epoch(child.id()).cloned().unwrap();
    let before = epoch.now();
    let closed = book.close(root.id(), Reason::Administrator);
    assert_eq!(ids(&closed), [id(1), id(0)]);
    assert!(epoch.now() > before, "its permits are void");
    assert_eq!(*child.state().borrow(), State::Ended(Reason::Ancestor));
    assert_eq!(*root.state().borrow(), State::Ended(Reason::Administrator));
    assert!(!book.resume(root.id()) && !book.suspend(root.id(), Reason::Signal));
    assert!(ids(&book.close(root.id(), Reason::Ttl)).is_empty(), "it ends once");
    assert!(book.of(&one.held()).is_empty() && book.of(&other.held()).is_empty());
    assert!(root.chain.lock().is_over());
}

#[test]
fn whoever_carries_permits_hears_of_an_end_before_it_returns() {
    let (book, one) = (Book::default(), Waiting::start());
    let (told, heard) = std::sync::mpsc::channel();
    book.when_ended(vec![Box::new(move |closed| {
        told.send(closed.len()).unwrap();
        Box::pin(std::future::ready(()))
    })]);
    let root = enter(&book, 0, None, Domain::process(one.held()));
    let closed = book.close(root.id(), Reason::Done);
    assert_eq!((closed.voiding.len(), heard.try_recv()), (1, Ok(1)));
}

#[test]
fn a_suspended_task_suspends_what_is_below_it_until_it_is_resumed() {
    let (book, one, other) = (Book::default(), Waiting::start(), Waiting::start());
    let root = enter(&book, 0, None, Domain::process(one.held()));
    let child = enter(&book, 1, Some(0), Domain::process(other.held()));
    assert!(book.suspend(root.id(), Reason::Probing) && !root.is_active());
    assert!(child.chain.lock().may_act(child.id(), clock::both()).is_err());
    assert!(book.resume(root.id()) && root.is_active());
    assert!(child.chain.lock().may_act(child.id(), clock::both()).is_ok());
}

#[test]
fn a_task_of_a_dead_parent_does_not_begin() {
    let (book, one) = (Book::default(), Waiting::start());
    let root = enter(&book, 0, None, Domain::process(one.held()));
    drop(book.close(root.id(), Reason::Done));
    let (grant, domain) = (task(1, Some(0)), Domain::shared(one.held()));
    let entered = Entered {
        spiffe_id: grant.spiffe_id().unwrap(),
        signed: "".into(),
        place: domain.place().unwrap(),
        measured: Measured { entry: "e".parse().unwrap(), selectors: Default::default() },
        standing: Standing::default(),
        grant,
        domain,
    };
    assert!(book.enter(entered, clock::both()).is_err());
}
