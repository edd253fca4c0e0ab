//! What the spine does about each thing that can happen.

use std::sync::Arc;

use registry::{Object, Stored, objects::Entry};

use super::*;
use crate::{
    rotation::Validity,
    taint::Signers,
    testing::{at, entry, held},
    view_file::KeptView,
};

fn id(text: &str) -> EntryId {
    text.parse().unwrap()
}

fn snapshot(at: u64, entries: &[Arc<Entry>]) -> Input {
    let objects = entries.iter().map(|e| Stored { version: 1, object: Object::Entry(e.clone()) });
    Input::Snapshot(Snapshot { log: LogId("a".into()), at: Revision(at), objects: objects.collect() })
}

fn delta(from: u64, put: &[Arc<Entry>], gone: &[&str]) -> Input {
    let put = put.iter().map(|e| Stored { version: 1, object: Object::Entry(e.clone()) }).collect();
    let gone = gone.iter().map(|id| format!("entry/{id}").parse().unwrap()).collect();
    let log = LogId("a".into());
    Input::Delta(Delta { log, from: Revision(from), to: Revision(from + 1), put, gone })
}

fn certified(from: Timestamp) -> Input {
    let validity = Validity { from, until: from + Duration::from_secs(1000) };
    Input::Certified(Certified { validity, signers: Signers::named("aa") })
}

/// The view goes on with a bundle of which these X.509 authorities are tainted.
fn tainting(from: u64, tainted: &[&str]) -> Input {
    let trust_domain = "acme.example".parse().unwrap();
    let bundle = registry::objects::Bundle::new(spiffe::Bundle::empty(trust_domain)).unwrap();
    let x509 = tainted.iter().map(|id| id.parse().unwrap()).collect();
    let tainted = registry::objects::Tainted { x509, ..Default::default() };
    let put = vec![Stored { version: from, object: bundle.with_tainted(tainted).into() }];
    let log = LogId("a".into());
    Input::Delta(Delta { log, from: Revision(from), to: Revision(from + 1), put, gone: Vec::new() })
}

fn signed_by(name: &str, from: i64, until: i64) -> Held {
    Held { signers: Signers::named(name), ..held("/a", from, until) }
}

/// What a step comes to, in words.
fn words(effects: &[Effect]) -> Vec<String> {
    let names =
        |ids: &mut dyn Iterator<Item = &EntryId>| ids.map(EntryId::as_str).collect::<Vec<_>>().join(",");
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Connect(None) => "connect".to_owned(),
            Effect::Connect(Some((_, at))) => format!("connect from {}", at.0),
            Effect::Issue(entries) => format!("issue {}", names(&mut entries.iter().map(|e| &e.id))),
            Effect::Renew => "renew".to_owned(),
            Effect::Keep(kept) => format!("keep {}", names(&mut kept.iter().map(|(id, _)| id))),
            Effect::Publish(step) => format!(
                "publish +{} -{} svids {} without {}",
                names(&mut step.put.iter().map(|e| &e.id)),
                names(&mut step.gone.iter()),
                names(&mut step.svids.iter().map(|(id, _)| id)),
                names(&mut step.withdrawn.iter())
            ),
            Effect::Wipe(ids) => format!("wipe {}", names(&mut ids.iter())),
            Effect::VerifyHeld => "verify held".to_owned(),
            Effect::Append(delta) => format!("append {}", delta.to.0),
            Effect::Save => "save".to_owned(),
        })
        .collect()
}

/// An agent that is connected and holds an SVID for `e1` from second 0 to 3600.
fn serving() -> Spine {
    let mut spine = Spine::new(Seed(1), 3);
    assert_eq!(words(&spine.step(at(0), Input::Start(Kept::default()))), ["connect"]);
    assert_eq!(words(&spine.step(at(0), Input::Connected)), [""; 0]);
    let effects = spine.step(at(0), snapshot(1, &[entry("e1", "/a", &["unix:uid:1"])]));
    assert_eq!(words(&effects), ["publish +e1 - svids  without ", "save", "issue e1"]);
    let effects = spine.step(at(0), Input::Issued(vec![(id("e1"), held("/a", 0, 3600))]));
    assert_eq!(words(&effects), ["keep e1", "publish + - svids e1 without "]);
    spine
}

