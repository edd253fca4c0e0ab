//! What every workload attestor keeps to, whichever it is: a new one is under these tests as soon as it is among
//! the builtin ones. If it asks somebody, [`asking`] says whom it asks here.

mod harness;

use std::{
    collections::HashSet,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use attestors::{
    Config, Fact, Subject, Wanted, WorkloadAttestor, WorkloadAttestors,
    selectors::{About, Vocabulary, Warning, kinds, warnings},
    workload::k8s,
};
use futures::future::join_all;
use harness::{
    Cgroup, Running, as_root,
    liars::{CANARY, Liar, Lie},
};

#[tokio::test]
async fn an_attestor_speaks_under_its_own_name_and_only_of_what_authors_of_entries_are_told() {
    let process = Running::program(Path::new("/bin/cat"));
    for attestor in WorkloadAttestors::builtin().iter() {
        assert!(kinds().any(|kind| kind.name == attestor.name()), "{} is no kind", attestor.name());
        let evidence = attestor.attest(&Subject::new(process.peer()), &Wanted::everything()).await;
        for selector in evidence.selectors() {
            assert_eq!(selector.kind(), attestor.name());
            Vocabulary::default().check(selector, About::Processes).expect("an entry can have it");
            let name = selector.value().split(':').next().expect("there is a first part");
            let written = format!("`{}:{name}:", selector.kind());
            assert!(DOCUMENTED.contains(&written), "docs/attestors.md does not say what {written}` is");
            let warnings = warnings(std::slice::from_ref(selector));
            assert!(
                !warnings.iter().any(|warning| matches!(warning, Warning::Elsewhere { .. })),
                "{selector}"
            );
        }
    }
}

#[tokio::test]
async fn an_attestor_has_a_name_of_its_own_that_can_stand_in_a_selector() {
    let mut names = HashSet::new();
    for attestor in WorkloadAttestors::builtin().iter() {
        assert!(attestor.name().bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')));
        assert!(names.insert(attestor.name()), "{} is there twice", attestor.name());
    }
}

#[tokio::test]
async fn asking_for_less_never_gives_more() {
    let process = Running::program(Path::new("/bin/cat"));
    for attestor in WorkloadAttestors::builtin().iter() {
        let everything = attestor.attest(&Subject::new(process.peer()), &Wanted::everything()).await;
        let nothing = attestor.attest(&Subject::new(process.peer()), &Wanted::default()).await;
        assert!(nothing.facts.iter().all(|fact| everything.facts.contains(fact)));
    }
}

#[tokio::test]
async fn an_attestor_survives_a_process_that_does_not() {
    let mut process = Running::program(Path::new("/bin/cat"));
    let peer = process.peer();
    process.kill();
    for attestor in WorkloadAttestors::builtin().iter() {
        let evidence = attestor.attest(&Subject::new(peer.clone()), &Wanted::everything()).await;
        assert!(evidence.facts.iter().all(|fact| !fact.selector.value().starts_with("path:")));
    }
}

/// What is told to those who write entries.
const DOCUMENTED: &str = include_str!("../../docs/attestors.md");

/// A shell that obeys nobody but answers each line, with these words wherever a process has words of its own.
fn talker(directory: &Path, word: &str) -> Running {
    let home = directory.join(word);
    fs::create_dir_all(&home).expect("the folder is ours");
    let script = "printf %s \"$0\" > /proc/$$/comm; while read -r line; do echo \"$line\"; done";
    let mut command = Command::new("/bin/sh");
    command.arg0(word).args(["-c", script, word, word]).current_dir(&home);
    for variable in ["SPIFFE_ID", "KUBERNETES_SERVICE_HOST", "container", "INVOCATION_ID", "HOSTNAME", "USER"]
    {
        command.env(variable, word);
    }
    Running::command(&mut command)
}

async fn facts(attestor: &dyn WorkloadAttestor, process: &Running) -> Vec<Fact> {
    attestor.attest(&Subject::new(process.peer()), &Wanted::everything()).await.facts
}

#[tokio::test]
async fn no_fact_is_from_the_mouth_of_the_process() {
    let directory = harness::directory();
    let (loud, quiet) = (talker(directory.path(), CANARY), talker(directory.path(), "sh"));
    let pid = loud.peer().pid();
    for said in ["cmdline", "environ", "comm"] {
        let said = fs::read(format!("/proc/{pid}/{said}")).expect("readable");
        let canary = &CANARY.as_bytes()[..CANARY.len().min(15)];
        assert!(said.windows(canary.len()).any(|part| part == canary), "it says so");
    }
    for attestor in WorkloadAttestors::builtin().iter() {
        let told = facts(attestor, &loud).await;
        // The same program, user, place and parent: whatever differs came from the process.
        assert_eq!(told, facts(attestor, &quiet).await, "{}", attestor.name());
        assert!(!format!("{told:?}").contains(CANARY), "{}: {told:?}", attestor.name());
    }
}

#[tokio::test]
async fn an_attestor_takes_no_longer_than_it_says_and_says_no_more_than_a_minute() {
    let process = Running::program(Path::new("/bin/cat"));
    for attestor in WorkloadAttestors::builtin().iter() {
        assert!(attestor.deadline() <= Duration::from_secs(60), "{}", attestor.name());
        // Stopped, it can still be looked at.
        process.peer().signal(19).expect("it is ours");
        let began = Instant::now();
        facts(attestor, &process).await;
        assert!(began.elapsed() < attestor.deadline(), "{}", attestor.name());
        process.peer().signal(18).expect("it is ours");
    }
}

/// Every attestor with somebody to ask, at whose place this liar sits.
fn asking(liar: &Liar) -> WorkloadAttestors {
    let mut config = Config::default();
    config.docker.socket = liar.socket();
    config.docker.podman_socket = liar.socket();
    config.systemd.bus = liar.socket();
    config.k8s = Some(k8s::Config { kubelet: liar.url(), ..k8s::Config::default() });
    WorkloadAttestors::new(&config).expect("it can be configured so")
}

/// In each of these an attestor has a reason to ask.
fn places() -> Vec<Cgroup> {
    let id = format!("{:064x}", std::process::id());
    let pod = "kubepods/besteffort/pod7f4a1c1e-5c3e-4d31-9b39-9f3b2f4c6a10";
    [
        format!("docker/{id}"),
        format!("libpod_parent/libpod-{id}"),
        format!("{pod}/{id}"),
        format!("contract{}.slice/contract.service", std::process::id()),
    ]
    .map(|path| Cgroup::at(&path))
    .into()
}

/// Whoever is asked may hang, break off, send what it likes and send without end. It costs a bounded time and a
/// bounded memory, and no attestor believes a word of it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_an_attestor_asks_can_lie_but_not_hold_it_up_fill_its_memory_or_be_believed() {
    let test = "whoever_an_attestor_asks_can_lie_but_not_hold_it_up_fill_its_memory_or_be_believed";
    if !as_root(test) {
        return;
    }
    let places = places();
    let processes: Vec<_> = places
        .iter()
        .map(|place| {
            let process = Running::program(Path::new("/bin/cat"));
            place.take(process.peer().pid());
            process
        })
        .collect();
    let peers = || processes.iter().map(Running::peer);
    let nobody = WorkloadAttestors::builtin();
    let asked_nobody: Vec<_> = join_all(peers().map(|peer| all(&nobody, peer))).await;

    let before = highest_memory();
    let liars: Vec<_> = Lie::ALL.map(Liar::sit).into();
    let told = join_all(liars.iter().map(|liar| async move {
        let attestors = asking(liar);
        let told = join_all(peers().map(|peer| all(&attestors, peer))).await;
        (liar, told)
    }));
    for (liar, told) in told.await {
        assert!(liar.was_asked(), "{:?}: somebody asks", liar.lie());
        assert_eq!(told, asked_nobody, "{:?} adds nothing and takes nothing away", liar.lie());
    }
    let grown = highest_memory().saturating_sub(before);
    assert!(grown < MOST_MEMORY, "it takes {grown} KiB more");
}

/// What each attestor says, one after the other, in the time that it has.
async fn all(attestors: &WorkloadAttestors, peer: std::sync::Arc<peer::Peer>) -> Vec<Fact> {
    let subject = Subject::new(peer);
    let wanted = Wanted::everything();
    let said = attestors.iter().map(|attestor| async {
        let limit = attestor.deadline() + Duration::from_secs(20); // for a machine that is busy
        let evidence = tokio::time::timeout(limit, attestor.attest(&subject, &wanted)).await;
        evidence.unwrap_or_else(|_| panic!("{} is held up", attestor.name())).facts
    });
    join_all(said).await.into_iter().flatten().collect()
}

/// The most memory that this process has ever had, in KiB.
fn highest_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// In KiB, for some dozens of answers at once, of which a liar would make them as long as it likes.
const MOST_MEMORY: u64 = 96 * 1024;
