//! Which container a path belongs to, by the names that engines give.

use std::fmt;

use super::{Line, Unclear};

/// The container that a process is in.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Container {
    /// Who runs it, as far as the name of its cgroup says.
    pub engine: Engine,
    /// Its id, which the engine knows it by.
    pub id: ContainerId,
    /// The pod of Kubernetes that it belongs to.
    pub pod_uid: Option<PodUid>,
    /// Who may have made a cgroup of this name. Ask no engine but this owner's about the id.
    pub owner: Owner,
    /// The container's own cgroup; processes of it may be further below. The first process of the container
    /// that the engine names must be in the same one.
    pub path: String,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Engine {
    /// Docker, or what calls its cgroups so.
    Docker,
    /// Podman.
    Podman,
    /// containerd, by the CRI or on its own.
    Containerd,
    /// CRI-O.
    CriO,
    /// The name of the cgroup does not say. A kubelet without systemd names containers of all engines alike.
    Unknown,
}

/// Who owns the place in the tree where the container's cgroup is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Owner {
    /// Root: only an engine of the system makes cgroups there.
    System,
    /// This user, by its own systemd (`user@N.service`): a rootless engine, or the user by hand, who can
    /// give any id. Only that user's own engine may be asked, and it says what the user likes.
    User(u32),
    /// This unit of the system, such as one that runs podman with its cgroups split: whoever the unit runs
    /// as can give any id if systemd was told to delegate. Nothing holds until the engine named a first process
    /// of the container that is in the same cgroup.
    Unit(String),
}

/// 64 digits of lower-case hexadecimal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContainerId(String);

/// A pod's uid: a UUID, or 32 digits for a pod that a kubelet started by itself.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodUid(String);

/// The one container that all lines speak of.
pub(super) fn of(lines: &[Line]) -> Result<Option<Container>, Unclear> {
    let found: Vec<Option<Container>> = lines.iter().map(of_line).collect::<Result<_, _>>()?;
    let Some(container) = found.iter().flatten().next() else { return Ok(None) };
    for (line, other) in lines.iter().zip(&found) {
        match other {
            Some(other) if other == container => {}
            Some(other) => {
                return Err(Unclear::because(format!(
                    "its cgroups speak of two containers: {} and {}",
                    container.path, other.path
                )));
            }
            // An engine may leave out a hierarchy, and then the process is where the engine is or above.
            None if line.leads_to(&container.path) || is_of_engine(line) => {}
            None => {
                return Err(Unclear::because(format!(
                    "it is in the container {}, but elsewhere in {}: {}",
                    container.path,
                    line.hierarchy(),
                    line.path
                )));
            }
        }
    }
    Ok(Some(container.clone()))
}

/// Walks down from the root for as long as every segment is one that only root or an engine makes.
fn of_line(line: &Line) -> Result<Option<Container>, Unclear> {
    let mut walk = Walk { place: Place::Root, owner: Owner::System, pod_uid: None };
    let mut length = 0;
    let mut segments = line.segments();
    while let Some(segment) = segments.next() {
        length += 1 + segment.len();
        if let Some(Name { engine, id, .. }) = walk.container(segment)? {
            let path = line.path[..length].to_owned();
            return Ok(Some(Container { engine, id, pod_uid: walk.pod_uid, owner: walk.owner, path }));
        }
        if !walk.descend(segment)? {
            // Nobody but an engine has a reason for such a name, and no engine would use it there.
            let mut rest = std::iter::once(segment).chain(segments);
            return match rest.find(|segment| Name::parse(segment).is_some()) {
                None => Ok(None),
                Some(name) => Err(Unclear::because(format!(
                    "its cgroup {} holds the name of a container ({name}) at a place where no engine makes \
                     one, so that name proves nothing",
                    line.path
                ))),
            };
        }
    }
    Ok(None)
}

