//! One process asks for everything at once, and the others do not notice.

mod support;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use support::{Api, child, child_value, client_at, fetch, holding, next};
use tokio::sync::Semaphore;
use workload_api::Limits;

const OPEN_REQUESTS: usize = 1000;
/// A flood ends by itself, also when the test that began it is gone.
const LONGEST_FLOOD: Duration = Duration::from_secs(60);

/// Keeps a thousand requests open, a fifth of them on one connection and the others on connections of
/// their own, and asks again whenever one is answered.
#[test]
fn flooder() {
    let Some(socket) = child_value() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let flood = async {
        let all = Arc::new(Semaphore::new(OPEN_REQUESTS));
        let mut answered = 0_usize;
        let shared = client_at(&socket).await;
        loop {
            let place = all.clone().acquire_owned().await.unwrap();
            let socket = socket.clone();
            let shared = answered.is_multiple_of(5).then(|| shared.clone());
            tokio::spawn(async move {
                let mut client = match shared {
                    Some(client) => client,
                    None => client_at(&socket).await,
                };
                if let Ok(mut stream) = fetch(&mut client).await {
                    let _ = stream.message().await;
                }
                drop(place);
            });
            answered += 1;
            if answered == 3 * OPEN_REQUESTS {
                println!("flooding");
            }
        }
    };
    runtime.block_on(async { tokio::time::timeout(LONGEST_FLOOD, flood).await }).unwrap_or(());
}

#[tokio::test]
async fn during_a_flood_of_one_process_another_is_served() {
    // Both processes are of one user, who may have connections enough for both.
    let limits = Limits { connections_per_uid: 8192, ..Limits::default() };
    let api = Api::start_with(holding(&["/a"]), limits);
    let mut flood = child("flooder", &api.path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(flood.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("flooding")));
    for _ in 0..100 {
        next(&mut fetch(&mut api.client().await).await.unwrap()).await.unwrap();
    }
    assert!(flood.try_wait().unwrap().is_none(), "the flood goes on");
    flood.kill().unwrap();
    flood.wait().unwrap();
}
