//! Peers that change are noticed by what the kernel tells, and where it does not, by looking.

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, id},
    sync::Arc,
    time::Duration,
};

use harness::{Puppet, as_root, copy_of_puppet, inside, open_directory, puppet};
use peer::{Changed, Peer, Watch, Watched};
use tokio::time::timeout;

#[tokio::test]
async fn a_program_executed_is_noticed_also_where_it_is_the_same_file_again() {
    if !as_root("a_program_executed_is_noticed_also_where_it_is_the_same_file_again") {
        return;
    }
    let watch = open();
    let directory = open_directory();
    for program in [copy_of_puppet(&directory.path().join("other")), puppet().to_owned()] {
        let (mut caller, watched) = watched_puppet(&watch);
        caller.exec(&program);
        let changed = noticed(&watched).await;
        assert!(matches!(changed, Changed::Executed { .. } | Changed::Image { .. }), "{changed}");
    }
}

#[tokio::test]
async fn what_a_process_executed_before_it_was_watched_is_no_news() {
    if !as_root("what_a_process_executed_before_it_was_watched_is_no_news") {
        return;
    }
    for _ in 0..20 {
        // Nobody has read the events of their start when they begin to be watched.
        let watch = Arc::new(Watch::open());
        assert_eq!(watch.silence().exec_and_ids, None);
        let (_fresh, fresh) = watched_puppet(&watch);
        let (mut later, later_watched) = watched_puppet(&watch);
        run(&watch);
        later.order("become-user 65534");
        noticed(&later_watched).await;
        // What is told later was read later.
        assert!(timeout(Duration::ZERO, fresh.changed()).await.is_err());
    }
}

#[tokio::test]
async fn a_change_of_uid_or_gid_is_noticed() {
    if !as_root("a_change_of_uid_or_gid_is_noticed") {
        return;
    }
    let watch = open();
    for order in ["become-user 65534", "act-as-user 65534", "become-group 65534"] {
        let (mut caller, watched) = watched_puppet(&watch);
        caller.order(order);
        let changed = noticed(&watched).await;
        assert!(matches!(changed, Changed::Credentials { .. }), "{order}: {changed}");
    }
}

#[tokio::test]
async fn a_move_to_another_cgroup_is_noticed_in_every_hierarchy() {
    if !as_root("a_move_to_another_cgroup_is_noticed_in_every_hierarchy") {
        return;
    }
    let watch = open();
    assert_eq!(watch.silence().moves, None);
    let hierarchies = hierarchies();
    assert!(!hierarchies.is_empty(), "cgroups are mounted");
    for hierarchy in hierarchies {
        let (caller, watched) = watched_puppet(&watch);
        let cgroup = Cgroup::under(&hierarchy);
        let stays = Cgroup::under(&hierarchy);
        drop(stays); // making and removing one is no move
        cgroup.take(caller.pid());
        let changed = noticed(&watched).await;
        assert!(matches!(changed, Changed::Moved { .. }), "{}: {changed}", hierarchy.display());
        drop(caller);
    }
}

#[tokio::test]
async fn where_the_kernel_told_more_than_was_read_everybody_is_looked_at() {
    if !as_root("where_the_kernel_told_more_than_was_read_everybody_is_looked_at") {
        return;
    }
    let watch = Arc::new(Watch::with_room(1)); // the kernel makes it a few events
    let directory = open_directory();
    let other = copy_of_puppet(&directory.path().join("other"));
    let (_unchanged, unchanged) = watched_puppet(&watch);
    let mut changing: Vec<_> = (0..20).map(|_| watched_puppet(&watch)).collect();
    storm(100);
    for (n, (caller, _)) in changing.iter_mut().enumerate() {
        match n % 2 {
            0 => caller.order("become-user 65534"),
            _ => caller.exec(&other),
        }
    }
    storm(100);
    run(&watch);
    for (_, watched) in &changing {
        noticed(watched).await;
    }
    assert!(watch.lost() > 0, "the storm was too small for this machine");
    assert!(timeout(Duration::ZERO, unchanged.changed()).await.is_err());
}

#[tokio::test]
async fn where_the_kernel_tells_nothing_everybody_is_looked_at() {
    if !as_root("where_the_kernel_tells_nothing_everybody_is_looked_at") {
        return;
    }
    let watch = Arc::new(Watch::deaf());
    run(&watch);
    let (mut caller, watched) = watched_puppet(&watch);
    let (mut ended, end) = watched_puppet(&watch);
    caller.order("become-user 65534");
    ended.kill();
    assert!(matches!(noticed(&watched).await, Changed::Credentials { .. }));
    assert!(matches!(noticed(&end).await, Changed::Exited { .. }));
}

#[tokio::test]
async fn without_rights_it_says_what_it_does_not_hear_and_why() {
    const NAME: &str = "without_rights_it_says_what_it_does_not_hear_and_why";
    if !as_root(NAME) || !inside(NAME, &["unshare", "--user", "--net"]) {
        return;
    }
    let silence = Watch::open().silence();
    assert!(silence.exec_and_ids.is_some_and(|why| why.contains("proc connector")));
    assert!(silence.moves.is_some_and(|why| why.contains("CAP_SYS_ADMIN")));
}

fn open() -> Arc<Watch> {
    let watch = Arc::new(Watch::open());
    assert_eq!(watch.silence().exec_and_ids, None);
    run(&watch);
    watch
}

fn run(watch: &Arc<Watch>) {
    let watch = watch.clone();
    tokio::spawn(async move { watch.run().await });
}

fn watched_puppet(watch: &Arc<Watch>) -> (Puppet, Watched) {
    let caller = Puppet::start();
    let peer = Arc::new(Peer::open(caller.pid()).expect("held"));
    peer.cgroup().expect("it has cgroups");
    let watched = watch.watch(&peer);
    (caller, watched)
}

async fn noticed(watched: &Watched) -> Changed {
    timeout(DEADLINE, watched.changed()).await.expect("it is noticed")
}

/// So many programs are executed, one after the other.
fn storm(programs: u32) {
    let script = format!("i=0; while [ $i -lt {programs} ]; do /bin/true; i=$((i+1)); done");
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh starts").success());
}

/// Where cgroups can be made: those of the unified hierarchy, and those of one of the old ones.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts can be listed");
    let mount = |kind: &str, option: &str| {
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.find(|line| line[2] == kind && line[3].contains(option)).map(|line| PathBuf::from(line[1]))
    };
    [mount("cgroup2", ""), mount("cgroup", "pids")].into_iter().flatten().collect()
}

/// A cgroup of this test, removed with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn under(hierarchy: &Path) -> Self {
        let name = format!("writ-test-{}-{:x}", id(), fastrand());
        let cgroup = hierarchy.join(name);
        fs::create_dir(&cgroup).expect("root may make cgroups");
        Self(cgroup)
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("root may move processes");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Those who die leave it a little later.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn fastrand() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

const DEADLINE: Duration = Duration::from_secs(60);
