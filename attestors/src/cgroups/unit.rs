//! Which unit of systemd a path belongs to: the first segment that is no slice.

use super::{Line, Unclear};

/// A unit of the system's systemd, such as `web.service` or `session-2.scope`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Unit(String);

impl Unit {
    /// `None` unless it is a name that a unit with processes can have.
    pub fn parse(name: &str) -> Option<Self> {
        is_unit(name).then(|| Self(name.to_owned()))
    }

    /// Its name, as `systemctl` takes it.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The unit by the hierarchies that systemd manages; `root` is the manager's own place in each.
pub(super) fn of<'a>(
    lines: &'a [Line],
    root: impl Fn(&Line) -> Option<&'a str>,
) -> Result<Option<Unit>, Unclear> {
    // On hybrid hosts it keeps both in step; other controllers may be shared with others.
    let managed: Vec<(&Line, Option<Unit>)> = lines
        .iter()
        .filter(|line| line.controllers.is_empty() || is_named_systemd(line))
        .map(|line| (line, root(line).and_then(|root| of_path(&line.path, root))))
        .collect();
    let Some((of_unit, unit)) = managed.iter().find_map(|(line, unit)| Some((line, unit.as_ref()?))) else {
        return Ok(None);
    };
    for (line, other) in &managed {
        match other {
            Some(other) if other == unit => {}
            // Nothing was put into this hierarchy below that place.
            None if line.leads_to(&of_unit.path) => {}
            _ => {
                return Err(Unclear::because(format!(
                    "it is in the unit {} by {}, but elsewhere in {}: {}",
                    unit.0,
                    of_unit.hierarchy(),
                    line.hierarchy(),
                    line.path
                )));
            }
        }
    }
    Ok(Some(unit.clone()))
}

/// Where a systemd that is pid 1 has its units: beside the scope that it put itself into.
pub(super) fn root_of_manager(path: &str) -> &str {
    path.strip_suffix("/init.scope").unwrap_or(path).trim_end_matches('/')
}

fn is_named_systemd(line: &Line) -> bool {
    line.controllers.split(',').any(|name| name == "name=systemd")
}

/// Slices only sort units. What is below a unit, be it a user's manager or a container, the unit answers for.
fn of_path(path: &str, root: &str) -> Option<Unit> {
    let below = path.strip_prefix(root)?.strip_prefix('/')?;
    let unit = below.split('/').map(unescape).find(|name| !is_slice(name))?;
    Unit::parse(unit)
}

/// systemd puts a `_` before names that the kernel has for files of its own (`cpu.service`), and before
/// those that begin with one.
fn unescape(segment: &str) -> &str {
    segment.strip_prefix('_').unwrap_or(segment)
}

fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some_and(|stem| !stem.contains('@') && is_stem(stem))
}

/// By systemd's rules for the name of a unit that can have processes.
fn is_unit(name: &str) -> bool {
    let Some((stem, kind)) = name.rsplit_once('.') else { return false };
    // `getty@.service` is what instances are made from, and `@1.service` an instance of nothing.
    let is_instance_or_plain = !stem.starts_with('@') && !stem.ends_with('@');
    name.len() <= LONGEST_NAME && KINDS.contains(&kind) && is_instance_or_plain && is_stem(stem)
}

fn is_stem(stem: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    !stem.is_empty() && stem.bytes().all(allowed)
}

/// Kinds of units that have processes; sockets, mounts and swaps do while a helper of theirs runs.
const KINDS: &[&str] = &["service", "scope", "socket", "mount", "swap"];
const LONGEST_NAME: usize = 255;
