//! What a restart keeps, and what stops a start.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;
use server::CaKeys;
use spiffe::PrivateKey;

use crate::support::{Host, View, config, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_nodes_entries_authorities_and_the_pin() {
    let host = Host::start().await;
    let pin = host.serving.pin;
    let mut agent = host.agent("n").await;
    let mut view = View::follow(&agent, None).await.unwrap();
    view.step().await.unwrap();
    let (log, at) = (view.log.clone(), view.at);
    drop(view);
    let unused = host.token("later").await;
    host.entry(json!({ "id": "e", "spiffe_id": "/e", "parent": "n", "selectors": ["unix:uid:1"] })).await;
    let bundle = host.bundle(&pin).await;

    let host = host.restart_with(|_| {}).await.unwrap();
    assert_eq!(host.serving.pin, pin);
    assert_eq!(host.bundle(&pin).await, bundle);
    agent.address = host.address();
    assert!(agent.sign(&["e"]).await.unwrap()[0].is_ok());
    let mut resumed = View::follow(&agent, Some((&log, at))).await.unwrap();
    resumed.until_entries(&["e"]).await;
    host.join(&unused, PrivateKey::generate().unwrap()).await.unwrap();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_in_memory_a_new_authority_takes_over_and_the_old_one_stays_published() {
    let host = Host::start_with(|config| config.ca_keys = CaKeys::Memory).await;
    let agent = host.agent("n").await;
    agent.sign(&[]).await.unwrap();
    let before = host.bundle(&host.serving.pin).await;
    let host = host.restart_with(|_| {}).await.unwrap();
    let after = host.bundle(&host.serving.pin).await;
    assert_eq!(after.x509_authorities.len(), 2);
    assert!(after.x509_authorities.contains(&before.x509_authorities[0]));
    assert!(after.sequence > before.sequence);
    let bundles = std::sync::Arc::new([after].into_iter().collect());
    let agent = crate::support::Agent { address: host.address(), bundles, ..agent };
    agent.sign(&[]).await.unwrap(); // its certificate is the old authority's
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loose_key_file_stops_the_start_and_says_how_to_go_on() {
    for file in ["mac.key", "pin.key", "keys"] {
        let host = Host::start().await;
        let state = host.config.state_dir.clone();
        let (directory, config) = (host.directory.clone(), host.config.clone());
        host.stop().await;
        let path = match file {
            "keys" => fs::read_dir(state.join("keys")).unwrap().next().unwrap().unwrap().path(),
            file => state.join(file),
        };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let error = Host::start_in(directory, config).await.err().unwrap().to_string();
        assert!(error.contains("0604") && error.contains("chmod"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_the_state_is_its_owners_alone() {
    let host = Host::start().await;
    host.agent("n").await;
    let mut open = vec![host.config.state_dir.clone()];
    let mut files = 0;
    while let Some(directory) = open.pop() {
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o077, 0, "{directory:?}");
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files += 1;
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{path:?}");
            }
        }
    }
    assert!(files >= 4);
    assert_eq!(fs::metadata(&host.serving.socket).unwrap().permissions().mode() & 0o777, 0o600);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_in_the_same_directory_is_refused() {
    let host = Host::start().await;
    let error = Host::start_in(host.directory.clone(), config(host.directory.path())).await.err().unwrap();
    assert!(matches!(error, server::Error::State(_)), "{error}");
    host.admin().await.status().await.unwrap(); // the first one serves on
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_trust_domain_is_refused() {
    let host = Host::start().await;
    let refused = host.restart_with(|config| config.trust_domain = "other.example".parse().unwrap()).await;
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("other.example"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_closes_the_log_so_that_nothing_lies_beside_it() {
    let host = Host::start().await;
    let agent = host.agent("n").await;
    let mut view = View::follow(&agent, None).await.unwrap();
    view.step().await.unwrap();
    let (state, socket) = (host.config.state_dir.clone(), host.serving.socket.clone());
    let load: Vec<_> = (0..8)
        .map(|writer| {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut admin = server_api::admin::Client::connect(&socket).await.unwrap();
                let mut tokens = 0;
                while admin.create_token(&format!("w{writer}-{tokens}"), 600).await.is_ok() {
                    tokens += 1;
                }
                tokens
            })
        })
        .collect();
    eventually("the load is under way", async || {
        host.admin().await.list("token", vec![]).await.unwrap().len() > 50
    })
    .await;
    assert!(state.join("log.db-wal").exists(), "while it serves, its newest rows lie beside the log");
    host.stop().await;
    assert!(!state.join("log.db-wal").exists(), "the log was not closed");
    for writer in load {
        assert!(writer.await.unwrap() > 0);
    }
}
