//! A file of attestation tests, as its author wrote it. What is here is whole: each test is about one
//! thing and expects something that an attestor can say.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use attestors::selectors::{About, Vocabulary};
use serde::Deserialize;
use serde_json::Value;
use spiffe::{Selector, SpiffeId, TrustDomain};

/// A longer file is no test.
const LONGEST_FILE: u64 = 1024 * 1024;
const MOST_TESTS: usize = 1000;
const LONGEST_NAME: usize = 200;
/// A container's image may have to be fetched by its engine first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tests of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestFile {
    /// The trust domain in which paths stand.
    #[serde(default = "default_domain")]
    pub(crate) trust_domain: TrustDomain,
    /// Files of entries, beside this one. Without them, the entries of the server that runs.
    pub(crate) entries: Option<Vec<PathBuf>>,
    /// The node on which processes are: entries with other parents do not count.
    pub(crate) node: Option<Value>,
    pub(crate) tests: Vec<Test>,
}

/// One test.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) subject: Subject,
    pub(crate) expect: Expect,
    /// How long something that runs may take until it is as expected.
    pub(crate) within: Duration,
}

/// What a test is about.
#[derive(Debug)]
pub(crate) enum Subject {
    /// Facts from a file: nothing runs.
    Facts(Facts),
    /// A program that is started.
    Process(Program),
    /// A program that is measured and started by the agent, as `writ run` asks it to.
    Launch(Launched),
    /// A container that is started, or one that runs.
    Container(Container),
    /// A unit of systemd that is started, or one that runs.
    Unit(Unit),
    /// The process whose id a command prints.
    PidOf(Vec<String>),
}

/// What was recorded of a process.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Facts {
    /// Selectors as they are.
    pub(crate) selectors: Vec<Selector>,
    /// What `writ attest record` or `writ explain --output json` printed, in a file beside this one.
    pub(crate) recording: Option<PathBuf>,
    /// The text of /proc/PID/cgroup, as it reads outside of any container.
    pub(crate) cgroup: Option<String>,
}

/// A program to start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    pub(crate) command: Vec<String>,
    /// Whom it runs as.
    pub(crate) user: Option<String>,
}

/// A program to launch. It runs as whoever runs the tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Launched {
    pub(crate) command: Vec<String>,
}

/// A container, by its name or by what to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Container {
    #[serde(default)]
    pub(crate) engine: Engine,
    pub(crate) name: Option<String>,
    pub(crate) image: Option<String>,
    /// Options of the engine's `run`.
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// Whose command line is used.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    #[default]
    Docker,
    Podman,
}

/// A unit, by its name or by what to run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unit {
    pub(crate) name: Option<String>,
    /// Settings of the unit, for example `User=triage`.
    #[serde(default)]
    pub(crate) properties: Vec<String>,
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// What has to be so.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// It has these.
    pub(crate) selectors: Vec<Pattern>,
    /// It has these, and could not pretend them.
    pub(crate) strong: Vec<Pattern>,
    /// It has none of these.
    pub(crate) absent: Vec<Pattern>,
    /// It gets these identities and no other; none where the list is empty.
    pub(crate) ids: Option<Vec<Named>>,
}

/// A selector, or all that begin as one that ends in `*`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pattern(Selector);

/// A SPIFFE ID, or its path in whatever trust domain.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Named {
    Path(String),
    Id(SpiffeId),
}

impl TestFile {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let text = bounded(path, LONGEST_FILE)?;
        let file: Self = serde_norway::from_str(&text).with_context(place)?;
        ensure!(!file.tests.is_empty(), "{} has no tests", place());
        ensure!(file.tests.len() <= MOST_TESTS, "{} has more than {MOST_TESTS} tests; split it", place());
        Ok(file)
    }
}

/// Reads a file that is no longer than this.
pub(super) fn bounded(path: &Path, longest: u64) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let read = file.take(longest + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(text.len() as u64 <= longest, "{} is longer than {longest} bytes", path.display());
    Ok(text)
}

fn default_domain() -> TrustDomain {
    // What `writ up` calls its own.
    "writ.local".parse().expect("it is a trust domain")
}

/// A test as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a test is a map with a name, what it is about, and expect")]
struct Written {
    name: String,
    facts: Option<Facts>,
    process: Option<Program>,
    launch: Option<Launched>,
    container: Option<Container>,
    unit: Option<Unit>,
    pid_of: Option<Vec<String>>,
    within: Option<String>,
    expect: Expect,
}

impl TryFrom<Written> for Test {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, facts, process, launch, container, unit, pid_of, within, expect } = written;
        let wrong = |why: &str| Err(format!("test {name:?}: {why}"));
        if name.is_empty() || name.len() > LONGEST_NAME {
            return wrong("its name has 1 to 200 bytes");
        }
        let subjects = [
            facts.map(Subject::Facts),
            process.map(Subject::Process),
            launch.map(Subject::Launch),
            container.map(Subject::Container),
            unit.map(Subject::Unit),
            pid_of.map(Subject::PidOf),
        ];
        let mut subjects = subjects.into_iter().flatten();
        let (Some(subject), None) = (subjects.next(), subjects.next()) else {
            return wrong("it is about one of facts, process, launch, container, unit, pid_of");
        };
        if let Some(why) = subject.lacks() {
            return wrong(why);
        }
        let expects_nothing = expect.selectors.is_empty() && expect.strong.is_empty();
        if expects_nothing && expect.absent.is_empty() && expect.ids.is_none() {
            return wrong("it expects nothing; expect selectors, strong, absent or ids");
        }
        let within = match within.as_deref().map(humantime::parse_duration) {
            None => PATIENCE,
            Some(Ok(within)) => within,
            Some(Err(_)) => return wrong("within is a duration, for example 30s"),
        };
        Ok(Self { name, subject, expect, within })
    }
}

