//! What an operator says about measured launches: the table `[launch]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::environment::loads_code;

/// Measured launches.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Launch {
    /// Whether commands are launched at all.
    pub enabled: bool,
    /// Where the copies lie that run. Only root may be able to write there, and on the way to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Variables that are handed to every program, and measured.
    pub env: Vec<String>,
    /// Variables that are handed to every program, and not measured.
    pub pass: Vec<String>,
    /// Further rules for single programs.
    pub programs: Vec<Program>,
    /// When the launch is over: with its last process, or with its first one, which ends the others.
    pub ends_with: EndsWith,
    /// Files of one program.
    pub files: usize,
    /// Bytes of one program.
    pub bytes: u64,
    /// Launches of one user at a time.
    pub launches_per_uid: usize,
    /// How long measuring may take.
    #[serde(with = "daemon::config::duration")]
    pub time: Duration,
}

/// A rule for the program whose script, archive or binary lies at this path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The file, as it is called when all links are resolved.
    pub path: PathBuf,
    /// Further variables that are measured.
    #[serde(default)]
    pub env: Vec<String>,
    /// Further variables that are not.
    #[serde(default)]
    pub pass: Vec<String>,
    /// How many of its own arguments are measured; without it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<usize>,
}

/// When a launch is over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndsWith {
    /// When no process is left in it.
    Cgroup,
    /// When the command itself has ended; what it left behind is killed.
    Process,
}

/// What holds for one program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rule {
    pub(super) env: Vec<String>,
    pub(super) pass: Vec<String>,
    pub(super) arguments: Option<usize>,
}

impl Launch {
    /// What holds for the program at `path`.
    pub(super) fn rule(&self, path: &Path) -> Rule {
        let mut rule = Rule { env: self.env.clone(), pass: self.pass.clone(), arguments: None };
        for program in self.programs.iter().filter(|program| program.path == path) {
            rule.env.extend(program.env.iter().cloned());
            rule.pass.extend(program.pass.iter().cloned());
            rule.arguments = program.arguments;
        }
        rule
    }

    /// A variable that may not be handed on, if one is listed.
    pub(crate) fn forbidden(&self) -> Option<&str> {
        let of_programs = self.programs.iter().flat_map(|program| program.env.iter().chain(&program.pass));
        let mut all = self.env.iter().chain(&self.pass).chain(of_programs);
        all.find(|name| name.is_empty() || name.contains('=') || loads_code(name)).map(String::as_str)
    }
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: None,
            env: Vec::new(),
            pass: Vec::new(),
            programs: Vec::new(),
            ends_with: EndsWith::Cgroup,
            files: 50_000,
            bytes: 512 << 20,
            launches_per_uid: 32,
            time: Duration::from_secs(60),
        }
    }
}
