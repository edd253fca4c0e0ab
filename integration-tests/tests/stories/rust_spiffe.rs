//! The published `spiffe` crate, as its users have it.

use std::time::Duration;

use integration_tests::Writ;
use spiffe_rs::{X509Source, X509SourceUpdates};
use tokio::time::timeout;

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn the_spiffe_crate_receives_an_svid_sees_rotation_and_re_creation_and_loses_a_deleted_one() {
    let writ = Writ::up();
    let entry = writ.entry_with("/rust", &[&own_uid()], &["--ttl", "6s"]);
    let endpoint = format!("unix:{}", writ.workload_socket().display());
    let source = timeout(SOON, X509Source::builder().endpoint(&endpoint).build());
    let source = source.await.expect("it answers in time").expect("it is registered");
    let mut updates = source.updated();
    let serial = |source: &X509Source| source.svid().ok().map(|svid| svid.leaf().as_bytes().to_vec());

    let svid = source.svid().expect("it has one");
    assert_eq!(svid.spiffe_id().to_string(), writ.id("/rust"));
    let first = serial(&source);
    until(&mut updates, "a rotation", || serial(&source).is_some() && serial(&source) != first).await;

    writ.delete(&entry);
    until(&mut updates, "the withdrawal", || source.state().withdrawal().is_some()).await;
    assert!(source.svid().is_err(), "a withdrawn identity is not handed out");

    writ.entry("/rust-again", &[&own_uid()]);
    let again = writ.id("/rust-again");
    until(&mut updates, "the re-created identity", || {
        source.svid().is_ok_and(|svid| svid.spiffe_id().to_string() == again)
    })
    .await;
    source.shutdown().await;
}

async fn until(updates: &mut X509SourceUpdates, what: &str, there: impl Fn() -> bool) {
    let wait = async {
        while !there() {
            updates.changed().await.expect("the source lives");
        }
    };
    timeout(Duration::from_secs(15), wait).await.unwrap_or_else(|_| panic!("{what} did not come"));
}