impl Subject {
    /// What is missing of it, or said twice.
    fn lacks(&self) -> Option<&'static str> {
        let no_program = "its command is empty; name a program and its arguments";
        match self {
            Self::Facts(Facts { selectors, recording: None, cgroup: None }) if selectors.is_empty() => {
                Some("facts has none; give selectors, a recording or the text of a cgroup file")
            }
            Self::Facts(_) => None,
            Self::Process(program) => program.command.is_empty().then_some(no_program),
            Self::Launch(launched) => launched.command.is_empty().then_some(no_program),
            Self::PidOf(command) => command.is_empty().then_some(no_program),
            Self::Container(container) => (container.name.is_some() == container.image.is_some())
                .then_some("a container has either the name of one that runs or an image to start"),
            Self::Unit(unit) => (unit.name.is_some() != unit.command.is_empty())
                .then_some("a unit has either the name of one that runs or a command to start"),
        }
    }
}

impl Pattern {
    /// Whether this selector is meant.
    pub(crate) fn is(&self, selector: &Selector) -> bool {
        match self.as_str().strip_suffix('*') {
            Some(start) => selector.as_str().starts_with(start),
            None => self.0 == *selector,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The attestor and the name of the fact: `unix` and `uid`.
    pub(crate) fn subject(&self) -> (&str, &str) {
        (self.0.kind(), self.0.value().split(':').next().unwrap_or_default())
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    /// What no attestor ever says would be absent for ever, so it is refused.
    fn try_from(text: String) -> Result<Self, String> {
        let selector: Selector = text.parse().map_err(|error| format!("{error}"))?;
        if !text.ends_with('*') {
            let checked = Vocabulary::default().check(&selector, About::Processes);
            checked.map_err(|mistake| mistake.to_string())?;
        }
        Ok(Self(selector))
    }
}

impl Named {
    /// Whether this ID is meant.
    pub(crate) fn is(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Path(path) => id.path() == path,
            Self::Id(named) => named == id,
        }
    }
}

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let judged = if text.starts_with('/') { default_domain().join(&text) } else { text.parse() };
        let id = judged.map_err(|error| {
            format!("{text:?} is not a SPIFFE ID: {error}; write a path such as /web, or spiffe://TD/web")
        })?;
        Ok(if text.starts_with('/') { Self::Path(text) } else { Self::Id(id) })
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Id(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tests: &str) -> Result<TestFile, String> {
        serde_norway::from_str(&format!("tests:\n{tests}")).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(tests: &str, part: &str) {
        let error = read(tests).expect_err("it is wrong");
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }

    #[test]
    fn a_test_is_about_one_thing_and_expects_something() {
        let facts = "facts: {selectors: [unix:uid:1]}";
        let file = read(&format!("- {{name: a, {facts}, expect: {{ids: []}}}}")).unwrap();
        assert_eq!(file.trust_domain.to_string(), "writ.local");
        assert_eq!(file.tests[0].within, PATIENCE);
        refused(&format!("- {{name: a, {facts}, expect: {{}}}}"), "expects nothing");
        refused("- {name: a, expect: {ids: []}}", "is about one of");
        refused(&format!("- {{name: a, {facts}, pid_of: [x], expect: {{ids: []}}}}"), "is about one of");
        refused("- {name: a, facts: {}, expect: {ids: []}}", "facts has none");
        refused("- {name: a, process: {command: []}, expect: {ids: []}}", "its command is empty");
        refused("- {name: a, container: {command: [x]}, expect: {ids: []}}", "an image to start");
        refused("- {name: a, unit: {}, expect: {ids: []}}", "a command to start");
        refused(
            "- {name: a, unit: {name: a.service, command: [x]}, expect: {ids: []}}",
            "a command to start",
        );
    }

    #[test]
    fn a_mistyped_expectation_is_refused_and_not_absent_for_ever() {
        let with =
            |expect: &str| format!("- {{name: a, facts: {{selectors: [unix:uid:1]}}, expect: {expect}}}");
        refused(&with("{absent: [unix:usr:root]}"), "did you mean unix:user:root?");
        refused(&with("{absent: [unix:uid:root]}"), "a uid is a number");
        refused(&with("{selectors: [uid]}"), "not of the form");
        refused(&with("{ids: [triage]}"), "not a SPIFFE ID");
        refused(&with("{id: /triage}"), "unknown field");
        assert!(read(&with("{absent: ['unix:sha256:*'], selectors: ['unix:*']}")).is_ok());
    }

    #[test]
    fn a_star_at_the_end_stands_for_anything() {
        let pattern = |text: &str| Pattern::try_from(text.to_owned()).unwrap();
        let selector = |text: &str| text.parse::<Selector>().unwrap();
        assert!(pattern("unix:uid:*").is(&selector("unix:uid:7")));
        assert!(!pattern("unix:uid:*").is(&selector("unix:gid:7")));
        assert!(pattern("unix:uid:7").is(&selector("unix:uid:7")));
        assert!(!pattern("unix:uid:7").is(&selector("unix:uid:77")));
    }
}
