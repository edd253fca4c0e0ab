//! What is taken away is gone at once.

use integration_tests::Writ;
use integration_tests::workload::{Workload, ids};
use tonic::Code;

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gains_and_loses_identities_and_ends_with_the_last() {
    let writ = Writ::up();
    let first = writ.entry("/first", &[&own_uid()]);
    let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
    stream.until("the first identity", SOON, |svids| ids(svids) == [writ.id("/first")]).await;

    let second = writ.entry("/second", &[&own_uid()]);
    let both = [writ.id("/first"), writ.id("/second")];
    stream.until("both identities", SOON, |svids| ids(svids) == both).await;

    writ.delete(&first);
    stream.until("the second alone", SOON, |svids| ids(svids) == [writ.id("/second")]).await;

    writ.delete(&second);
    let end = stream.ended(SOON).await;
    assert_eq!(end.code(), Code::PermissionDenied, "{end}");
    assert!(end.message().contains("no identity issued"), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_selectors_change_moves_its_identity_at_once() {
    let writ = Writ::up();
    writ.entry("/stays", &[&own_uid()]);
    let moved = writ.entry("/moved", &[&own_uid()]);
    let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
    stream.until("both", SOON, |svids| svids.len() == 2).await;
    let _ = writ.run(&["entry", "update", &moved, "--selector", "unix:uid:4242"]).done();
    stream.until("the one that stays", SOON, |svids| ids(svids) == [writ.id("/stays")]).await;
}
