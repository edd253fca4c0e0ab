//! `launch`: what the agent measured of a command before it started it, for every process in its cgroup.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `launch:measurement:HEX` | one digest over all that was measured | measured |
//! | `launch:script_sha256:HEX` | the script, archive or binary itself | measured |
//! | `launch:lock_sha256:HEX` | the lock file, or what is installed where there is none | measured |

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::RwLock;
use peer::launch::Cgroup;

use crate::{Evidence, Strength, Subject, Wanted, WorkloadAttestor, cgroups::Cgroups};

/// The launches that are under way, each in a cgroup of its own.
#[derive(Debug, Default)]
pub struct Launches {
    by_path: RwLock<HashMap<String, Going>>,
}

#[derive(Debug)]
struct Going {
    cgroup: Cgroup,
    values: Arc<[String]>,
}

impl Launches {
    /// A launch began: processes of this cgroup have these `values`, such as `script_sha256:…`.
    pub fn put(&self, cgroup: Cgroup, values: Arc<[String]>) {
        self.by_path.write().insert(cgroup.path().to_owned(), Going { cgroup, values });
    }

    /// It is over.
    pub fn remove(&self, cgroup: &Cgroup) {
        self.by_path.write().remove(cgroup.path());
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_path.read().len()
    }

    /// The cgroup of the innermost launch that this one belongs to.
    pub fn around(&self, path: &str) -> Option<Cgroup> {
        let known = self.by_path.read();
        let mut path = path;
        loop {
            if let Some(Going { cgroup, .. }) = known.get(path) {
                return cgroup.is_there().then(|| cgroup.clone());
            }
            path = path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())?;
        }
    }

    /// The innermost launch that this cgroup belongs to. A cgroup below that of a launch belongs to it, since
    /// only its own processes, and root, can have made it.
    fn of(&self, path: &str) -> Option<Arc<[String]>> {
        let known = self.by_path.read();
        let mut path = path;
        loop {
            if let Some(Going { cgroup, values }) = known.get(path) {
                // A later cgroup of the same name is another one.
                return cgroup.is_there().then(|| Arc::clone(values));
            }
            path = path.rsplit_once('/').map(|(above, _)| above).filter(|above| !above.is_empty())?;
        }
    }
}

/// The attestor; it only looks into the table that the agent keeps.
#[derive(Debug)]
pub struct Launch {
    launches: Arc<Launches>,
}

impl Launch {
    /// Answers from this table.
    pub fn new(launches: Arc<Launches>) -> Self {
        Self { launches }
    }
}

#[async_trait]
impl WorkloadAttestor for Launch {
    fn name(&self) -> &'static str {
        KIND
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        if self.launches.count() == 0 || !NAMES.iter().any(|name| wanted.asks(KIND, name)) {
            return evidence;
        }
        let path = subject.cgroups(&mut evidence).and_then(Cgroups::unified);
        let Some(values) = path.and_then(|path| self.launches.of(path)) else { return evidence };
        match subject.status(&mut evidence) {
            Some(status) if status.tracer == 0 => {
                for value in values.iter() {
                    evidence.add(KIND, value, SOURCE, Strength::Measured);
                }
            }
            // A tracer can run its own code in there.
            Some(status) => evidence.note(format!("no launch while process {} traces it", status.tracer)),
            None => {}
        }
        evidence
    }
}

/// What the values of this kind begin with.
pub const NAMES: &[&str] = &["measurement", "script_sha256", "lock_sha256"];
const KIND: &str = "launch";
const SOURCE: &str = "measured by the agent before it started the command";