/// Whether the line leads to an engine itself: older ones leave their containers there in cgroup v2.
fn is_of_engine(line: &Line) -> bool {
    line.path.strip_prefix("/system.slice/").is_some_and(|unit| ENGINES.contains(&unit))
}

/// What the segments so far say.
struct Walk {
    place: Place,
    owner: Owner,
    pod_uid: Option<PodUid>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Place {
    Root,
    /// Slices of systemd, the system's or those below a user's own systemd.
    Slices,
    /// The slice of a user, in which that user's systemd is.
    User(u32),
    /// The slice of a pod.
    Pod,
    /// A service of the system that is no engine.
    Service,
    /// The service of an engine.
    Engine,
    /// Made by an engine without systemd.
    Docker,
    Podman,
    Containerd,
    /// Made by a kubelet without systemd, above a pod and in one.
    Kubelet,
    KubeletPod,
}

impl Walk {
    /// The container that this segment is.
    fn container(&mut self, segment: &str) -> Result<Option<Name>, Unclear> {
        if matches!(self.place, Place::Root | Place::Engine)
            && let Some((slice, rest)) = segment.split_once(".slice:")
            && let Some((engine, id)) = rest.split_once(':')
            && let (Some(pod_uid), Some(id)) = (pod_of_slice(slice)?, ContainerId::parse(id))
        {
            // A kubelet with systemd, and an engine without.
            self.pod_uid = Some(pod_uid);
            return Ok(Some(Name { engine: Engine::of_prefix(engine), form: Form::Bare, id }));
        }
        let Some(name) = Name::parse(segment) else { return Ok(None) };
        // A user's own Podman is one that may be asked; no other engine of users is.
        let is_known_here = !matches!(self.owner, Owner::User(_)) || name.engine == Engine::Podman;
        let fits = is_known_here
            && match self.place {
                Place::Root | Place::Engine | Place::Kubelet => false,
                Place::Slices | Place::User(_) => name.form == Form::Scope,
                Place::Pod | Place::KubeletPod => name.form != Form::Payload,
                Place::Docker | Place::Containerd => name.form == Form::Bare,
                Place::Podman => name.engine == Engine::Podman && name.form == Form::Prefixed,
                Place::Service => name.form == Form::Payload,
            };
        let engine = match self.place {
            Place::Docker => Engine::Docker,
            Place::Containerd => Engine::Containerd,
            _ => name.engine,
        };
        Ok(fits.then_some(Name { engine, ..name }))
    }

