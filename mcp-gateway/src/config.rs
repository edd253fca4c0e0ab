//! What an operator says about a gate.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use authz::labels::{BadPattern, Patterns};
use registry::scope::{Category, Confidentiality, Label, ResourceName, Source};
use serde::Deserialize;

/// The configuration of a gate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub socket: PathBuf,
    /// The agent's socket for gates.
    pub authz: PathBuf,
    /// The MCP servers behind the gate, each under the name of its resource.
    pub upstreams: BTreeMap<ResourceName, Upstream>,
    /// What raises the label of an answer in which it is found.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// What one client and one upstream may take.
    #[serde(default)]
    pub limits: Limits,
}

/// One MCP server: a command or an address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// A program that speaks MCP on its standard input and output, and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// All of the command's environment, besides its secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables of the command whose values are in these files.
    #[serde(default)]
    pub secret_env: BTreeMap<String, PathBuf>,
    /// Where the command starts.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// The address of a server that speaks streamable HTTP.
    #[serde(default)]
    pub url: Option<String>,
    /// Headers for it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are in these files.
    #[serde(default)]
    pub secret_headers: BTreeMap<String, PathBuf>,
    /// The authorities, in PEM, that vouch for the host of an `https` address.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// A pattern and the label of what it is found in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// A regular expression.
    pub find: String,
    /// How confidential it is, from 0 to 3.
    #[serde(default)]
    pub confidentiality: Confidentiality,
    /// Categories of data.
    #[serde(default)]
    pub categories: BTreeSet<Category>,
    /// Untrusted sources.
    #[serde(default)]
    pub sources: BTreeSet<Source>,
}

/// Bounds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections that one user may have open.
    pub connections_per_uid: usize,
    /// Calls that one process may have in flight.
    pub calls_per_process: usize,
    /// A client's message, in bytes.
    pub request_bytes: usize,
    /// An upstream's message, in bytes; a longer answer is not released.
    pub answer_bytes: usize,
    /// How long an upstream may take for an answer.
    #[serde(with = "daemon::config::duration")]
    pub answer_within: Duration,
    /// How long definitions of tools are remembered before the upstream is asked for them again.
    #[serde(with = "daemon::config::duration")]
    pub definitions_for: Duration,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// Neither or both.
    #[error("the upstream {0} needs either a `command` or a `url`")]
    OneOfTwo(ResourceName),
    /// A part that the other kind has.
    #[error("the upstream {0} has {1}, which belongs to the other kind of upstream")]
    Misplaced(ResourceName, &'static str),
    /// Nothing to guard.
    #[error("no upstream is named; write a table [upstreams.NAME] for each")]
    Nothing,
    /// A pattern.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// An address.
    #[error("the url {url:?} of the upstream {name} cannot be used: {why}")]
    Url {
        /// Whose.
        name: ResourceName,
        /// As written.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A header.
    #[error("the upstream {0} cannot have a header {1:?} with that value")]
    Header(ResourceName, String),
    /// A file with a secret or authorities.
    #[error("cannot read {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl Config {
    /// Whether it makes sense, as far as that can be seen without starting anything.
    pub fn check(&self) -> Result<(), BadConfig> {
        if self.upstreams.is_empty() {
            return Err(BadConfig::Nothing);
        }
        for (name, upstream) in &self.upstreams {
            upstream.check(name)?;
        }
        self.patterns().map(drop)
    }

    /// The patterns, compiled.
    pub(crate) fn patterns(&self) -> Result<Patterns, BadConfig> {
        let label = |pattern: &Pattern| Label {
            confidentiality: pattern.confidentiality,
            categories: pattern.categories.clone(),
            sources: pattern.sources.clone(),
        };
        let all = self.patterns.iter().map(|pattern| (pattern.find.clone(), label(pattern)));
        Ok(Patterns::compile(all)?)
    }
}

impl Upstream {
    /// A command without secrets.
    pub(crate) fn of_command(command: Vec<String>, env: BTreeMap<String, String>) -> Self {
        Self {
            command,
            env,
            secret_env: BTreeMap::new(),
            directory: None,
            url: None,
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            ca_file: None,
        }
    }

    fn check(&self, name: &ResourceName) -> Result<(), BadConfig> {
        let misplaced = |what| Err(BadConfig::Misplaced(name.clone(), what));
        match (self.command.is_empty(), &self.url) {
            (true, None) | (false, Some(_)) => Err(BadConfig::OneOfTwo(name.clone())),
            (true, Some(_)) if !self.env.is_empty() => misplaced("`env`"),
            (true, Some(_)) if !self.secret_env.is_empty() => misplaced("`secret_env`"),
            (true, Some(_)) if self.directory.is_some() => misplaced("`directory`"),
            (false, None) if !self.headers.is_empty() => misplaced("`headers`"),
            (false, None) if !self.secret_headers.is_empty() => misplaced("`secret_headers`"),
            (false, None) if self.ca_file.is_some() => misplaced("`ca_file`"),
            _ => Ok(()),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_uid: 256,
            calls_per_process: 32,
            request_bytes: 128 * 1024,
            answer_bytes: 4 * 1024 * 1024,
            answer_within: Duration::from_secs(300),
            definitions_for: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(upstream: &str) -> Result<Config, String> {
        let text = format!("socket = \"/run/g\"\nauthz = \"/run/a\"\n[upstreams.files]\n{upstream}");
        let config: Config =
            daemon::config::parse(&text, Path::new("gate.toml")).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn an_upstream_is_a_command_or_an_address() {
        assert!(read("command = [\"server\", \"/srv\"]\nenv = { PATH = \"/bin\" }").is_ok());
        assert!(read("url = \"http://127.0.0.1:3001/mcp\"").is_ok());
        assert!(read("").unwrap_err().contains("files needs either"));
        assert!(read("command = [\"a\"]\nurl = \"http://b\"").is_err());
        assert!(
            read("command = [\"a\"]\nsecret_headers = { A = \"/f\" }")
                .unwrap_err()
                .contains("`secret_headers`")
        );
        assert!(read("comand = [\"a\"]").unwrap_err().contains("comand"));
    }

    #[test]
    fn a_pattern_that_cannot_be_used_is_named() {
        let error = read("command = [\"a\"]\n[[patterns]]\nfind = \"(\"\nconfidentiality = 2").unwrap_err();
        assert!(error.contains("the pattern \"(\""), "{error}");
        assert!(read("command = [\"a\"]\n[[patterns]]\nfind = \"x\"\nconfidentiality = 4").is_err());
    }
}
