//! What an operator says about an agent.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use attestors::node;
use serde::{Deserialize, Serialize};
use server_api::ServerAddress;
use spiffe::{Pin, TrustDomain};
use zeroize::Zeroizing;

pub use crate::{
    launch::config::{EndsWith, Launch, Program},
    tasks::config::Config as Tasks,
};

/// The configuration of an agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server, as `host:port`.
    pub server: ServerAddress,
    /// The trust domain that the server must be of. Without it, whatever the pin vouches for; it is
    /// learned once and then kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// What the server's pin key is known by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// A SPIFFE bundle document of the server's trust domain, kept up to date by other means. Where the
    /// server shows another pin, or none is known, it decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_file: Option<PathBuf>,
    /// The same, fetched from this HTTPS address whenever it is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_url: Option<String>,
    /// The authorities, in PEM, that vouch for the host of `bundle_url`; the system's where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_url_ca_file: Option<PathBuf>,
    /// The join token; needed until the agent has its certificate.
    #[serde(default, skip_serializing)]
    pub token: Option<Secret>,
    /// A file that holds the join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// How this node attests, if not by a join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_attestor: Option<node::agent::Config>,
    /// What the server is known by if it is a SPIRE server; else it is a Writ server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spire: Option<SpireServer>,
    /// Believes the first server that answers, without a pin. Whoever answers first decides whom this
    /// node trusts.
    #[serde(default)]
    pub insecure_bootstrap: bool,
    /// The agent's key, certificate and view; its own directory, closed to others.
    pub state_dir: PathBuf,
    /// Where `agent.sock` lies, and workload keys if it is a tmpfs.
    pub private_dir: PathBuf,
    /// Where `workload.sock` lies.
    pub public_dir: PathBuf,
    /// Finds callers by their process id alone, which a later process can inherit. For Linux before 6.5.
    #[serde(default)]
    pub insecure_peer_by_pid: bool,
    /// Where `/live`, `/ready` and `/metrics` are; nowhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_listen: Option<SocketAddr>,
    /// For so many entries an SVID is made before anybody asks; for the rest of a larger view, when
    /// somebody does.
    #[serde(default = "svid_prefetch")]
    pub svid_prefetch: usize,
    /// What one caller may take.
    #[serde(default)]
    pub limits: Limits,
    /// What proves facts about processes.
    #[serde(default)]
    pub attestors: attestors::Config,
    /// Commands that are measured before they run.
    #[serde(default)]
    pub launch: Launch,
    /// Tasks.
    #[serde(default)]
    pub tasks: Tasks,
}

/// What a SPIRE server is known by. It has no pin; its trust bundle takes the pin's place.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpireServer {
    /// The trust domain that it is of.
    pub trust_domain: TrustDomain,
    /// Its trust bundle: certificates in PEM or a SPIFFE bundle document. Needed at the first start; from
    /// then on the agent keeps the newest one, until another file is here.
    pub trust_bundle: PathBuf,
    /// How often it is asked what changed.
    #[serde(default = "every_five_seconds", with = "daemon::config::duration")]
    pub sync_interval: Duration,
}

/// What one caller may take of the workload socket, so that something is left for the others.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections that one user may have open.
    pub connections_per_uid: usize,
    /// Requests and streams that one user may have open.
    pub requests_per_uid: usize,
    /// Requests and streams that one process may have open.
    pub requests_per_process: usize,
    /// Streams of one user that may wait for an identity; beyond that they are refused at once.
    pub waiting_per_uid: usize,
    /// How long a process waits that asks again after it was told that it has no identity.
    #[serde(with = "daemon::config::duration")]
    pub waiting: Duration,
}