#[test]
fn an_entry_change_is_published_and_a_missing_key_is_made() {
    let mut spine = serving();
    let effects = spine.step(at(1), delta(1, &[entry("e2", "/b", &["unix:uid:2"])], &[]));
    assert_eq!(words(&effects), ["append 2", "publish +e2 - svids  without ", "save", "issue e2"]);
    let effects = spine.step(at(2), delta(2, &[], &["e1"]));
    assert_eq!(words(&effects), ["append 3", "publish + -e1 svids  without ", "wipe e1", "save"]);
}

#[test]
fn other_selectors_need_no_other_svid_and_another_name_does() {
    let mut spine = serving();
    let effects = spine.step(at(1), delta(1, &[entry("e1", "/a", &["unix:uid:9"])], &[]));
    assert_eq!(words(&effects), ["append 2", "publish +e1 - svids  without ", "save"]);
    let effects = spine.step(at(1), delta(2, &[entry("e1", "/z", &["unix:uid:9"])], &[]));
    assert_eq!(words(&effects), ["append 3", "publish +e1 - svids  without ", "save", "issue e1"]);
    // An SVID that was ordered for the old name arrives now, and then the right one.
    assert_eq!(words(&spine.step(at(1), Input::Issued(vec![(id("e1"), held("/a", 0, 3600))]))), [""; 0]);
    let effects = spine.step(at(1), Input::Issued(vec![(id("e1"), held("/z", 1, 3601))]));
    assert_eq!(words(&effects), ["keep e1", "publish + - svids e1 without "]);
}

#[test]
fn changes_that_do_not_continue_the_view_are_not_applied_and_the_whole_is_asked_for() {
    let mut spine = serving();
    assert_eq!(words(&spine.step(at(1), delta(7, &[], &["e1"]))), ["connect"]);
    assert_eq!(spine.position().unwrap().1, Revision(1));
}

#[test]
fn a_lost_server_is_looked_for_again_and_its_orders_wait() {
    let mut spine = serving();
    assert_eq!(words(&spine.step(at(10), Input::Lost)), [""; 0]);
    let first = spine.wake().unwrap();
    assert!(first > at(10) && first <= at(10) + RECONNECT);
    assert_eq!(words(&spine.step(first, Input::Tick)), ["connect from 1"]);
    spine.step(first, Input::Lost);
    assert!(spine.wake().unwrap().since(first) <= RECONNECT * 2);
    // Half of the life has passed: nothing can be renewed, and what is held is served.
    let later = at(2500);
    assert_eq!(words(&spine.step(later, Input::Tick)), ["connect from 1"]);
    assert_eq!(words(&spine.step(later, Input::Connected)), ["issue e1"]);
}

#[test]
fn what_expires_is_withdrawn_and_wiped_also_without_a_server() {
    let mut spine = serving();
    spine.step(at(10), Input::Lost);
    spine.step(at(3599), Input::Tick);
    assert_eq!(spine.wake(), Some(at(3600)));
    let effects = words(&spine.step(at(3600), Input::Tick));
    assert_eq!(effects, ["publish + - svids  without e1", "wipe e1"]);
    assert!(!spine.rotation.holds(&id("e1")));
}

#[test]
fn an_entry_ends_by_itself_with_the_server_away() {
    let mut spine = serving();
    let mut short = Arc::unwrap_or_clone(entry("e2", "/b", &["unix:uid:2"]));
    short.expires_at = Some(at(60));
    spine.step(at(1), delta(1, &[Arc::new(short)], &[]));
    spine.step(at(2), Input::Lost);
    let effects = words(&spine.step(at(60), Input::Tick));
    assert!(effects.contains(&"publish + -e2 svids  without ".to_owned()), "{effects:?}");
}

