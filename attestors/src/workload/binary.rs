//! `binary`: what the linker wrote into the executable. What SPIRE lacks.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `binary:build_id:HEX` | the GNU build id of the file that runs, read through the handle that it is hashed by | weak |
//!
//! A build id names a build where debuggers and crash reports speak of it. It proves nothing about the
//! file: whoever makes one can write any id into it. Put `unix:uid` or `unix:sha256` beside it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Evidence, Subject, Wanted, WorkloadAttestor, executables::Executables};

/// The attestor.
#[derive(Debug)]
pub struct Binary {
    executables: Arc<Executables>,
}

impl Binary {
    pub(crate) fn new(executables: Arc<Executables>) -> Self {
        Self { executables }
    }
}

#[async_trait]
impl WorkloadAttestor for Binary {
    fn name(&self) -> &'static str {
        KIND
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        if !wanted.asks(KIND, "build_id") {
            return evidence;
        }
        match subject.status(&mut evidence).map(|status| status.tracer) {
            Some(0) => self.executables.add_build_id(subject.peer(), &mut evidence).await,
            Some(tracer) => evidence.note(format!("no build id while process {tracer} traces it")),
            None => {}
        }
        evidence
    }

    /// A large executable on a slow disk is hashed once, and read then.
    fn deadline(&self) -> Duration {
        Duration::from_secs(40)
    }
}

const KIND: &str = "binary";
