//! A process without identity: refused at once the first time, a waiting client from then on.

mod support;

use std::time::{Duration, Instant};

use support::{Api, fetch, holding, ids, next, raw_status};
use tonic::Code;
use workload_api::{Limits, Standing};

#[tokio::test]
async fn the_first_refusal_comes_at_once_and_the_second_call_waits_for_a_push() {
    let api = Api::start(Standing::Nothing);
    let mut client = api.client().await;
    let asked = Instant::now();
    assert_eq!(fetch(&mut client).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(
        asked.elapsed() < Limits::default().waiting / 2,
        "it did not wait, but took {:?}",
        asked.elapsed()
    );

    // Another connection of the same process is the same client.
    let mut again = api.client().await;
    let waiting = tokio::spawn(async move { next(&mut fetch(&mut again).await?).await });
    // One that says how long it waits, and watches no clock itself.
    let asked = Instant::now();
    let refused = raw_status(&api.path, &[("grpc-timeout", "400m")], vec![0; 5]).await;
    assert_eq!(refused, Some(Code::PermissionDenied as i32), "an answer at its deadline");
    assert!(asked.elapsed() > Duration::from_millis(300) && !waiting.is_finished());

    api.now(holding(&["/a"]));
    assert_eq!(ids(&waiting.await.unwrap().unwrap()), ["spiffe://acme.example/a"]);
}

#[tokio::test]
async fn waiting_ends_with_the_same_refusal() {
    let limits = Limits { waiting: Duration::from_millis(300), ..Limits::default() };
    let api = Api::start_with(Standing::Nothing, limits);
    let mut client = api.client().await;
    let first = fetch(&mut client).await.unwrap_err();
    let asked = Instant::now();
    let second = fetch(&mut client).await.unwrap_err();
    assert!(asked.elapsed() >= Duration::from_millis(300));
    assert_eq!((first.code(), first.message()), (second.code(), second.message()));
}

#[tokio::test]
async fn beyond_its_users_seats_nobody_waits() {
    let limits = Limits { waiting_per_uid: 2, ..Limits::default() };
    let api = Api::start_with(Standing::Nothing, limits);
    let mut client = api.client().await;
    fetch(&mut client).await.unwrap_err();
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { next(&mut fetch(&mut client).await?).await })
        })
        .collect();
    let (refused, _, waiting) = futures::future::select_all(asking).await;
    assert_eq!(refused.unwrap().unwrap_err().code(), Code::PermissionDenied);
    api.now(holding(&["/a"]));
    for served in waiting {
        assert_eq!(ids(&served.await.unwrap().unwrap()), ["spiffe://acme.example/a"]);
    }
}
