//! `process`: by what a process was started, and whether somebody sits before it. What SPIRE lacks.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `process:parent:FILE` | the executable of its parent, where the agent finds the same file under that path | weak |
//! | `process:ancestor:FILE` | the same of each ancestor, the parent among them | weak |
//! | `process:tty:none` | it has no controlling terminal | weak |
//! | `process:tty:pts`, `tty1`, `ttyS0`, `other` | the kind of terminal that it has | weak |
//!
//! Weak: an executable can be pretended as with `unix:path`, an ancestor may have become another program
//! since it started the process, and a process can get rid of its parent and its terminal (and then has init
//! as its parent and `tty:none`).

use std::sync::Arc;

use async_trait::async_trait;
use peer::{Peer, PinError};

use crate::{Evidence, Strength, Subject, Wanted, WorkloadAttestor, executables::Executables};

/// The attestor.
#[derive(Debug)]
pub struct Process {
    executables: Arc<Executables>,
}

impl Process {
    pub(crate) fn new(executables: Arc<Executables>) -> Self {
        Self { executables }
    }

    async fn add_ancestors(&self, peer: &Arc<Peer>, wanted: &Wanted, evidence: &mut Evidence) {
        let mut child = Arc::clone(peer);
        let generations = if wanted.asks(KIND, "ancestor") { MOST_ANCESTORS } else { 1 };
        for generation in 0..generations {
            let parent = match child.parent() {
                Ok(Some(parent)) => Arc::new(parent),
                Ok(None) => return,
                // Kernel threads have none.
                Err(PinError::NoImage { .. }) => return,
                Err(error) => {
                    return evidence.note_for_now(format!("an ancestor cannot be examined: {error}"));
                }
            };
            match self.path(&parent).await {
                Ok(path) => {
                    if generation == 0 && wanted.asks(KIND, "parent") {
                        let value = format!("parent:{path}");
                        evidence.add(KIND, &value, "executable of the parent", Strength::Weak);
                    }
                    if wanted.asks(KIND, "ancestor") {
                        let value = format!("ancestor:{path}");
                        evidence.add(KIND, &value, "executable of an ancestor", Strength::Weak);
                    }
                }
                Err(why) => evidence.note(format!("ancestor {} has no path: {why}", parent.pid())),
            }
            child = parent;
        }
    }

    async fn path(&self, ancestor: &Arc<Peer>) -> Result<Arc<str>, String> {
        let status = ancestor.status().map_err(|error| error.to_string())?;
        match status.tracer {
            0 => self.executables.path(ancestor).await,
            tracer => Err(format!("process {tracer} traces it")),
        }
    }
}

#[async_trait]
impl WorkloadAttestor for Process {
    fn name(&self) -> &'static str {
        KIND
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        let peer = subject.peer();
        if wanted.asks(KIND, "tty") {
            match peer.kin() {
                Ok(kin) => {
                    let terminal = kin.terminal.map_or("none".to_owned(), |terminal| terminal.to_string());
                    evidence.add(KIND, &format!("tty:{terminal}"), "controlling terminal", Strength::Weak);
                }
                Err(error) => evidence.note_for_now(format!("cannot read its terminal: {error}")),
            }
        }
        if wanted.asks(KIND, "parent") || wanted.asks(KIND, "ancestor") {
            self.add_ancestors(peer, wanted, &mut evidence).await;
        }
        // Two ancestors may be of one program.
        evidence.facts.sort_by(|one, other| one.selector.cmp(&other.selector));
        evidence.facts.dedup();
        evidence
    }
}

const KIND: &str = "process";

/// Real trees are rarely deeper than ten.
const MOST_ANCESTORS: usize = 16;
