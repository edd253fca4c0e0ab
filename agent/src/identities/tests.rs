//! Who is told what, and when.

use super::*;
use crate::testing::{at, entry, held};

fn facts(texts: &[&str]) -> Facts {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn id(text: &str) -> EntryId {
    text.parse().unwrap()
}

fn ids(standing: &Standing<Svids>) -> Vec<String> {
    match standing {
        Standing::Holds(svids) => svids.ids().map(|id| id.path().to_owned()).collect(),
        other => panic!("holds nothing: {other:?}"),
    }
}

/// Entries `e1` (uid 1) and `e2` (uid 1, gid 2) with SVIDs until second 100.
fn two_entries() -> (Identities, mpsc::UnboundedReceiver<EntryId>) {
    let (identities, asked) = Identities::new();
    let step = Publication {
        put: vec![entry("e1", "/a", &["unix:uid:1"]), entry("e2", "/b", &["unix:uid:1", "unix:gid:2"])],
        svids: vec![(id("e1"), held("/a", 0, 100)), (id("e2"), held("/b", 0, 100))],
        view_is_known: true,
        ..Publication::default()
    };
    identities.publish(step, at(0));
    (identities, asked)
}

fn follow(identities: &Identities, texts: &[&str]) -> watch::Receiver<Standing<Svids>> {
    identities.follow(&facts(texts), &identities.wanted().1, at(0)).standing
}

#[test]
fn a_caller_gets_every_entry_that_matches_and_hears_of_changes_to_them() {
    let (identities, _asked) = two_entries();
    let mut one = follow(&identities, &["unix:uid:1", "unix:gid:3"]);
    let mut both = follow(&identities, &["unix:uid:1", "unix:gid:2"]);
    assert_eq!(ids(&one.borrow_and_update()), ["/a"]);
    assert_eq!(ids(&both.borrow_and_update()), ["/a", "/b"]);

    identities.publish(Publication { gone: vec![id("e2")], ..Publication::default() }, at(1));
    assert!(!one.has_changed().unwrap(), "it is told what concerns it, and nothing else");
    assert_eq!(ids(&both.borrow_and_update()), ["/a"]);

    identities.publish(Publication { gone: vec![id("e1")], ..Publication::default() }, at(1));
    assert!(matches!(*one.borrow_and_update(), Standing::Nothing));
}

#[test]
fn callers_with_the_same_facts_share_one_answer() {
    let (identities, _asked) = two_entries();
    let (one, other) = (follow(&identities, &["unix:uid:1"]), follow(&identities, &["unix:uid:1"]));
    match (&*one.borrow(), &*other.borrow()) {
        (Standing::Holds(one), Standing::Holds(other)) => assert!(Arc::ptr_eq(one, other)),
        others => panic!("{others:?}"),
    };
}

#[test]
fn an_entry_without_an_svid_is_asked_for_once_and_served_when_it_comes() {
    let (identities, mut asked) = two_entries();
    let put = vec![entry("e3", "/c", &["unix:uid:3"])];
    identities.publish(Publication { put, ..Publication::default() }, at(0));
    let mut caller = follow(&identities, &["unix:uid:3"]);
    follow(&identities, &["unix:uid:3", "unix:gid:9"]);
    assert!(matches!(*caller.borrow_and_update(), Standing::Preparing));
    assert_eq!(asked.try_recv(), Ok(id("e3")));
    assert!(asked.try_recv().is_err());
    let svids = vec![(id("e3"), held("/c", 0, 100))];
    identities.publish(Publication { svids, ..Publication::default() }, at(0));
    assert_eq!(ids(&caller.borrow_and_update()), ["/c"]);
}

#[test]
fn what_has_expired_is_not_served_even_before_it_is_withdrawn() {
    let (identities, _asked) = two_entries();
    let first = follow(&identities, &["unix:uid:1"]);
    assert_eq!(ids(&first.borrow()), ["/a"]);
    let late = identities.follow(&facts(&["unix:uid:1"]), &identities.wanted().1, at(100)).standing;
    assert!(matches!(*late.borrow(), Standing::Preparing));
}

#[test]
fn nobody_is_refused_before_the_view_is_known() {
    let (identities, _asked) = Identities::new();
    let mut caller = follow(&identities, &["unix:uid:1"]);
    assert!(matches!(*caller.borrow_and_update(), Standing::Preparing));
    identities.publish(Publication { view_is_known: true, ..Publication::default() }, at(0));
    assert!(matches!(*caller.borrow_and_update(), Standing::Nothing));
}

#[test]
fn a_caller_is_identified_again_when_an_entry_asks_for_another_kind_of_fact() {
    let (identities, _asked) = two_entries();
    let (wanted, asked) = identities.wanted();
    assert!(!wanted.asks("unix", "sha256"));
    let mut caller = identities.follow(&facts(&["unix:uid:1"]), &asked, at(0)).standing;
    caller.borrow_and_update();
    let put = vec![entry("e4", "/d", &["unix:uid:9"])];
    identities.publish(Publication { put, ..Publication::default() }, at(0));
    assert!(!caller.has_changed().unwrap(), "uid was asked for already");
    let put = vec![entry("e5", "/d", &["unix:sha256:00"])];
    identities.publish(Publication { put, ..Publication::default() }, at(0));
    assert!(matches!(*caller.borrow_and_update(), Standing::Outdated));
    let stale = identities.follow(&facts(&["unix:uid:1"]), &asked, at(0)).standing;
    assert!(matches!(*stale.borrow(), Standing::Outdated), "what was proved before is not enough now");
    assert_eq!(ids(&follow(&identities, &["unix:uid:1"]).borrow()), ["/a"]);
}

#[test]
fn groups_that_nobody_follows_are_forgotten_when_there_are_many() {
    let (identities, _asked) = two_entries();
    let kept = follow(&identities, &["unix:uid:1"]);
    for n in 0..3 * IDLE_GROUPS {
        follow(&identities, &["unix:uid:1", &format!("unix:path:/{n}")]);
    }
    let inner = identities.inner.lock();
    assert!(inner.groups.len() <= IDLE_GROUPS && inner.groups.contains_key(&facts(&["unix:uid:1"])));
    assert!(inner.with_fact.len() <= IDLE_GROUPS + 1);
    drop(kept);
}

#[test]
fn an_administrator_learns_what_is_missing() {
    let (identities, _asked) = two_entries();
    let put = vec![entry("e6", "/f", &["unix:uid:7", "unix:gid:8"])];
    identities.publish(Publication { put, ..Publication::default() }, at(0));
    let (matches, almost) = identities.explain(&facts(&["unix:uid:1", "unix:gid:8"]));
    assert_eq!(matches.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["e1"]);
    let almost: Vec<_> =
        almost.iter().map(|(entry, missing)| (entry.id.as_str(), missing[0].as_str())).collect();
    assert_eq!(almost, [("e2", "unix:gid:2"), ("e6", "unix:uid:7")]);
}

#[test]
fn an_entry_that_comes_later_is_asked_for_where_somebody_matches_it() {
    let (identities, mut asked) = two_entries();
    let _one = follow(&identities, &["unix:uid:1"]);
    let (mine, others) = (entry("e3", "/c", &["unix:uid:1"]), entry("e4", "/d", &["unix:uid:2"]));
    identities.publish(Publication { put: vec![mine, others], ..Publication::default() }, at(1));
    assert_eq!(asked.try_recv().unwrap(), id("e3"));
    assert!(asked.try_recv().is_err());
}

#[test]
fn a_caller_may_have_tokens_for_its_entries_whether_there_are_svids_for_them_or_not() {
    let (identities, mut asked) = two_entries();
    let step = Publication { withdrawn: vec![id("e1"), id("e2")], ..Publication::default() };
    identities.publish(step, at(1));
    let facts = facts(&["unix:uid:1", "unix:gid:2"]);
    let mut entitled = identities.follow_entitled(&facts, &identities.wanted().1, at(1));
    let paths = |standing: &Standing<Entitled>| match standing {
        Standing::Holds(held) => {
            held.entries().iter().map(|entry| entry.spiffe_id.path().to_owned()).collect()
        }
        other => vec![format!("{other:?}")],
    };
    assert_eq!(paths(&entitled.borrow_and_update()), ["/a", "/b"]);
    assert!(asked.try_recv().is_err(), "whoever wants a token wants no certificate");
    identities.publish(Publication { gone: vec![id("e1")], ..Publication::default() }, at(1));
    assert_eq!(paths(&entitled.borrow_and_update()), ["/b"]);
    identities.publish(Publication { gone: vec![id("e2")], ..Publication::default() }, at(1));
    assert_eq!(paths(&entitled.borrow_and_update()), ["Nothing"]);
}

#[test]
fn a_caller_judges_by_its_own_bundle_and_by_those_that_its_entries_federate_with() {
    let (identities, _asked) = two_entries();
    let mut federated = Entry::clone(&entry("e2", "/b", &["unix:uid:1", "unix:gid:2"]));
    federated.federates_with.insert("partner.example".parse().unwrap());
    identities.publish(Publication { put: vec![Arc::new(federated)], ..Publication::default() }, at(1));
    let bundle = |td: &str| spiffe::Bundle::empty(td.parse().unwrap());
    let own = Bundles::from_iter([bundle("acme.example")]);
    let all = ["acme.example", "partner.example", "third.example"].map(bundle);
    let trusted = Trusted { own: Arc::new(own), all: Bundles::from_iter(all), ..Trusted::default() };
    let mut open = identities.follow_entitled(&facts(&["unix:uid:1"]), &identities.wanted().1, at(1));
    open.borrow_and_update();
    identities.publish(Publication { trusted: Some(trusted), ..Publication::default() }, at(1));
    assert!(open.has_changed().unwrap(), "bundles are pushed");

    let names = |texts: &[&str]| {
        let entitled = identities.follow_entitled(&facts(texts), &identities.wanted().1, at(1));
        let Standing::Holds(entitled) = entitled.borrow().clone() else { panic!("it matches") };
        let mut names: Vec<_> = entitled.bundles().iter().map(|b| b.trust_domain.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&["unix:uid:1"]), ["acme.example"]);
    assert_eq!(names(&["unix:uid:1", "unix:gid:2"]), ["acme.example", "partner.example"]);
}

#[test]
fn who_is_known_by_what_can_change_is_identified_anew_when_it_is_said_to_have_changed() {
    let (identities, _asked) = two_entries();
    let passing = identities.wanted().1.for_now();
    let of_kernel = follow(&identities, &["unix:uid:1"]);
    let in_pod = identities.follow(&facts(&["unix:uid:1", "k8s:ns:agents"]), &passing, at(0)).standing;
    let entitled = identities.follow_entitled(&facts(&["unix:uid:1", "k8s:ns:agents"]), &passing, at(0));
    identities.doubt();
    assert_eq!(ids(&of_kernel.borrow()), ["/a"], "what the kernel says is said of the moment");
    assert!(matches!(*in_pod.borrow(), Standing::Outdated));
    assert!(matches!(*entitled.borrow(), Standing::Outdated));

    // What was proved before the news does not count afterwards, also for who asks once more.
    let late = identities.follow(&facts(&["unix:uid:1"]), &passing, at(0)).standing;
    assert!(matches!(*late.borrow(), Standing::Outdated));
    // One that joins those whose facts cannot change makes them a group of whom it must be asked anew.
    let joined = identities.follow(&facts(&["unix:uid:1"]), &identities.wanted().1.for_now(), at(0)).standing;
    assert_eq!(ids(&joined.borrow()), ["/a"]);
    identities.doubt();
    assert!(matches!(*joined.borrow(), Standing::Outdated));
}

#[test]
fn an_actors_plain_identity_goes_to_nobody() {
    let (identities, mut asked_for) = Identities::new();
    let (actor, other) = (entry("a", "/actor", &["unix:uid:1"]), entry("b", "/other", &["unix:uid:2"]));
    let task_only = Some(Arc::new(HashSet::from([actor.spiffe_id.clone()])));
    let put = vec![actor, other];
    identities.publish(Publication { put, view_is_known: true, task_only, ..Publication::default() }, at(0));
    let asked = identities.wanted().1;
    let followed = identities.follow(&facts(&["unix:uid:1"]), &asked, at(0));
    assert!(followed.acts && matches!(*followed.standing.borrow(), Standing::Nothing));
    let entitled = identities.follow_entitled(&facts(&["unix:uid:1"]), &asked, at(0));
    assert!(matches!(*entitled.borrow(), Standing::Nothing), "no token either");
    assert!(asked_for.try_recv().is_err(), "nobody makes an SVID of it");
    assert!(!identities.follow(&facts(&["unix:uid:2"]), &asked, at(0)).acts);
    assert_eq!(asked_for.try_recv().unwrap().as_str(), "b");
    // Somebody lets it have a standing identity: whoever follows is asked anew.
    let task_only = Some(Arc::new(HashSet::new()));
    identities.publish(Publication { task_only, ..Publication::default() }, at(1));
    assert!(matches!(*followed.standing.borrow(), Standing::Outdated));
    assert!(!identities.follow(&facts(&["unix:uid:1"]), &asked, at(1)).acts);
    assert_eq!(asked_for.try_recv().unwrap().as_str(), "a");
}
