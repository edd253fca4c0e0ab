//! A change is pushed to open streams. How soon it is there, `cargo xtask bench` measures on a release
//! build; here it is only told from anything that polls, on a machine as busy as it may be.

use std::time::{Duration, Instant};

use integration_tests::Writ;
use integration_tests::admin::Admin;
use integration_tests::workload::{Workload, ids};

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_created_and_a_deleted_entry_are_pushed_to_an_open_stream() {
    let writ = Writ::up();
    writ.entry("/held", &[&own_uid()]);
    let mut admin = Admin::at(&writ.server_socket());
    let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
    stream.until("the held identity", SOON, |svids| svids.len() == 1).await;

    let (mut created, mut deleted) = (Vec::new(), Vec::new());
    for round in 0..100 {
        let id = writ.id(&format!("/round/{round}"));
        let begun = Instant::now();
        let entry = admin.create(&id, &writ.node_id(), &own_uid()).await.expect("it is accepted");
        stream.until("the new identity", SOON, |svids| ids(svids).contains(&id)).await;
        created.push(begun.elapsed());
        let begun = Instant::now();
        admin.delete(&entry).await.expect("it is there");
        stream.until("its end", SOON, |svids| !ids(svids).contains(&id)).await;
        deleted.push(begun.elapsed());
    }
    for (what, mut took) in [("created", created), ("deleted", deleted)] {
        took.sort();
        // Whoever asks every five seconds, as SPIRE's agent does, finds it after two and a half.
        let median = took[50];
        assert!(median <= Duration::from_secs(1), "{what}: the median is {median:?}, as with a poll");
    }
}
