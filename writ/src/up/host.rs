//! A server and an agent that join here.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use daemon::{Layout, Shutdown, disk::remove, write_private};
use server_api::{CallError, admin::Client};
use spiffe::TrustDomain;
use tonic::Code;

use super::{
    child::{Child, Order, Role},
    keep::keep,
    serving::Ready,
};
use crate::cli::{agent::AgentServing, server::ServerServing};

/// The name of the node that `writ up` makes of this machine.
const NODE: &str = "local";
const TOKEN_SECONDS: i64 = 600;

/// What to start, and where.
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) trust_domain: TrustDomain,
    /// Port 0 finds a free one.
    pub(crate) listen: SocketAddr,
    pub(crate) insecure_peer_by_pid: bool,
    /// What the daemons log, where the environment does not say.
    pub(crate) logs: &'static str,
}

/// A server and an agent that serve. Dropping it kills both.
pub(crate) struct Host {
    ready: Ready,
    server: (Order, Child),
    agent: (Order, Child),
}

impl Host {
    /// Starts the server, lets this machine join it where it has not yet, and starts the agent.
    pub(crate) async fn start(mut plan: Plan) -> Result<Self> {
        let server = Order { role: Role::Server, config: plan.write_server_config()?, logs: plan.logs };
        let (server_child, serving): (_, ServerServing) = Child::start(&server).await?;
        // A server that is started again must be where its agents look for it.
        plan.listen = serving.server_address.parse().context("the server says where it listens")?;
        plan.write_server_config()?;
        let token = plan.join_token(&serving).await?;
        let config = plan.write_agent_config(&serving, token.as_deref())?;
        let agent = Order { role: Role::Agent, config, logs: plan.logs };
        let (agent_child, agent_serving): (_, AgentServing) = Child::start(&agent).await?;
        if let Some(token) = token {
            // The node has joined: its token is spent.
            remove(&token)?;
            plan.write_agent_config(&serving, None)?;
        }
        let ready = Ready::of(&serving, &agent_serving);
        Ok(Self { ready, server: (server, server_child), agent: (agent, agent_child) })
    }

    /// How to reach them.
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Keeps both running until the end is requested; the agent ends first, so that it sees its server
    /// to the end.
    pub(crate) async fn keep(self, shutdown: Shutdown) {
        let (server_trigger, server_shutdown) = Shutdown::manual();
        let agent = async {
            keep(self.agent.0, self.agent.1, shutdown).await;
            server_trigger.request();
        };
        tokio::join!(agent, keep(self.server.0, self.server.1, server_shutdown));
    }

    /// Ends both.
    pub(crate) async fn stop(self) {
        self.agent.1.stop().await;
        self.server.1.stop().await;
    }
}

impl Plan {
    /// A file with a token for this machine, unless it has joined already.
    async fn join_token(&self, server: &ServerServing) -> Result<Option<PathBuf>> {
        if agent::has_joined(&self.layout.agent_state()) {
            return Ok(None);
        }
        let mut admin =
            Client::connect(&server.server_admin).await.context("the server just said that it serves")?;
        let made = admin.create_token(NODE, TOKEN_SECONDS).await.map_err(|error| match error {
            CallError::Refused { code: Code::PermissionDenied, .. } => anyhow!(
                "this machine's node {NODE} is banned; to lift the ban, run the server alone with `writ server run \
                 --config {}`, beside it `writ node evict {NODE} --socket {}`, then `writ up` again",
                self.layout.state.join("server.toml").display(),
                server.server_admin.display(),
            ),
            error => anyhow!("cannot make a token for this machine: {error}"),
        })?;
        let path = self.layout.state.join("join-token");
        write_private(&path, made.token.as_bytes())?;
        Ok(Some(path))
    }

    fn write_server_config(&self) -> Result<PathBuf> {
        let keys = [
            ("trust_domain", text(self.trust_domain.as_str())),
            ("listen", text(&self.listen.to_string())),
            ("state_dir", path(&self.layout.server_state())?),
            ("private_dir", path(&self.layout.private)?),
        ];
        self.write_config(Role::Server, &keys)
    }

    fn write_agent_config(&self, server: &ServerServing, token_file: Option<&Path>) -> Result<PathBuf> {
        let mut keys = vec![
            ("trust_domain", text(self.trust_domain.as_str())),
            ("server", text(&server.server_address)),
            ("pin", text(&server.server_pin)),
            ("state_dir", path(&self.layout.agent_state())?),
            ("private_dir", path(&self.layout.private)?),
            ("public_dir", path(&self.layout.public)?),
            ("insecure_peer_by_pid", self.insecure_peer_by_pid.to_string()),
        ];
        if let Some(token_file) = token_file {
            keys.push(("token_file", path(token_file)?));
        }
        self.write_config(Role::Agent, &keys)
    }

    fn write_config(&self, role: Role, keys: &[(&str, String)]) -> Result<PathBuf> {
        let file = self.layout.state.join(format!("{}.toml", role.name()));
        let lines: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        write_private(&file, format!("# Written by `writ up` at each start.\n{lines}").as_bytes())?;
        Ok(file)
    }
}

/// A TOML string; what JSON escapes, TOML reads.
fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
}

fn path(value: &Path) -> Result<String> {
    Ok(text(
        value
            .to_str()
            .with_context(|| format!("the path {value:?} is not UTF-8; choose another directory"))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_path_survives_the_configuration() {
        let strange = "/tmp/a \"b\"\\c\n\u{1}\u{7f}ü";
        let line = format!("state_dir = {}\n", path(Path::new(strange)).unwrap());
        #[derive(serde::Deserialize)]
        struct Config {
            state_dir: String,
        }
        let config: Config = daemon::config::parse(&line, Path::new("x.toml")).unwrap();
        assert_eq!(config.state_dir, strange);
    }
}
