//! The gate: its upstreams, the agent that decides, and what is looked for in answers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use authz::labels::Patterns;
use parking_lot::Mutex;
use peer::Process;
use registry::scope::{Label, ResourceName};
use serde_json::Value;

use crate::{
    agent::Agent,
    config::{BadConfig, Config, Limits},
    upstream::Upstream,
};

/// Everything that answers need.
pub(crate) struct Gate {
    pub(crate) agent: Agent,
    pub(crate) limits: Limits,
    upstreams: BTreeMap<ResourceName, Arc<Upstream>>,
    patterns: Patterns,
    in_flight: Mutex<HashMap<Process, usize>>,
}

/// One call in flight of a process.
pub(crate) struct Place<'a>(&'a Gate, Process);

impl Gate {
    /// The gate that a configuration describes.
    pub(crate) fn open(config: &Config, agent: Agent) -> Result<Self, BadConfig> {
        config.check()?;
        let upstreams = config.upstreams.iter().map(|(name, upstream)| {
            Ok((name.clone(), Arc::new(Upstream::open(name, upstream, &config.limits)?)))
        });
        Ok(Self {
            agent,
            limits: config.limits,
            upstreams: upstreams.collect::<Result<_, BadConfig>>()?,
            patterns: config.patterns()?,
            in_flight: Mutex::default(),
        })
    }

    /// The upstream of this name; the only one where none is named.
    pub(crate) fn upstream(&self, name: Option<&str>) -> Option<&Arc<Upstream>> {
        match name {
            Some(name) => self.upstreams.get(&name.parse().ok()?),
            None if self.upstreams.len() == 1 => self.upstreams.values().next(),
            None => None,
        }
    }

    /// A place for one more call of a process; `None` where it has too many in flight.
    pub(crate) fn admit(&self, process: Process) -> Option<Place<'_>> {
        let mut in_flight = self.in_flight.lock();
        let calls = in_flight.entry(process).or_default();
        if *calls >= self.limits.calls_per_process {
            return None;
        }
        *calls += 1;
        Some(Place(self, process))
    }

    /// The label of what the patterns find in an answer: in its bytes, and in each text of it as it is read.
    pub(crate) fn found_in(&self, answer: &Value) -> Label {
        let mut found = self.patterns.found_in(answer.to_string().as_bytes());
        let mut open = vec![answer];
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => found = found.join(&self.patterns.found_in(text.as_bytes())),
                Value::Array(items) => open.extend(items),
                Value::Object(members) => open.extend(members.values()),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        found
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut in_flight = self.0.in_flight.lock();
        if let Some(calls) = in_flight.get_mut(&self.1) {
            *calls -= 1;
            if *calls == 0 {
                in_flight.remove(&self.1);
            }
        }
    }
}