    /// Steps into a segment that is no container; whether that is still a place where engines make some.
    fn descend(&mut self, segment: &str) -> Result<bool, Unclear> {
        let slice = segment.strip_suffix(".slice");
        self.place = match (self.place, segment) {
            (Place::Root, "docker" | "ecs") => Place::Docker,
            (Place::Root, "libpod_parent") => Place::Podman,
            (Place::Root, "k8s.io") => Place::Containerd,
            (Place::Root, "kubepods" | "kubelet") => Place::Kubelet,
            (Place::Kubelet, "kubepods" | "besteffort" | "burstable") => Place::Kubelet,
            (Place::Kubelet, _) if segment.starts_with("pod") => {
                self.pod_uid = Some(PodUid::parse(&segment["pod".len()..]).ok_or_else(|| no_pod(segment))?);
                Place::KubeletPod
            }
            // A pod of Podman is named by its bare id; a task of ECS lies between.
            (Place::Podman, _) if ContainerId::parse(segment).is_some() => Place::Podman,
            (Place::Docker, _) if PodUid::parse(segment).is_some() => Place::Docker,
            (Place::User(uid), _) if segment == format!("user@{uid}.service") => {
                self.owner = Owner::User(uid);
                Place::Slices
            }
            (Place::Slices, _) if self.owner == Owner::System && ENGINES.contains(&segment) => Place::Engine,
            (Place::Slices, _) if self.owner == Owner::System && segment.ends_with(".service") => {
                self.owner = Owner::Unit(segment.to_owned());
                Place::Service
            }
            (Place::Root | Place::Slices | Place::User(_), _) if slice.is_some() => {
                let slice = slice.unwrap_or_default();
                let user = slice.strip_prefix("user-").and_then(|uid| uid.parse().ok());
                match (pod_of_slice(slice)?, user.filter(|_| self.owner == Owner::System)) {
                    (Some(pod_uid), _) => {
                        self.pod_uid = Some(pod_uid);
                        Place::Pod
                    }
                    (None, Some(uid)) => Place::User(uid),
                    (None, None) => Place::Slices,
                }
            }
            _ => return Ok(false),
        };
        Ok(true)
    }
}

/// The pod of `kubepods-burstable-pod<uid>`, where systemd has dashes of the uid as underscores.
fn pod_of_slice(slice: &str) -> Result<Option<PodUid>, Unclear> {
    match slice.rsplit_once("-pod") {
        Some((above, uid)) if above.contains("kubepods") => {
            PodUid::parse(uid).map(Some).ok_or_else(|| no_pod(slice))
        }
        _ => Ok(None),
    }
}

fn no_pod(segment: &str) -> Unclear {
    Unclear::because(format!("its cgroup is in {segment}, which is named like a pod but has no pod's uid"))
}

/// A segment that has the form of an engine's name for a container.
struct Name {
    engine: Engine,
    form: Form,
    id: ContainerId,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    /// `<id>`.
    Bare,
    /// `crio-<id>`.
    Prefixed,
    /// `docker-<id>.scope`, a unit that the engine asked systemd for.
    Scope,
    /// `libpod-payload-<id>`, below the service that started podman.
    Payload,
}

impl Name {
    fn parse(segment: &str) -> Option<Self> {
        if let Some(id) = ContainerId::parse(segment) {
            return Some(Self { engine: Engine::Unknown, form: Form::Bare, id });
        }
        let (name, is_scope) = match segment.strip_suffix(".scope") {
            Some(name) => (name, true),
            None => (segment, false),
        };
        let (prefix, id) = name.rsplit_once('-')?;
        let id = ContainerId::parse(id)?;
        match (prefix, is_scope) {
            // What keeps watch over a container from outside.
            ("libpod-conmon" | "crio-conmon", _) => None,
            ("libpod-payload", false) => Some(Self { engine: Engine::Podman, form: Form::Payload, id }),
            (_, true) => Some(Self { engine: Engine::of_prefix(prefix), form: Form::Scope, id }),
            (_, false) => Some(Self { engine: Engine::of_prefix(prefix), form: Form::Prefixed, id }),
        }
    }
}

impl Engine {
    fn of_prefix(prefix: &str) -> Self {
        match prefix {
            "docker" => Self::Docker,
            "libpod" => Self::Podman,
            "cri-containerd" | "nerdctl" => Self::Containerd,
            "crio" => Self::CriO,
            _ => Self::Unknown,
        }
    }
}

impl ContainerId {
    /// `None` unless it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 64 && text.bytes().all(is_hex);
        is_id.then(|| Self(text.to_owned()))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PodUid {
    /// `None` unless it is one; underscores count as dashes, as in the names of systemd's slices.
    pub fn parse(text: &str) -> Option<Self> {
        let uid = text.replace('_', "-");
        let groups: Vec<&str> = uid.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        let is_uid = matches!(lengths[..], [8, 4, 4, 4, 12] | [32]);
        (is_uid && groups.iter().all(|group| group.bytes().all(is_hex))).then_some(Self(uid))
    }

    /// As Kubernetes writes it, with dashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Unknown => "an engine",
        })
    }
}

/// Services of the system that run containers, and that only root starts.
const ENGINES: &[&str] = &[
    "containerd.service",
    "crio.service",
    "docker.service",
    "k3s-agent.service",
    "k3s.service",
    "kubelet.service",
    "podman.service",
    "rke2-agent.service",
    "rke2-server.service",
];