/// A text that is never printed and is wiped when dropped.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Config {
    /// An agent of this server with its directories, and the defaults for everything else.
    pub fn new(server: ServerAddress, state_dir: PathBuf, private_dir: PathBuf, public_dir: PathBuf) -> Self {
        Self {
            server,
            trust_domain: None,
            pin: None,
            bundle_file: None,
            bundle_url: None,
            bundle_url_ca_file: None,
            token: None,
            token_file: None,
            node_attestor: None,
            spire: None,
            insecure_bootstrap: false,
            state_dir,
            private_dir,
            public_dir,
            insecure_peer_by_pid: false,
            health_listen: None,
            svid_prefetch: svid_prefetch(),
            limits: Limits::default(),
            attestors: attestors::Config::default(),
            launch: Launch::default(),
            tasks: Tasks::default(),
        }
    }

    /// Whether what is said goes together.
    pub fn check(&self) -> Result<(), Contradiction> {
        if self.launch.forbidden().is_some() {
            return Err(Contradiction(
                "launch.env or launch.pass lists a variable that makes some loader or interpreter run other code; remove it",
            ));
        }
        self.tasks.check().map_err(Contradiction)?;
        let wrong = |says| Err(Contradiction(says));
        if self.node_attestor.is_some() && (self.token.is_some() || self.token_file.is_some()) {
            return wrong("a node attests in one way: remove node_attestor, or token and token_file");
        }
        if let Some(attestor) = &self.node_attestor {
            attestor.check().map_err(Contradiction)?;
        }
        if self.bundle_file.is_some() && self.bundle_url.is_some() {
            return wrong("one bundle vouches for a server: remove bundle_file or bundle_url");
        }
        if self.bundle_url.as_ref().is_some_and(|url| !url.starts_with("https://")) {
            return wrong("bundle_url is not an address such as https://host/bundle.json");
        }
        if self.bundle_url_ca_file.is_some() && self.bundle_url.is_none() {
            return wrong("bundle_url_ca_file is for bundle_url, which is not there");
        }
        let Some(spire) = &self.spire else { return Ok(()) };
        let is_anchored = self.bundle_file.is_some() || self.bundle_url.is_some();
        if self.pin.is_some() || self.insecure_bootstrap || is_anchored {
            return wrong(
                "a SPIRE server is known by spire.trust_bundle; remove pin, bundle_file, bundle_url and insecure_bootstrap",
            );
        }
        if self.trust_domain.as_ref().is_some_and(|other| *other != spire.trust_domain) {
            return wrong("trust_domain and spire.trust_domain differ; remove the former");
        }
        if spire.sync_interval < SHORTEST_INTERVAL {
            return wrong("spire.sync_interval is shorter than 100ms; SPIRE's own agent takes 5s");
        }
        Ok(())
    }
}

/// A configuration that says two things at once.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Contradiction(&'static str);

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// As often as SPIRE's own agent asks.
fn every_five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// What SPIRE's agent keeps by default.
fn svid_prefetch() -> usize {
    1000
}

impl Secret {
    /// The text, for whoever needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = workload_api::Limits::default();
        Self {
            connections_per_uid: limits.connections_per_uid,
            requests_per_uid: limits.requests_per_uid,
            requests_per_process: limits.requests_per_process,
            waiting_per_uid: limits.waiting_per_uid,
            waiting: limits.waiting,
        }
    }
}

impl From<Limits> for workload_api::Limits {
    fn from(limits: Limits) -> Self {
        Self {
            connections_per_uid: limits.connections_per_uid,
            requests_per_uid: limits.requests_per_uid,
            requests_per_process: limits.requests_per_process,
            waiting_per_uid: limits.waiting_per_uid,
            waiting: limits.waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const LEAST: &str =
        "server = \"10.0.0.7:8081\"\nstate_dir = \"/s\"\nprivate_dir = \"/r\"\npublic_dir = \"/p\"\n";

    fn read(more: &str) -> Result<Config, String> {
        let text = format!("{LEAST}{more}");
        daemon::config::parse(&text, Path::new("agent.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let server = "10.0.0.7:8081".parse().unwrap();
        assert_eq!(read("").unwrap(), Config::new(server, "/s".into(), "/r".into(), "/p".into()));
        let limits = read("[limits]\nwaiting = \"5s\"\n").unwrap().limits;
        assert_eq!(limits, Limits { waiting: Duration::from_secs(5), ..Limits::default() });
    }

    #[test]
    fn a_spire_server_is_known_by_its_bundle_alone() {
        let table = "[spire]\ntrust_domain = \"acme.example\"\ntrust_bundle = \"/b.pem\"\n";
        let server = read(table).unwrap().spire.unwrap();
        assert_eq!(server.sync_interval, Duration::from_secs(5));
        assert!(read("[spire]\ntrust_domain = \"acme.example\"\n").unwrap_err().contains("trust_bundle"));
        for contradiction in [
            "pin = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n",
            "insecure_bootstrap = true\n",
            "trust_domain = \"other.example\"\n",
        ] {
            let config = read(&format!("{contradiction}{table}")).unwrap();
            assert!(config.check().is_err(), "{contradiction}");
        }
        assert_eq!(read(table).unwrap().check(), Ok(()));
        assert!(read(&format!("{table}sync_interval = \"0s\"\n")).unwrap().check().is_err());
        let stale =
            |limit: &str| read(&format!("[tasks]\nstale_limit_tier_0 = \"{limit}\"\n")).unwrap().check();
        assert!(stale("60s").is_ok() && stale("61s").is_err());
    }

    #[test]
    fn a_token_is_never_printed() {
        let config = read("token = \"web-1.secret\"\n").unwrap();
        assert_eq!(config.token.as_ref().map(Secret::reveal), Some("web-1.secret"));
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        assert!(!serde_json::to_string(&config).unwrap().contains("secret"));
    }

    #[test]
    fn a_mistyped_key_is_an_error() {
        assert!(read("insecure_boostrap = true\n").unwrap_err().contains("insecure_boostrap"));
        assert!(read("[limits]\nwaitng = \"5s\"\n").unwrap_err().contains("waitng"));
        assert!(read("pin = \"sha256:00\"\n").unwrap_err().contains("is not a pin"));
    }
}
