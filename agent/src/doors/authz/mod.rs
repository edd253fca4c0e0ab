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
        let governance = self.home.governing.now();
        let (mut guards, mut refused) = (BTreeMap::new(), BTreeMap::new());
        for name in wanted {
            let points = governance.world.resource(name).map(|resource| &resource.enforcement_points);
            let own =
                points.and_then(|points| entries.iter().find(|entry| points.contains(&entry.spiffe_id)));
            match own {
                Some(entry) => drop(guards.insert(name.clone(), Arc::new(entry.spiffe_id.clone()))),
                None => drop(refused.insert(name.clone(), not_a_point(name, &entries))),
            }
        }
        Ok(Gate { guards, refused, standing })
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
