//! `systemd`: the unit of the system that a process belongs to, by SPIRE's names.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `systemd:id:NAME` | the unit, by the process's cgroup; no bus is needed | kernel |
//! | `systemd:fragment_path:FILE` | the file that the unit was read from, as systemd says | platform |
//!
//! systemd is asked by the unit's name and not by pid, and its answer counts only if the cgroup that it
//! gave the unit is where the process is. Units of users' own managers are no units of the system: they
//! all are `user@UID.service`.

mod bus;
mod message;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::bus::{Bus, Trouble};
use crate::{
    Evidence, Strength, Subject, Wanted, WorkloadAttestor,
    cgroups::{Cgroups, Unit},
    recent::Recent,
    turns::Turns,
};

/// How systemd is asked: the table `[attestors.systemd]`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The socket of the system bus.
    pub bus: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { bus: "/run/dbus/system_bus_socket".into() }
    }
}

/// The attestor; one for the whole agent, since it remembers units for some seconds.
pub struct Systemd {
    bus: PathBuf,
    units: Mutex<Recent<Unit, Known>>,
    turns: Turns<Unit>,
}

/// What systemd said of a unit.
#[derive(Clone)]
struct Known {
    at: Instant,
    said: Arc<Said>,
}

struct Said {
    control_group: String,
    fragment_path: String,
}

impl Systemd {
    /// Knows no unit yet.
    pub fn new(config: &Config) -> Self {
        let units = Mutex::new(Recent::new(REMEMBERED / 2));
        Self { bus: config.bus.clone(), units, turns: Turns::new(1) }
    }

    /// What systemd says of a unit, or said a moment ago.
    async fn said(&self, unit: &Unit) -> Result<Arc<Said>, Trouble> {
        if let Some(said) = self.remembered(unit) {
            return Ok(said);
        }
        let _turn = self.turns.wait(unit.clone()).await;
        if let Some(said) = self.remembered(unit) {
            return Ok(said);
        }
        // Before the question: what changes while it is answered is not believed for longer.
        let at = Instant::now();
        let said = Arc::new(Said::ask(&self.bus, unit).await?);
        self.units.lock().put(unit.clone(), Known { at, said: said.clone() });
        Ok(said)
    }

    fn remembered(&self, unit: &Unit) -> Option<Arc<Said>> {
        let known = self.units.lock().get(unit)?;
        (known.at.elapsed() < BELIEVED).then_some(known.said)
    }

    async fn add_fragment_path(&self, unit: &Unit, cgroups: &Cgroups, evidence: &mut Evidence) {
        match self.said(unit).await {
            Ok(said) if !is_in(cgroups, &said.control_group) => {
                evidence.note(format!("its cgroup is not the one that systemd gave {}", unit.name()));
            }
            // A scope, such as a login session, is made without a file.
            Ok(said) if said.fragment_path.is_empty() => {}
            Ok(said) => {
                let value = format!("fragment_path:{}", said.fragment_path);
                evidence.add(KIND, &value, "file of the systemd unit", Strength::Platform);
            }
            Err(Trouble::NoSuchUnit) => evidence.note(format!("systemd has no unit {}", unit.name())),
            Err(trouble) => {
                let bus = self.bus.display();
                evidence.fail(format!("systemd was not reached by the system bus at {bus}: {trouble}"));
            }
        }
    }
}

impl Said {
    async fn ask(bus: &std::path::Path, unit: &Unit) -> Result<Self, Trouble> {
        let kind = unit.name().rsplit('.').next().unwrap_or_default();
        let interface = format!("org.freedesktop.systemd1.{}{}", kind[..1].to_ascii_uppercase(), &kind[1..]);
        let asking = async {
            let mut bus = Bus::connect(bus).await?;
            let object = bus.unit(unit.name()).await?;
            Ok(Self {
                control_group: bus.property(&object, &interface, "ControlGroup").await?,
                fragment_path: bus.property(&object, "org.freedesktop.systemd1.Unit", "FragmentPath").await?,
            })
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Err(Trouble::Late))
    }
}

#[async_trait]
impl WorkloadAttestor for Systemd {
    fn name(&self) -> &'static str {
        KIND
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        if !(wanted.asks(KIND, "id") || wanted.asks(KIND, "fragment_path")) {
            return evidence;
        }
        let Some(unit) = subject.unit(None, &mut evidence) else { return evidence };
        evidence.add(KIND, &format!("id:{}", unit.name()), "systemd unit, by its cgroup", Strength::Kernel);
        if wanted.asks(KIND, "fragment_path")
            && let Some(cgroups) = subject.cgroups(&mut evidence)
        {
            self.add_fragment_path(&unit, cgroups, &mut evidence).await;
        }
        evidence
    }
}

/// Whether the process is in this cgroup or below, where systemd keeps its own.
fn is_in(cgroups: &Cgroups, control_group: &str) -> bool {
    let path = cgroups.controller("name=systemd").or_else(|| cgroups.unified());
    let below = path.and_then(|path| path.strip_prefix(control_group));
    control_group.len() > 1 && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

const KIND: &str = "systemd";

/// systemd answers in a millisecond; while it reloads, in far less than this.
const PATIENCE: Duration = Duration::from_secs(2);
/// The file of a running unit can change with `systemctl daemon-reload`.
const BELIEVED: Duration = Duration::from_secs(10);
/// Units that are remembered at most.
const REMEMBERED: usize = 1024;
