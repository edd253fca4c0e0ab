//! `authz.sock`: gates ask here what the task of a process may do.
//!
//! Whoever reaches the socket may connect; a session begins for a gate that was attested, and only about resources whose
//! owner names its SPIFFE ID.

mod glue;
mod session;

use std::{collections::BTreeMap, sync::Arc};

use attestors::WorkloadAttestors;
use peer::Peer;
use registry::{objects::Entry, scope::ResourceName};
use spiffe::SpiffeId;
use tokio::sync::watch;
use workload_api::{
    Entitled, Standing,
    socket::{Line, Service},
};

use crate::{authorize::Authorizer, clock, identities::Identities, matching::Facts, tasks::Home};

/// The mode of the socket: who may ask is attested, not who may connect.
pub(crate) const MODE: u32 = 0o777;
/// Gates of one user, and what else connects.
pub(crate) const CONNECTIONS_PER_UID: usize = 64;

/// What is served to gates.
pub(crate) struct AuthzDoor {
    identities: Arc<Identities>,
    attestors: Arc<WorkloadAttestors>,
    home: Arc<Home>,
    authorizer: Arc<Authorizer>,
}

/// A gate, as it was attested.
pub(super) struct Gate {
    /// The resources that it may ask about, with the SPIFFE ID that their owner names.
    guards: BTreeMap<ResourceName, Arc<SpiffeId>>,
    /// Those of its hello that it may not, each with a sentence for its operator.
    refused: BTreeMap<ResourceName, String>,
    /// What it wants to guard.
    wanted: Vec<ResourceName>,
    /// Its own SPIFFE IDs.
    own: Vec<SpiffeId>,
    /// Changes when it may have become another one.
    standing: watch::Receiver<Standing<Entitled>>,
}

impl AuthzDoor {
    /// The door to these.
    pub(crate) fn new(
        identities: Arc<Identities>,
        attestors: Arc<WorkloadAttestors>,
        home: Arc<Home>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { identities, attestors, home, authorizer }
    }

    /// Attests a process, and says which of these resources it guards.
    async fn attest(&self, peer: &Arc<Peer>, wanted: &[ResourceName]) -> Result<Gate, String> {
        let (asking, asked) = self.identities.wanted();
        let evidence = self.attestors.attest(peer, &asking).await.map_err(|changed| changed.to_string())?;
        let facts: Facts = evidence.selectors().cloned().collect();
        // Followed before the entries are read, so that no change falls in between.
        let standing = self.identities.follow_entitled(&facts, &asked, clock::now());
        let entries = self.identities.entries(&facts);
        if entries.is_empty() {
            return Err("this process has no identity here; register one with: writ entry create".to_owned());
        }
        let own: Vec<_> = entries.iter().map(|entry| entry.spiffe_id.clone()).collect();
        let guards = self.guarded(wanted, &own);
        let unguarded = wanted.iter().filter(|name| !guards.contains_key(*name));
        let refused = unguarded.map(|name| (name.clone(), not_a_point(name, &entries))).collect();
        Ok(Gate { guards, refused, wanted: wanted.to_vec(), own, standing })
    }

    /// Returns when the gate guards other resources than it did: it begins another session then.
    async fn guards_others(&self, gate: &Gate) {
        let mut at = self.home.governing.at();
        // Compared at once, too: something may have changed since it was attested.
        while self.guarded(&gate.wanted, &gate.own) == gate.guards {
            if at.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Which of these resources name one of these IDs among their enforcement points, with that ID.
    fn guarded(&self, wanted: &[ResourceName], own: &[SpiffeId]) -> BTreeMap<ResourceName, Arc<SpiffeId>> {
        let governance = self.home.governing.now();
        let guard = |name: &ResourceName| {
            let points = &governance.world.resource(name)?.enforcement_points;
            let id = own.iter().find(|id| points.contains(*id))?;
            Some((name.clone(), Arc::new(id.clone())))
        };
        wanted.iter().filter_map(guard).collect()
    }
}

/// A gate's operator is told what to register; the ID is its own.
fn not_a_point(name: &ResourceName, entries: &[Arc<Entry>]) -> String {
    let own = entries.first().map(|entry| entry.spiffe_id.to_string()).unwrap_or_default();
    format!("no resource {name} names {own} among its enforcement points; add it with: writ apply")
}

impl Service for AuthzDoor {
    type Session = Arc<Line>;
    type Place = ();

    fn open(&self, line: Arc<Line>) -> Option<Arc<Line>> {
        Some(line)
    }

    fn admit(&self, _: &Arc<Line>) -> Result<(), Box<http::Response<tonic::body::Body>>> {
        Ok(())
    }

    async fn answer(
        self: Arc<Self>,
        line: Arc<Arc<Line>>,
        request: http::Request<hyper::body::Incoming>,
    ) -> http::Response<tonic::body::Body> {
        glue::answer(self, Arc::clone(&line), request).await
    }
}
