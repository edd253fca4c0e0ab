//! What every workload attestor keeps to, whichever it is.

mod harness;

use std::{collections::HashSet, path::Path};

use attestors::{
    Subject, Wanted, WorkloadAttestors,
    selectors::{About, Vocabulary, Warning, kinds, warnings},
};
use harness::Running;

#[tokio::test]
async fn an_attestor_speaks_under_its_own_name_and_only_of_what_authors_of_entries_are_told() {
    let process = Running::program(Path::new("/bin/cat"));
    for attestor in WorkloadAttestors::builtin().iter() {
        assert!(kinds().any(|kind| kind.name == attestor.name()), "{} is no kind", attestor.name());
        let evidence = attestor.attest(&Subject::new(process.peer()), &Wanted::everything()).await;
        for selector in evidence.selectors() {
            assert_eq!(selector.kind(), attestor.name());
            Vocabulary::default().check(selector, About::Processes).expect("an entry can have it");
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
