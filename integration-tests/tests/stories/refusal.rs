//! A process without identity: refused at once, then waiting, then served by push.

use std::time::{Duration, Instant};

use integration_tests::Writ;
use integration_tests::workload::{Workload, ids};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use crate::{SOON, own_uid};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusal_comes_at_once_and_says_whom_to_ask() {
    let writ = Writ::up();
    let workload = Workload::connect(&writ.workload_socket()).await;
    let asked = Instant::now();
    let status = workload.fetch().await.expect_err("nothing is registered");
    let took = asked.elapsed();
    assert_eq!(status.code(), Code::PermissionDenied);
    let said =
        format!("no identity issued; an administrator can run: writ explain --pid {}", std::process::id());
    assert_eq!(status.message(), said);
    assert!(took <= SOON, "at once, and not as a waiting client: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_waits_and_is_served_by_push() {
    let writ = Writ::up();
    let workload = Workload::connect(&writ.workload_socket()).await;
    workload.fetch().await.expect_err("nothing is registered");
    let mut stream = workload.watch();
    let early = timeout(Duration::from_millis(300), stream.next()).await;
    assert!(early.is_err(), "a waiting client's stream is silent, but: {early:?}");
    writ.entry("/waited", &[&own_uid()]);
    let svids = stream.until("the pushed identity", SOON, |_| true).await;
    assert_eq!(ids(&svids), [writ.id("/waited")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_survives_a_new_connection_of_the_same_process() {
    let writ = Writ::up();
    Workload::connect(&writ.workload_socket()).await.fetch().await.expect_err("nothing is registered");
    let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
    writ.entry("/waited", &[&own_uid()]);
    stream.until("the pushed identity", SOON, |svids| !svids.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_client_is_refused_after_half_a_minute_with_the_same_words() {
    let writ = Writ::up();
    let workload = Workload::connect(&writ.workload_socket()).await;
    let first = workload.fetch().await.expect_err("nothing is registered");
    let asked = Instant::now();
    let mut stream = workload.watch();
    let end = stream.ended(Duration::from_secs(40)).await;
    let waited = asked.elapsed();
    assert_eq!((end.code(), end.message()), (first.code(), first.message()));
    assert!(waited >= Duration::from_secs(25) && waited <= Duration::from_secs(39), "it waited {waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixty_fifth_waiting_stream_of_a_user_is_refused_at_once() {
    let writ = Writ::up();
    let workload = Workload::connect(&writ.workload_socket()).await;
    workload.fetch().await.expect_err("nothing is registered");
    // Which of them arrives last is left to chance.
    let mut waiting = JoinSet::new();
    for _ in 0..65 {
        let mut stream = workload.watch();
        waiting.spawn(async move { stream.ended(Duration::from_secs(60)).await });
    }
    let refused = timeout(SOON, waiting.join_next()).await.expect("one is refused at once");
    let refused = refused.expect("there are 65").expect("none panics");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let another = timeout(Duration::from_secs(1), waiting.join_next()).await;
    assert!(another.is_err(), "the other 64 go on waiting, but: {another:?}");
}
