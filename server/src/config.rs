//! What an operator says about a server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use attestors::node;
use registry::{Settings, TaskCaps};
use serde::{Deserialize, Serialize};
use server_api::ServerAddress;
use spiffe::TrustDomain;

/// The configuration of a server. A key that is missing has SPIRE's default.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The trust domain that this server rules.
    pub trust_domain: TrustDomain,
    /// Log and keys; its own directory, closed to others.
    pub state_dir: PathBuf,
    /// Where `server.sock` lies.
    pub private_dir: PathBuf,
    /// Where agents connect. Port 0 takes a free one.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Where other machines find this server, if not at `listen`: behind a name or an address translation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<ServerAddress>,
    /// How long a certificate authority lives.
    #[serde(default = "ca_ttl", with = "daemon::config::duration")]
    pub ca_ttl: Duration,
    /// Where the authorities' keys are kept.
    #[serde(default)]
    pub ca_keys: CaKeys,
    /// How long an X509-SVID lives where its entry says nothing.
    #[serde(default = "x509_svid_ttl", with = "daemon::config::duration")]
    pub x509_svid_ttl: Duration,
    /// How long a JWT-SVID lives where its entry says nothing.
    #[serde(default = "jwt_svid_ttl", with = "daemon::config::duration")]
    pub jwt_svid_ttl: Duration,
    /// How long an agent's own certificate lives.
    #[serde(default = "agent_ttl", with = "daemon::config::duration")]
    pub agent_ttl: Duration,
    /// How long after its newest certificate's end a node may come back by its key alone.
    #[serde(default = "return_window", with = "daemon::config::duration")]
    pub return_window: Duration,
    /// Kinds of selectors that attestors from elsewhere give, such as a plugin of SPIRE's agents; entries may
    /// use them beside those that are known here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_selector_kinds: Vec<String>,
    /// Where `/live`, `/ready` and `/metrics` are; nowhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_listen: Option<SocketAddr>,
    /// How many tasks may be under way at once.
    #[serde(default)]
    pub tasks: Tasks,
    /// How nodes may attest besides join tokens.
    #[serde(default)]
    pub node_attestors: node::server::Config,
}

/// The most tasks that may be under way at once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tasks {
    /// Of one actor.
    pub of_actor: u32,
    /// On one node.
    pub on_node: u32,
    /// Of one tenant.
    pub of_tenant: u32,
}

impl Default for Tasks {
    fn default() -> Self {
        let TaskCaps { of_actor, on_node, of_tenant } = TaskCaps::default();
        Self { of_actor, on_node, of_tenant }
    }
}

/// Where the authorities' keys are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaKeys {
    /// In files under the state directory.
    #[default]
    Disk,
    /// Nowhere: after each restart a new authority takes over.
    Memory,
}

/// A configuration that makes no sense.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{key} is {value}, but it must be {must}")]
pub struct ConfigProblem {
    key: &'static str,
    value: String,
    must: &'static str,
}

/// A second is the finest that certificates know, and an SVID lives a sixth of its authority.
const SHORTEST_CA: Duration = Duration::from_secs(6);
const LONGEST_CA: Duration = Duration::from_secs(20 * 366 * 24 * 3600);

impl Config {
    /// SPIRE's defaults.
    pub fn new(trust_domain: TrustDomain, state_dir: PathBuf, private_dir: PathBuf) -> Self {
        Self {
            trust_domain,
            state_dir,
            private_dir,
            listen: listen(),
            advertise: None,
            ca_ttl: ca_ttl(),
            ca_keys: CaKeys::default(),
            x509_svid_ttl: x509_svid_ttl(),
            jwt_svid_ttl: jwt_svid_ttl(),
            agent_ttl: agent_ttl(),
            return_window: return_window(),
            other_selector_kinds: Vec::new(),
            health_listen: None,
            tasks: Tasks::default(),
            node_attestors: node::server::Config::default(),
        }
    }

