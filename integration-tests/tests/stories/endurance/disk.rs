//! The disk of an agent's evidence is full: nothing new is permitted, whatever ends still ends, and it goes on by itself.

use std::collections::BTreeSet;

use futures::future::join_all;
use integration_tests::daemon::Server;
use integration_tests::{Folder, needs};
use nix::sys::signal::Signal;

use super::kills::evidence::Evidence;
use super::{Ground, permitted_soon};
use crate::full_disk::SmallDisk;

/// Questions at once, so that the room that lies ready is used up before the server's silence tells.
const AT_ONCE: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_disk_permits_stop_and_ends_work_and_with_room_it_goes_on() {
    if !needs::root() {
        return;
    }
    let folder = Folder::new();
    let disk = SmallDisk::new(folder.join("state"));
    let mut ground = Ground::at(Server::start(""), folder);
    let (mut one, mut other) = (ground.worker(), ground.worker());
    let (kept, ended) = (one.begin("work"), other.begin("work"));
    let gate = ground.gate_soon().await;
    let (one_client, other_client) = (one.for_task(&kept), other.for_task(&ended));
    permitted_soon(&gate, &one_client).await;

    // While the server is there, what it has makes room for what comes, however full the disk is.
    let filler = disk.fill();
    ground.server.signal(Signal::SIGSTOP);
    let (mut permits, mut refusals) = (Vec::new(), BTreeSet::new());
    while refusals.is_empty() {
        let asked = (0..AT_ONCE).map(|_| gate.ask(&one_client, "box/put", "{}"));
        for verdict in join_all(asked).await {
            let verdict = verdict.expect("the session stands");
            match verdict.permitted {
                true => permits.push((kept.clone(), verdict.seq)),
                false => drop(refusals.insert(verdict.reason)),
            }
        }
    }
    assert_eq!(refusals, BTreeSet::from(["unrecorded".to_owned()]), "{}", ground.agent.log());
    let refused = join_all((0..AT_ONCE).map(|_| gate.ask(&one_client, "box/put", "{}"))).await;
    let refused = refused.into_iter().filter(|verdict| verdict.as_ref().is_ok_and(|it| !it.permitted));
    assert_eq!(refused.count(), AT_ONCE, "no room comes by itself");
    let log = ground.agent.log();
    let said = "cannot be recorded: no space is left for audit records; free some";
    assert_eq!(log.matches(said).count(), 1, "a full disk fills no log: {log}");
    let verdict = gate.ask(&other_client, "box/look", "{}").await.expect("the session stands");
    assert!(!verdict.permitted, "nothing is permitted to anybody");
    assert!(other.end(&ended), "an end needs no disk, and no server");
    let verdict = gate.ask(&other_client, "box/look", "{}").await.expect("the session stands");
    assert_eq!((verdict.permitted, verdict.reason.as_str()), (false, "no_task"));

    ground.server.signal(Signal::SIGCONT);
    integration_tests::eventually("the server knows of the end", crate::SOON, || {
        (ground.task(&ended)["state"]["is"] == "ended").then_some(())
    });
    std::fs::remove_file(filler).expect("it is ours");
    permitted_soon(&gate, &one_client).await;
    let _ = other.begin("work");
    drop(gate);
    let evidence = Evidence::with(&ground, permits.iter()).await;
    evidence.is_whole();
    let kinds = ["spool.full", "spool.room", "task.end"].map(|kind| ground.recorded(kind).len());
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
    let _ = ground.server.run(&["audit", "verify"]).done();
}
