//! How mandates are drafted, approved and withdrawn.

use registry::{
    Refusal,
    decide::{
        entry::Effect,
        mandate::{ApproveMandate, DeleteMandate, WithdrawMandate},
    },
    objects::{Sha256, Terms, mandate::approval},
};
use serde_json::{Value, json};

use crate::{
    support::id,
    work::{Work, from, terms},
};

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Refusal>, says: &str) {
    let refusal = result.expect_err("it was allowed").to_string();
    assert!(refusal.contains(says), "{refusal}");
}

#[test]
fn terms_that_give_too_much_or_mean_nothing_are_refused() {
    let mut work = Work::new();
    let param = |name: &str| json!([{ "tool": "files/read", "args": { "path": [{ "param": name }] } }]);
    for (fields, says) in [
        (json!({ "actor": id("/agent/nobody") }), "there is no actor"),
        (json!({ "tier": 2 }), "may begin by itself only what is of tier 0 or 1"),
        (json!({ "begin": {} }), "nobody may begin it"),
        (json!({ "begin": { "workloads": ["spiffe://other.example/x"] } }), "not in the trust domain"),
        (json!({ "scope": param("ticket") }), "names the parameter ticket"),
        (json!({ "ttl": 0 }), "a ttl of 0 seconds"),
        (json!({ "ttl": 86_401 }), "the most of tier 1"),
        (json!({ "begin": { "workloads": [id("/w")] }, "tier": 3, "ttl": 3601 }), "the most of tier 3"),
        (json!({ "max_depth": 9 }), "max_depth"),
        (json!({ "environments": [] }), "names no environment"),
        (json!({ "environments": ["moon"] }), "moon is not in the ceiling"),
        (
            json!({ "scope": [{ "tool": "a/b", "args": { "x": [{ "at_most": i64::MAX }] } }] }),
            "not every reader keeps",
        ),
    ] {
        assert_refused(work.draft("new", terms("triage", fields)), says);
        assert_eq!(work.world.last_record()["outcome"], "refused");
    }
}

#[test]
fn a_draft_counts_once_it_is_approved_as_it_was_read() {
    let mut work = Work::new();
    let wider = terms("triage", json!({ "scope": [{ "tool": "files/*" }, { "tool": "mail/*" }] }));
    assert_eq!(work.draft("sort", wider.clone()).unwrap().effect, Effect::Updated);
    assert_eq!(work.draft("sort", wider.clone()).unwrap().effect, Effect::Unchanged);
    let task = work.begin(json!({})).unwrap();
    assert_eq!((task.mandate_version, task.scope.rules().len()), (1, 1), "a draft gives nothing");
    let (draft, statement) = work.world.registry.to_approve(&from(json!("sort"))).unwrap();
    let (version, sha256) = (draft.version, Sha256::of(&statement));
    let approve = |version, sha256| ApproveMandate {
        name: from(json!("sort")),
        version,
        sha256,
        signature: "c2ln".to_owned(),
        by: "ada".to_owned(),
    };
    assert_refused(work.world.run(approve(version, Sha256::of(b"other"))), "is another one by now");
    assert_refused(work.world.run(approve(version - 1, sha256)), "is another one by now");
    // Somebody changes the draft while it is read.
    work.draft("sort", terms("triage", json!({ "ttl": 60 }))).unwrap();
    assert_refused(work.world.run(approve(version, sha256)), "is another one by now");
    work.draft("sort", wider).unwrap();
    assert_refused(work.world.run(approve(version, sha256)), "version 4");
    assert_eq!(work.approve("sort"), Ok(4));
    let mandate = work.world.registry.mandate(&from(json!("sort"))).unwrap();
    let approved = mandate.approved.as_ref().unwrap();
    assert!(approved.one_person && mandate.draft.is_none());
    let statement = approved.terms.statement(&mandate.name, 4).unwrap();
    assert_eq!(approved.sha256, Sha256::of(&statement));
    assert_eq!(work.begin(json!({})).unwrap().mandate_version, 4);
    assert_eq!(work.state(&task), "active", "what has begun goes on under its own version");
    assert_refused(work.approve("sort").map(drop), "has no draft");
}

#[test]
fn an_approval_signs_the_trust_domain_and_every_term() {
    let terms: Terms = from(terms("triage", json!({})));
    let statement = terms.statement(&from(json!("sort")), 3).unwrap();
    let message = approval(&"acme.example".parse().unwrap(), &statement);
    let text = String::from_utf8(message).unwrap();
    assert!(
        text.starts_with("writ mandate v1\0acme.example\0{\"name\":\"sort\",\"terms\":{\"actor\":"),
        "{text}"
    );
    assert!(text.ends_with(",\"version\":3}"), "{text}");
    let read: Value = serde_json::from_slice(&statement).unwrap();
    assert_eq!(from::<Terms>(read["terms"].clone()), terms);
}

#[test]
fn a_withdrawn_mandate_ends_its_tasks_and_no_old_approval_fits_it() {
    let mut work = Work::new();
    let task = work.begin(json!({})).unwrap();
    let child = work.child(&task).unwrap();
    let name = || from(json!("sort"));
    work.world.run(WithdrawMandate { name: name() }).unwrap();
    assert_eq!(work.state(&task), "ended: mandate_withdrawn");
    assert_eq!(work.state(&child), "ended: ancestor");
    assert_refused(work.begin(json!({})), "has no approved mandate sort");
    let draft = work.world.registry.mandate(&name()).unwrap().draft.clone().unwrap();
    assert_eq!(draft.version, 2);
    assert_eq!(work.draft("sort", terms("triage", json!({}))).unwrap().effect, Effect::Unchanged);
    work.approve("sort").unwrap();
    let task = work.begin(json!({})).unwrap();
    assert_eq!(task.mandate_version, 2);
    work.world.run(DeleteMandate { name: name() }).unwrap();
    assert_eq!(work.state(&task), "ended: mandate_withdrawn");
}