    /// Whether this can be run; what comes back is what the operator should know all the same.
    pub fn check(&self) -> Result<Vec<String>, ConfigProblem> {
        let shown = |ttl| humantime::format_duration(ttl).to_string();
        if !(SHORTEST_CA..=LONGEST_CA).contains(&self.ca_ttl) {
            return Err(ConfigProblem {
                key: "ca_ttl",
                value: shown(self.ca_ttl),
                must: "from 6s to 20 years",
            });
        }
        let settings = self.settings();
        let mut warnings = Vec::new();
        for (key, ttl) in [
            ("x509_svid_ttl", self.x509_svid_ttl),
            ("jwt_svid_ttl", self.jwt_svid_ttl),
            ("agent_ttl", self.agent_ttl),
        ] {
            if ttl < Duration::from_secs(1) {
                return Err(ConfigProblem { key, value: shown(ttl), must: "at least 1s" });
            }
            let longest = settings.longest_svid_ttl();
            if ttl > longest {
                warnings.push(format!(
                    "{key} of {} is more than a sixth of ca_ttl ({}), so what it is about lives {}",
                    shown(ttl),
                    shown(self.ca_ttl),
                    shown(longest)
                ));
            }
        }
        Ok(warnings)
    }

    /// Whether nodes could attest as it says; no file is looked at.
    pub fn check_attestors(&self) -> Result<(), node::server::ConfigError> {
        self.node_attestors.check(&self.trust_domain)
    }

    /// What decisions depend on.
    pub(crate) fn settings(&self) -> Settings {
        let Tasks { of_actor, on_node, of_tenant } = self.tasks;
        Settings {
            tasks: TaskCaps { of_actor, on_node, of_tenant },
            ca_ttl: self.ca_ttl,
            x509_svid_ttl: self.x509_svid_ttl,
            jwt_svid_ttl: self.jwt_svid_ttl,
            agent_ttl: self.agent_ttl,
            return_window: self.return_window,
            ..Settings::new(self.trust_domain.clone())
        }
    }
}

fn listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8081).into()
}

fn ca_ttl() -> Duration {
    Duration::from_secs(24 * 3600)
}

fn x509_svid_ttl() -> Duration {
    Duration::from_secs(3600)
}

fn jwt_svid_ttl() -> Duration {
    Duration::from_secs(300)
}

fn return_window() -> Duration {
    Duration::from_secs(30 * 24 * 3600)
}

fn agent_ttl() -> Duration {
    Duration::from_secs(3600)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parsed(text: &str) -> Result<Config, daemon::ConfigError> {
        let least = "trust_domain = \"acme.example\"\nstate_dir = \"/s\"\nprivate_dir = \"/p\"\n";
        daemon::config::parse(&format!("{least}{text}"), Path::new("server.toml"))
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let config = parsed("").unwrap();
        assert_eq!(config, Config::new("acme.example".parse().unwrap(), "/s".into(), "/p".into()));
        assert_eq!(config.check(), Ok(vec![]));
        let settings = config.settings();
        assert_eq!(settings, Settings::new("acme.example".parse().unwrap()), "both have SPIRE's defaults");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        assert!(parsed("ca_tll = \"1h\"").unwrap_err().to_string().contains("ca_tll"));
    }

    #[test]
    fn lives_that_cannot_be_are_refused_and_those_that_are_cut_are_said() {
        let mut config = parsed("ca_ttl = \"1h\"").unwrap();
        let warnings = config.check().unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("x509_svid_ttl of 1h") && warnings[0].contains("10m"),
            "{}",
            warnings[0]
        );
        config.ca_ttl = Duration::from_secs(1);
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "ca_ttl is 1s, but it must be from 6s to 20 years"
        );
        config.ca_ttl = Duration::from_secs(3600);
        config.agent_ttl = Duration::ZERO;
        assert!(config.check().unwrap_err().to_string().starts_with("agent_ttl is 0s"));
    }
}
