//! `unix`: who a process runs as and what it runs, by SPIRE's names.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `unix:uid:N`, `unix:gid:N` | effective ids when it connected, held until it answers | kernel |
//! | `unix:user:NAME`, `unix:group:NAME` | this host's names for them | kernel |
//! | `unix:supplementary_gid:N`, `unix:supplementary_group:NAME` | its other groups, when it is attested | kernel |
//! | `unix:path:FILE` | its executable, where the agent finds the same file under that path | kernel where the agent saw it executed, else weak |
//! | `unix:sha256:HEX` | the hash of that very file | the same |

mod names;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use peer::{Peer, Status};

use self::names::Names;
use crate::{
    Evidence, Strength, Subject, Wanted, WorkloadAttestor,
    executables::{Asked, Executables},
};

/// The attestor; one for the whole agent, since it remembers names.
#[derive(Debug)]
pub struct Unix {
    names: Names,
    executables: Arc<Executables>,
}

impl Unix {
    /// Knows no names yet.
    pub(crate) fn new(executables: Arc<Executables>) -> Self {
        Self { names: Names::default(), executables }
    }

    async fn add_user_and_group(&self, peer: &Peer, wanted: &Wanted, evidence: &mut Evidence) {
        let (uid, gid) = (peer.credentials().uid.effective, peer.credentials().gid.effective);
        evidence.add(KIND, &format!("uid:{uid}"), "effective uid", Strength::Kernel);
        evidence.add(KIND, &format!("gid:{gid}"), "effective gid", Strength::Kernel);
        if wanted.asks(KIND, "user") {
            match self.names.user(uid).await {
                Ok(name) => evidence.add(KIND, &format!("user:{name}"), "name of the uid", Strength::Kernel),
                Err(error) => error.note(evidence),
            }
        }
        if wanted.asks(KIND, "group") {
            match self.names.group(gid).await {
                Ok(name) => evidence.add(KIND, &format!("group:{name}"), "name of the gid", Strength::Kernel),
                Err(error) => error.note(evidence),
            }
        }
    }

    async fn add_other_groups(&self, status: &Status, wanted: &Wanted, evidence: &mut Evidence) {
        if status.groups.len() > MAX_GROUPS {
            evidence.note(format!("more than {MAX_GROUPS} supplementary groups: none is counted"));
            return;
        }
        for gid in &status.groups {
            if wanted.asks(KIND, "supplementary_gid") {
                let value = format!("supplementary_gid:{gid}");
                evidence.add(KIND, &value, "supplementary group", Strength::Kernel);
            }
            if wanted.asks(KIND, "supplementary_group") {
                match self.names.group(*gid).await {
                    Ok(name) => {
                        let value = format!("supplementary_group:{name}");
                        evidence.add(KIND, &value, "name of a supplementary group", Strength::Kernel);
                    }
                    Err(error) => error.note(evidence),
                }
            }
        }
    }
}

#[async_trait]
impl WorkloadAttestor for Unix {
    fn name(&self) -> &'static str {
        KIND
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        let peer = subject.peer();
        self.add_user_and_group(peer, wanted, &mut evidence).await;
        let groups = wanted.asks(KIND, "supplementary_gid") || wanted.asks(KIND, "supplementary_group");
        let asked = Asked { path: wanted.asks(KIND, "path"), sha256: wanted.asks(KIND, "sha256") };
        let executable = asked.path || asked.sha256;
        if !(groups || executable) {
            return evidence;
        }
        // Read now and not at connect time (SO_PEERGROUPS), since a process may have dropped groups.
        let Some(status) = subject.status(&mut evidence) else { return evidence };
        if groups {
            self.add_other_groups(status, wanted, &mut evidence).await;
        }
        if executable && status.tracer == 0 {
            self.executables.add(peer, asked, &mut evidence).await;
        } else if executable {
            // A tracer can run its own code in there, so the file says nothing about what runs.
            evidence.note(format!("no path and no hash while process {} traces it", status.tracer));
        }
        evidence
    }

    /// A large executable on a slow disk is hashed once.
    fn deadline(&self) -> Duration {
        Duration::from_secs(40)
    }
}

const KIND: &str = "unix";

/// Each may cost a look-up of its name.
const MAX_GROUPS: usize = 1024;