#[test]
fn what_was_kept_is_served_before_the_server_is_found() {
    let mut spine = Spine::new(Seed(1), 3);
    let entries = [entry("e1", "/a", &["unix:uid:1"]), entry("e9", "/gone", &["unix:uid:1"])];
    let Input::Snapshot(view) = snapshot(5, &entries) else { return };
    let Input::Delta(went) = delta(5, &[], &["e9"]) else { return };
    let kept = Kept {
        view: KeptView { snapshot: Some(view), deltas: vec![went] },
        svids: vec![(id("e1"), held("/a", 0, 3600)), (id("e9"), held("/gone", 0, 3600))],
        ..Kept::default()
    };
    let effects = spine.step(at(100), Input::Start(kept));
    assert_eq!(words(&effects), ["publish +e1 -e9 svids e1 without ", "wipe e9,e9", "connect from 6"]);
    assert_eq!(words(&spine.step(at(101), Input::Connected)), [""; 0], "nothing needs to be made");
}

#[test]
fn the_agents_own_certificate_is_renewed_at_half_of_its_life_and_then_used() {
    let mut spine = serving();
    spine.step(at(0), certified(at(0)));
    let renewal = spine.wake().unwrap();
    assert!((450..=550).contains(&renewal.since(at(0)).as_secs()));
    assert_eq!(words(&spine.step(renewal, Input::Tick)), ["renew"]);
    assert_eq!(words(&spine.step(renewal, Input::Tick)), [""; 0], "it is on the way");
    spine.step(renewal, Input::NotRenewed);
    let again = spine.wake().unwrap();
    assert!(again > renewal && again <= renewal + RENEW_AGAIN);
    assert_eq!(words(&spine.step(again, Input::Tick)), ["renew"]);
    let certified = certified(again);
    assert_eq!(words(&spine.step(again, certified)), ["connect from 1"]);
}

#[test]
fn an_expelled_node_has_nothing_to_hand_out() {
    let mut spine = serving();
    let effects = words(&spine.step(at(5), Input::Expelled));
    assert_eq!(effects, ["publish + -e1 svids  without ", "wipe e1", "save"]);
    assert!(!spine.rotation.holds(&id("e1")) && spine.position().is_none());
    assert!(spine.view().is_none());
}

#[test]
fn an_svid_whose_authority_is_gone_is_withdrawn_and_made_anew() {
    let mut spine = serving();
    assert_eq!(
        words(&spine.step(at(5), Input::Bundles(Arc::default()))),
        ["publish + - svids  without ", "verify held"]
    );
    let effects = words(&spine.step(at(5), Input::Distrusted(vec![id("e1")])));
    assert_eq!(effects, ["publish + - svids  without e1", "wipe e1", "issue e1"]);
}

#[test]
fn an_svid_on_demand_is_made_when_somebody_asks() {
    let mut spine = serving();
    let mut lazy = Arc::unwrap_or_clone(entry("e2", "/b", &["unix:uid:2"]));
    lazy.disable_x509_svid_prefetch = true;
    let effects = spine.step(at(1), delta(1, &[Arc::new(lazy)], &[]));
    assert_eq!(words(&effects), ["append 2", "publish +e2 - svids  without ", "save"]);
    assert_eq!(words(&spine.step(at(1), Input::Asked(id("e2")))), ["issue e2"]);
    assert!(spine.step(at(1), Input::Asked(id("e2"))).is_empty(), "it is on the way already");
}

#[test]
fn of_a_large_view_only_a_part_has_svids_before_anybody_asks() {
    let mut spine = serving();
    let more = ["e2", "e3", "e4", "e5"].map(|id| entry(id, &format!("/{id}"), &["unix:uid:2"]));
    let effects = words(&spine.step(at(1), delta(1, &more, &[])));
    assert!(effects.contains(&"issue e2,e3".to_owned()), "{effects:?}");
    assert_eq!(words(&spine.step(at(1), Input::Asked(id("e5")))), ["issue e5"]);
    assert_eq!(words(&spine.step(at(2), delta(2, &[], &["e2", "e3"]))).last().unwrap(), "save");
    let one = entry("e6", "/e6", &["unix:uid:2"]);
    assert!(
        words(&spine.step(at(3), delta(3, &[one], &[]))).contains(&"issue e6".to_owned()),
        "there is room again"
    );
}

