//! A server whose disk is full refuses what it cannot keep, and loses nothing that it acknowledged.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use integration_tests::admin::Admin;
use integration_tests::workload::{Workload, ids};
use integration_tests::{Folder, Writ, needs};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{SOON, own_uid};

/// A file system of its own size, unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("the folder is ours");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=32m,mode=0700"))
            .expect("root may mount");
        Self(path)
    }

    /// Uses up what is left, and returns the file that does.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_else_is_acknowledged() {
    if !needs::root() {
        return;
    }
    let outside = Folder::new();
    let disk = SmallDisk::new(outside.join("disk"));
    let data = disk.0.join("d");
    let writ = Writ::up_at(Folder::new(), data, &[]);
    let mut kept = vec![writ.entry("/kept", &[&own_uid()])];
    let mut stream = Workload::connect(&writ.workload_socket()).await.watch();
    stream.until("the identity", SOON, |svids| !svids.is_empty()).await;

    let filler = disk.fill();
    let mut admin = Admin::at(&writ.server_socket());
    let mut refusal = None;
    // Pages that the log already owns may still take a few.
    for number in 0..2000 {
        match admin.create(&writ.id(&format!("/more/{number}")), &writ.node_id(), "unix:uid:4242").await {
            Ok(entry) => kept.push(entry),
            Err(status) => {
                refusal = Some(status);
                break;
            }
        }
    }
    let refusal = refusal.expect("a full disk takes no more");
    assert!(refusal.message().contains("full") || refusal.message().contains("space"), "{refusal}");
    let svids = Workload::connect(&writ.workload_socket()).await.fetch().await.expect("the agent serves on");
    assert_eq!(ids(&svids), [writ.id("/kept")]);

    fs::remove_file(filler).expect("it is ours");
    kept.push(
        admin
            .create(&writ.id("/after"), &writ.node_id(), "unix:uid:4242")
            .await
            .expect("there is room again"),
    );
    let writ = writ.again();
    let found = Admin::at(&writ.server_socket()).list().await.expect("it answers");
    for entry in &kept {
        assert!(found.contains(entry), "an acknowledged entry is lost");
    }
    drop(writ);
    assert!(Path::new(&disk.0).exists());
}
