//! `docker`: what Docker or Podman says of the container that a process is in, by SPIRE's names.
//!
//! | selector | is | strength |
//! |---|---|---|
//! | `docker:label:KEY:VALUE` | a label of the container or its image | platform |
//! | `docker:env:KEY=VALUE` | a variable that the container was made with | platform |
//! | `docker:image_id:NAME` | the image, as it was named when the container was made | platform |
//! | `docker:image_config_digest:sha256:HEX` | that image itself | platform |
//!
//! Which container it is, and which engine is asked about it, says the kernel ([`crate::cgroups`]). An
//! answer counts only if the first process that it names is in the very same cgroup. It is kept for as
//! long as that process lives, which is as long as the container runs: nothing that is read of it here
//! changes meanwhile, and the engine may be away.

mod answer;
mod ask;
mod engine;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use peer::Peer;

pub use self::engine::Config;
use self::{
    answer::Described,
    engine::{Engine, Engines, Unknown},
};
use crate::{
    BadConfig, Evidence, Subject, Wanted, WorkloadAttestor, cgroups::Container, recent::Recent, turns::Turns,
};

/// The attestor; one for the whole agent, since it remembers containers.
pub struct Docker {
    engines: Engines,
    containers: Mutex<Recent<Container, Arc<Running>>>,
    /// Processes of one container that come at once make one question.
    turns: Turns<Container>,
}

/// A container that runs, if its first process does.
struct Running {
    first: Arc<Peer>,
    described: Described,
}

impl Docker {
    /// Knows no container yet.
    pub fn new(config: &Config) -> Result<Self, BadConfig> {
        let containers = Mutex::new(Recent::new(REMEMBERED / 2));
        Ok(Self { engines: Engines::new(config)?, containers, turns: Turns::new(1) })
    }

    /// Asks about a container, unless somebody else did so just now.
    async fn ask(&self, container: &Container, engine: &Engine, env: bool) -> Result<Arc<Running>, Unknown> {
        let _turn = self.turns.wait(container.clone()).await;
        if let Some(running) = self.remembered(container, env) {
            return Ok(running);
        }
        let described = engine.describe(&container.id, env).await?;
        // The kernel says where that process is, and it lives: the container is running here.
        let first = Arc::new(Peer::open(described.first).map_err(|_| Unknown::FirstProcess)?);
        let is_in = Subject::new(first.clone()).container(&mut Evidence::default());
        if is_in.as_ref() != Some(container) || !first.alive() {
            return Err(Unknown::FirstProcess);
        }
        let running = Arc::new(Running { first, described });
        let mut containers = self.containers.lock();
        // Those that ended would only hold descriptors.
        containers.retain(|running| running.first.alive());
        containers.put(container.clone(), running.clone());
        Ok(running)
    }

    /// Adds what is known of a container, or can be asked.
    async fn tell(&self, container: &Container, engine: &Engine, wanted: &Wanted, evidence: &mut Evidence) {
        let env = wanted.asks(KIND, "env");
        let running = match self.remembered(container, env) {
            Some(running) => Some(running),
            None => match self.ask(container, engine, env).await {
                Ok(running) => Some(running),
                Err(unknown) => {
                    unknown.tell(engine, evidence);
                    // Only its environment may be what was asked for.
                    self.remembered(container, false)
                }
            },
        };
        if let Some(running) = running {
            running.described.tell(wanted, evidence);
        }
    }

    fn remembered(&self, container: &Container, env: bool) -> Option<Arc<Running>> {
        let running = self.containers.lock().get(container)?;
        (running.first.alive() && (running.described.env.is_some() || !env)).then_some(running)
    }
}

#[async_trait]
impl WorkloadAttestor for Docker {
    fn name(&self) -> &'static str {
        KIND
    }

    fn absent(&self) -> Option<String> {
        self.engines.absent()
    }

    async fn attest(&self, subject: &Subject, wanted: &Wanted) -> Evidence {
        let mut evidence = Evidence::default();
        if FACTS.iter().any(|fact| wanted.asks(KIND, fact))
            && let Some(container) = subject.container(&mut evidence)
            && let Some(engine) = self.engines.of(&container, &mut evidence)
        {
            self.tell(&container, engine, wanted, &mut evidence).await;
        }
        evidence
    }
}

const KIND: &str = "docker";
const FACTS: [&str; 4] = ["label", "env", "image_id", "image_config_digest"];

/// Containers that are remembered at most; each costs two file descriptors.
const REMEMBERED: usize = 1024;
