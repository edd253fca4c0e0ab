//! What a stream says, and when.

mod support;

use std::{sync::atomic::Ordering, time::Duration};

use proto::workload::X509BundlesRequest;
use support::{Api, fetch, holding, holding_hinted, ids, next, secure};
use tonic::Code;
use workload_api::Standing;

#[tokio::test]
async fn the_first_answer_has_everything_a_workload_needs() {
    let api = Api::start(holding(&["/a", "/b"]));
    let mut client = api.client().await;
    let answer = next(&mut fetch(&mut client).await.unwrap()).await.unwrap();
    assert_eq!(ids(&answer), ["spiffe://acme.example/a", "spiffe://acme.example/b"]);
    let svid = &answer.svids[0];
    assert_eq!((&svid.x509_svid[..], &svid.bundle[..]), (&b"chain of /a"[..], &b"roots"[..]));
    spiffe::PrivateKey::from_pkcs8(svid.x509_svid_key.to_vec()).unwrap().public_key().unwrap();
    let federated: Vec<_> =
        answer.federated_bundles.iter().map(|(td, der)| (td.as_str(), &der[..])).collect();
    assert_eq!(federated, [("spiffe://partner.example", &b"theirs"[..])]);

    let bundles = client.fetch_x509_bundles(secure(X509BundlesRequest {})).await.unwrap().into_inner();
    let answer = next(&mut { bundles }).await.unwrap();
    let bundles: Vec<_> = answer.bundles.iter().map(|(td, der)| (td.as_str(), &der[..])).collect();
    assert_eq!(
        bundles,
        [("spiffe://acme.example", &b"roots"[..]), ("spiffe://partner.example", &b"theirs"[..])]
    );
}

#[tokio::test]
async fn a_change_is_pushed_and_the_same_again_is_not() {
    let before = holding(&["/a", "/b"]);
    let api = Api::start(before.clone());
    let mut client = api.client().await;
    let mut stream = fetch(&mut client).await.unwrap();
    next(&mut stream).await.unwrap();
    for _ in 0..10 {
        api.now(before.clone());
        // A stream hears of the latest only: when somebody else has been answered, this one has looked.
        next(&mut fetch(&mut client).await.unwrap()).await.unwrap();
    }
    api.now(holding(&["/a"]));
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://acme.example/a"], "absence is redaction");
}

#[tokio::test]
async fn of_two_identities_with_one_hint_the_first_is_handed_out() {
    let api = Api::start(holding_hinted(&[("/a", "x"), ("/b", "x"), ("/c", "y"), ("/d", ""), ("/e", "")]));
    let answer = next(&mut fetch(&mut api.client().await).await.unwrap()).await.unwrap();
    let hints: Vec<_> = answer.svids.iter().map(|svid| (&svid.spiffe_id[21..], svid.hint.as_str())).collect();
    assert_eq!(hints, [("/a", "x"), ("/c", "y"), ("/d", ""), ("/e", "")]);
}

#[tokio::test]
async fn a_stream_that_loses_its_last_identity_ends_at_once() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let mut stream = fetch(&mut client).await.unwrap();
    next(&mut stream).await.unwrap();
    api.now(Standing::Nothing);
    let end = next(&mut stream).await.unwrap_err();
    assert_eq!(end.code(), Code::PermissionDenied);
    let pid = std::process::id();
    assert_eq!(
        end.message(),
        format!("no identity issued; an administrator can run: writ explain --pid {pid}")
    );
}

#[tokio::test]
async fn a_caller_whose_svid_is_being_made_gets_it_when_it_is_there() {
    let api = Api::start(Standing::Preparing);
    let mut client = api.client().await;
    let mut asking = client.clone();
    let asked = tokio::spawn(async move { next(&mut fetch(&mut asking).await?).await });
    while api.source.identified.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    api.now(holding(&["/a"]));
    assert_eq!(ids(&asked.await.unwrap().unwrap()), ["spiffe://acme.example/a"]);

    let mut stream = fetch(&mut client).await.unwrap();
    next(&mut stream).await.unwrap();
    api.now(Standing::Preparing);
    let end = next(&mut stream).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "it is entitled, so it is not told to drop what it has");
}

#[tokio::test]
async fn a_connection_is_identified_once_and_again_when_more_must_be_known() {
    let api = Api::start(holding(&["/a"]));
    let mut client = api.client().await;
    let mut first = fetch(&mut client).await.unwrap();
    next(&mut first).await.unwrap();
    next(&mut fetch(&mut client).await.unwrap()).await.unwrap();
    assert_eq!(api.source.identified.load(Ordering::Relaxed), 1);
    // The source is asked again as long as it says that it has to be.
    api.now(Standing::Outdated);
    let identified_again = async {
        while api.source.identified.load(Ordering::Relaxed) == 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), identified_again).await.unwrap();
    api.now(holding(&["/b"]));
    assert_eq!(ids(&next(&mut first).await.unwrap()), ["spiffe://acme.example/b"]);
}
