//! `agent.sock`: the administrator asks what the agent sees of a process, and how the agent is.

use std::sync::Arc;

use attestors::WorkloadAttestors;
use nix::unistd::geteuid;
use workload_api::{
    NoExplanation,
    socket::{Line, Service},
};

use super::glue;
use crate::{
    authorize::Authorizer,
    explain::{Asker, explain},
    identities::Identities,
    report::Report,
};

/// The mode of the socket: its owner alone.
pub(crate) const MODE: u32 = 0o600;
/// More connections than any administrator needs.
pub(crate) const CONNECTIONS_PER_UID: usize = 256;

/// What is served to an administrator.
pub(crate) struct PrivateDoor {
    identities: Arc<Identities>,
    attestors: Arc<WorkloadAttestors>,
    report: Arc<Report>,
    authorizer: Arc<Authorizer>,
}

impl PrivateDoor {
    /// The door to these.
    pub(crate) fn new(
        identities: Arc<Identities>,
        attestors: Arc<WorkloadAttestors>,
        report: Arc<Report>,
        authorizer: Arc<Authorizer>,
    ) -> Self {
        Self { identities, attestors, report, authorizer }
    }

    /// What the decision about a call would be, as JSON; or why there is none.
    pub(super) fn decide(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        self.authorizer.decide(request).map_err(|error| error.to_string())
    }

    /// What the agent sees of a process, with the entries that match and almost match.
    pub(super) async fn explain(&self, line: &Line, pid: Option<u32>) -> Result<Vec<u8>, NoExplanation> {
        explain(&self.identities, &self.attestors, Asker::Administrator(line.peer()), pid).await
    }

    /// The agent's own state.
    pub(super) fn status(&self) -> Vec<u8> {
        self.report.to_json()
    }
}

impl Service for PrivateDoor {
    type Session = Arc<Line>;
    type Place = ();

    /// The file's mode says the same; this holds also where somebody changes that.
    fn open(&self, line: Arc<Line>) -> Option<Arc<Line>> {
        let uid = line.peer().credentials().uid.effective;
        (uid == 0 || uid == geteuid().as_raw()).then_some(line)
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
