//! What the agent sees of a process, and why it gets what it gets.

use std::sync::Arc;

use attestors::{Evidence, Fact, Said, Standing, Wanted, WorkloadAttestors};
use peer::{Peer, PinError};
use registry::objects::Entry;
use serde::Serialize;
use spiffe::Selector;
use workload_api::NoExplanation;

use crate::{
    identities::Identities,
    matching::{self, Facts},
};

/// Who wants to know.
#[derive(Clone, Copy)]
pub(crate) enum Asker<'a> {
    /// A process: it sees itself and the processes of its user, and never an entry.
    Workload(&'a Arc<Peer>),
    /// An administrator on the private socket.
    Administrator(&'a Arc<Peer>),
}

/// The explanation, as JSON.
#[derive(Serialize)]
struct Explanation {
    pid: u32,
    selectors: Vec<Fact>,
    notes: Vec<String>,
    #[serde(flatten)]
    entries: Option<Entries>,
}

/// What only an administrator sees.
#[derive(Serialize)]
struct Entries {
    attestors: Vec<Attestor>,
    matches: Vec<Arc<Entry>>,
    almost: Vec<Almost>,
}

/// How an attestor fares, and how long it took if it was asked.
#[derive(Serialize)]
struct Attestor {
    #[serde(flatten)]
    standing: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_us: Option<f64>,
}

/// An entry that does not match, what the process lacks for it, and what it has of the same kinds instead.
#[derive(Serialize)]
struct Almost {
    entry: Arc<Entry>,
    missing: Vec<Selector>,
    has: Vec<Selector>,
}

/// Explains the asker, or the process with this pid.
pub(crate) async fn explain(
    identities: &Identities,
    attestors: &WorkloadAttestors,
    asker: Asker<'_>,
    pid: Option<u32>,
) -> Result<Vec<u8>, NoExplanation> {
    let peer = subject(asker, pid)?;
    let said = attestors.examine(&peer, &Wanted::everything()).await;
    let said = said.map_err(|error| match asker {
        Asker::Administrator(_) if peer.alive() => NoExplanation::Unreadable(peer.pid(), error.to_string()),
        _ => NoExplanation::NotYours(peer.pid()),
    })?;
    let mut evidence = Evidence::default();
    said.iter().for_each(|said| evidence.extend(said.evidence.clone()));
    let (notes, entries) = match asker {
        // Why something cannot be said may speak of others, for example of who traces it.
        Asker::Workload(_) => (Vec::new(), None),
        Asker::Administrator(_) => {
            let facts: Facts = evidence.selectors().cloned().collect();
            let (matches, almost) = identities.explain(&facts);
            let almost = almost.into_iter().map(|almost| Almost::new(almost, &facts)).collect();
            let attestors = with_times(attestors.standings(), &said);
            (evidence.notes, Some(Entries { attestors, matches, almost }))
        }
    };
    let explanation = Explanation { pid: peer.pid(), selectors: evidence.facts, notes, entries };
    serde_json::to_vec(&explanation).map_err(|error| NoExplanation::Failed(error.to_string()))
}

fn with_times(standings: Vec<Standing>, said: &[Said]) -> Vec<Attestor> {
    let took_us = |name| {
        let said = said.iter().find(|said| said.name == name)?;
        Some((said.took.as_secs_f64() * 1e7).round() / 10.0)
    };
    standings.into_iter().map(|standing| Attestor { took_us: took_us(standing.name), standing }).collect()
}

impl Almost {
    fn new((entry, missing): matching::Almost, facts: &Facts) -> Self {
        let has = facts.iter().filter(|fact| missing.iter().any(|missing| is_alike(fact, missing)));
        Self { has: has.cloned().collect(), entry, missing }
    }
}

/// Whether they say the same kind of thing: two uids, two paths.
fn is_alike(one: &Selector, other: &Selector) -> bool {
    let first_word = |selector: &Selector| selector.value().split(':').next().map(str::to_owned);
    one.kind() == other.kind() && first_word(one) == first_word(other)
}

/// The process to explain, held like any caller.
fn subject(asker: Asker<'_>, pid: Option<u32>) -> Result<Arc<Peer>, NoExplanation> {
    let (Asker::Workload(own) | Asker::Administrator(own)) = asker;
    let pid = match pid {
        Some(pid) if pid != own.pid() => pid,
        _ => return Ok(own.clone()),
    };
    let other = Peer::open(pid).map_err(|error| match (asker, error) {
        (_, PinError::Gone) | (Asker::Workload(_), _) => NoExplanation::NotYours(pid),
        (Asker::Administrator(_), error) => NoExplanation::Unreadable(pid, error.to_string()),
    })?;
    let may = match asker {
        Asker::Administrator(_) => true,
        Asker::Workload(own) => is_of_the_same_user(own, &other),
    };
    // That a process of somebody else exists is nobody's business either.
    if may { Ok(Arc::new(other)) } else { Err(NoExplanation::NotYours(pid)) }
}

/// A process that runs a set-uid program acts as another user than the one that started it.
fn is_of_the_same_user(own: &Peer, other: &Peer) -> bool {
    let ids = other.credentials().uid;
    [ids.real, ids.effective, ids.saved].iter().all(|id| *id == own.credentials().uid.effective)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        publication::Publication,
        testing::{at, entry},
    };

    async fn explained(asker: Asker<'_>, pid: Option<u32>) -> Result<serde_json::Value, NoExplanation> {
        let (identities, _asked) = Identities::new();
        let uid = format!("unix:uid:{}", nix::unistd::geteuid());
        let put = vec![entry("e1", "/a", &[&uid]), entry("e2", "/b", &[&uid, "unix:gid:4000000"])];
        identities.publish(Publication { put, ..Publication::default() }, at(0));
        let json = explain(&identities, &WorkloadAttestors::builtin(), asker, pid).await?;
        Ok(serde_json::from_slice(&json).unwrap())
    }

    fn own() -> Arc<Peer> {
        Arc::new(Peer::open(std::process::id()).unwrap())
    }

    #[tokio::test]
    async fn an_administrator_sees_the_entries_and_what_is_missing() {
        let seen = explained(Asker::Administrator(&own()), None).await.unwrap();
        assert_eq!(seen["pid"], std::process::id());
        assert_eq!(seen["matches"][0]["id"], "e1");
        assert_eq!(seen["almost"][0]["entry"]["id"], "e2");
        assert_eq!(seen["almost"][0]["missing"][0], "unix:gid:4000000");
        assert_eq!(seen["almost"][0]["has"][0], format!("unix:gid:{}", nix::unistd::getegid()));
        assert_eq!(
            (&seen["attestors"][0]["name"], &seen["attestors"][0]["state"]),
            (&"unix".into(), &"on".into())
        );
        assert!(seen["attestors"][0]["took_us"].as_f64() > Some(0.0));
        let facts = seen["selectors"].as_array().unwrap();
        assert!(facts.iter().any(|fact| fact["selector"].as_str().unwrap().starts_with("unix:sha256:")));
        assert!(facts.iter().all(|fact| fact["source"].is_string() && fact["strength"].is_string()));
    }

    #[tokio::test]
    async fn a_workload_sees_its_selectors_and_no_entry() {
        let seen = explained(Asker::Workload(&own()), None).await.unwrap();
        assert!(!seen["selectors"].as_array().unwrap().is_empty());
        assert!(["matches", "almost", "attestors"].iter().all(|name| seen.get(name).is_none()), "{seen}");
        assert_eq!(seen["notes"], serde_json::json!([]));
    }

    #[tokio::test]
    async fn a_process_that_may_not_be_read_is_there_for_an_administrator() {
        // A kernel thread has no executable; without one in sight, the first process is somebody else's.
        let unreadable = [2, 1].into_iter().find(|pid| {
            matches!(Peer::open(*pid), Err(PinError::NoImage { .. } | PinError::NoRights { .. }))
        });
        let Some(pid) = unreadable else { return };
        let told = explained(Asker::Administrator(&own()), Some(pid)).await.unwrap_err();
        assert!(matches!(told, NoExplanation::Unreadable(..)), "{told}");
        let hidden = explained(Asker::Workload(&own()), Some(pid)).await.unwrap_err();
        assert!(matches!(hidden, NoExplanation::NotYours(_)), "{hidden}");
    }

    #[tokio::test]
    async fn a_process_that_is_not_there_is_nobodys() {
        for asker in [Asker::Workload(&own()), Asker::Administrator(&own())] {
            let refused = explained(asker, Some(4_194_305)).await.unwrap_err();
            assert!(matches!(refused, NoExplanation::NotYours(4_194_305)));
        }
    }
}