#[test]
fn foreign_bundles_of_the_view_are_trusted_beside_the_pinned_one_and_never_in_its_place() {
    let mut spine = serving();
    let foreign = |td: &str, sequence: u64| {
        let mut bundle = spiffe::Bundle::empty(td.parse().unwrap());
        bundle.sequence = Some(sequence);
        let bundle = registry::objects::Bundle::new(bundle).unwrap();
        Stored { version: sequence, object: Object::Bundle(Arc::new(bundle)) }
    };
    let step = |from: u64, put: Vec<Stored>, gone: &[&str]| {
        let gone = gone.iter().map(|key| key.parse().unwrap()).collect();
        Input::Delta(Delta {
            log: LogId("a".into()),
            from: Revision(from),
            to: Revision(from + 1),
            put,
            gone,
        })
    };
    let trusted = |effects: Vec<Effect>| {
        let published = effects.into_iter().find_map(|effect| match effect {
            Effect::Publish(Publication { trusted, .. }) => trusted,
            _ => None,
        });
        let mut all: Vec<_> =
            published?.all.iter().map(|b| (b.trust_domain.to_string(), b.sequence)).collect();
        all.sort();
        Some(all)
    };
    // Before it knows whom its pin vouches for, it trusts nobody.
    assert_eq!(trusted(spine.step(at(1), step(1, vec![foreign("partner.example", 1)], &[]))), None);
    let mut own = spiffe::Bundle::empty("acme.example".parse().unwrap());
    own.sequence = Some(7);
    let own = Input::Bundles(Arc::new(Bundles::from_iter([own])));
    let (acme, partner) = (("acme.example".to_owned(), Some(7)), "partner.example".to_owned());
    assert_eq!(trusted(spine.step(at(1), own)), Some(vec![acme.clone(), (partner.clone(), Some(1))]));
    let both = vec![foreign("partner.example", 2), foreign("acme.example", 9)];
    assert_eq!(trusted(spine.step(at(2), step(2, both, &[]))), Some(vec![acme.clone(), (partner, Some(2))]));
    assert_eq!(trusted(spine.step(at(3), step(3, vec![], &["bundle/partner.example"]))), Some(vec![acme]));
    assert_eq!(trusted(spine.step(at(4), step(4, vec![], &[]))), None, "nothing about trust changed");
}

#[test]
fn what_a_tainted_authority_signed_is_replaced_at_once_and_serves_until_then() {
    let mut spine = serving();
    let bundles = spiffe::Bundle::empty("acme.example".parse().unwrap());
    spine.step(at(1), Input::Bundles(Arc::new([bundles].into_iter().collect())));
    spine.step(at(1), Input::Issued(vec![(id("e1"), signed_by("aa", 0, 3600))]));
    spine.step(at(1), certified(at(1)));
    let told = |effects: &[Effect]| {
        let words = words(effects);
        let wanted = |word: &&String| word.starts_with("issue") || *word == "renew" || word.contains("wipe");
        words.iter().filter(wanted).cloned().collect::<Vec<_>>()
    };
    let at_revision = |spine: &Spine| spine.position().unwrap().1.0;
    let other = tainting(at_revision(&spine), &["bb"]);
    assert!(told(&spine.step(at(2), other)).is_empty(), "it has signed nothing here");
    let tainted = tainting(at_revision(&spine), &["aa", "bb"]);
    assert_eq!(told(&spine.step(at(3), tainted)), ["renew", "issue e1"]);
    let again = tainting(at_revision(&spine), &["aa"]);
    assert!(told(&spine.step(at(3), again)).is_empty(), "each once");
    // One that was signed before comes after the taint: it is served, and replaced too.
    let late = spine.step(at(3), Input::Issued(vec![(id("e1"), signed_by("aa", 3, 3603))]));
    assert!(words(&late).iter().any(|word| word.starts_with("publish") && word.contains("svids e1")));
    let due = spine.next_due().unwrap();
    assert!(due < at(30), "not only at half of its life");
    assert_eq!(told(&spine.step(due, Input::Tick)), ["issue e1"]);
    spine.step(due, Input::Issued(vec![(id("e1"), signed_by("cc", 10, 3610))]));
    assert!(spine.next_due().unwrap() > at(1000));
}
