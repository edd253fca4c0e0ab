//! How a node comes in that proves by something else than a join token who it is. What proves it, the
//! attestors say; here it gets its certificate, or hears no more than that it gets none.

use std::{sync::Arc, time::Instant};

use attestors::node::{
    Verified,
    server::{Answered, Proof, Refused, Step, Surroundings},
};
use parking_lot::Mutex;
use registry::{
    decide::admission::{AdmitNode, Claim, NotAdmitted},
    objects::Sha256,
};
use spiffe::TrustDomain;
use tonic::Status;

use crate::{
    Server,
    attest::{Granted, issue, key_of, stopping, unavailable},
    ca::SubjectKey,
    callers::Caller,
    now,
};

/// What came of a node's first word.
pub(crate) enum Begun {
    /// It proved enough.
    Proved(Shown),
    /// It must answer a challenge.
    Asked(Showing),
}

/// A node that must answer a challenge.
pub(crate) struct Showing {
    attestor: &'static str,
    key: SubjectKey,
    challenge: Vec<u8>,
    answered: Answered,
}

/// A node that proved who it is.
pub(crate) struct Shown {
    attestor: &'static str,
    key: SubjectKey,
    proof: Verified<Proof>,
}

impl Showing {
    /// Looks at what a stranger shows, for the key of its request.
    pub(crate) async fn begin(
        server: &Arc<Server>,
        attestor: &str,
        payload: &[u8],
        csr: &[u8],
    ) -> Result<Begun, Status> {
        let attestor = server.attestors.named(attestor);
        let attestor = attestor.ok_or_else(|| Status::unimplemented("nodes do not attest here by that"))?;
        let key = key_of(csr)?;
        let registry = server.ledger.current();
        let bundle = move |of: &TrustDomain| registry.bundle(of).map(|bundle| bundle.authorities().clone());
        let surroundings = Surroundings { now: now(), bundle: &bundle };
        match server.attestors.begin(attestor, payload, &surroundings).await {
            Ok(Step::Proved(proof)) => Ok(Begun::Proved(Shown { attestor, key, proof })),
            Ok(Step::Asked { challenge, answered }) => {
                Ok(Begun::Asked(Self { attestor, key, challenge, answered }))
            }
            Err(refused) => Err(not_proved(server, attestor, &refused)),
        }
    }

    /// What it must answer.
    pub(crate) fn challenge(&self) -> &[u8] {
        &self.challenge
    }

    /// What its answer proves.
    pub(crate) fn answered(self, server: &Server, answer: &[u8]) -> Result<Shown, Status> {
        let Self { attestor, key, answered, .. } = self;
        match answered(answer) {
            Ok(proof) => Ok(Shown { attestor, key, proof }),
            Err(refused) => Err(not_proved(server, attestor, &refused)),
        }
    }
}

impl Shown {
    /// A certificate for the node, if it may come in.
    pub(crate) async fn admitted(self, server: &Arc<Server>, caller: &Caller) -> Result<Granted, Status> {
        let Self { attestor, key, proof } = self;
        let Proof { id, twin, selectors, once } = proof.into_inner();
        let once = once.map(|(sha256, until)| (Sha256(sha256), until));
        let claim = Claim { id, twin, attestor, once, key_sha256: key.sha256() };
        let refused = |refusal: NotAdmitted| {
            server.figures.not_attested.increment();
            server.turned_away.tell(attestor, &refusal);
            Status::permission_denied(refusal.to_string()) // it proved that this is its own affair
        };
        let _place = server.joining.acquire().await.map_err(|_| stopping())?;
        let id = server.ledger.current().admits(&claim).map_err(refused)?;
        let issued = issue(server, &id, &key)?; // nobody gets it before the log admits the node
        let (serial, not_after) = (issued.serial.clone(), issued.not_after);
        let admit = AdmitNode { claim: claim.of(&id), selectors, serial, not_after };
        let admitted = server.ledger.submit(admit, caller.author()).await.map_err(unavailable)?;
        let id = admitted.map_err(refused)?;
        server.figures.attested.increment();
        tracing::info!(node = %id, attestor, "a node attested");
        Ok(Granted { id, issued })
    }
}

/// A stranger hears nothing of why; the server's operator does.
fn not_proved(server: &Server, attestor: &str, refused: &Refused) -> Status {
    server.figures.not_attested.increment();
    server.turned_away.tell(attestor, refused);
    match refused {
        Refused::Unavailable(_) => Status::unavailable("the server cannot do this now; try again"),
        Refused::NoAttestor | Refused::TooLong(_) | Refused::NotProved(_) => {
            Status::permission_denied("this node does not attest here; the server's log says why")
        }
    }
}

/// Says why nodes are turned away, and not more often than an operator can read.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway(Mutex<Said>);

#[derive(Debug)]
struct Said {
    /// How often it may speak now.
    breath: u32,
    since: Instant,
    untold: u64,
}

/// So many in a row, and then one in each second.
const BREATH: u32 = 10;

impl Default for Said {
    fn default() -> Self {
        Self { breath: BREATH, since: Instant::now(), untold: 0 }
    }
}

impl TurnedAway {
    fn tell(&self, attestor: &str, why: &dyn std::fmt::Display) {
        let mut said = self.0.lock();
        let seconds = u32::try_from(said.since.elapsed().as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            said.breath = said.breath.saturating_add(seconds).min(BREATH);
            said.since = Instant::now();
        }
        let Some(breath) = said.breath.checked_sub(1) else {
            said.untold += 1;
            return;
        };
        said.breath = breath;
        let untold = std::mem::take(&mut said.untold);
        tracing::warn!(attestor, %why, untold, "a node did not attest");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_strangers_fills_no_log() {
        let away = TurnedAway::default();
        for _ in 0..100_000 {
            away.tell("x509pop", &"nothing");
        }
        let said = away.0.lock();
        assert!(said.breath == 0 && said.untold > 90_000, "{said:?}");
    }
}
