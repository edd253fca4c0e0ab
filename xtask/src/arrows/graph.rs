//! What cargo says about who depends on whom.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::table::Table;
use crate::tools::{cargo, output};

/// Crates that do I/O, or that exist for it; none may be in the closure of a room of `core/`.
const IO: [&str; 8] = ["tokio", "tonic", "nix", "rustix", "rusqlite", "libsqlite3-sys", "hyper", "mio"];

/// Crates that an agent built alone must not carry.
const NOT_IN_AGENT: [&str; 4] = ["writ-server", "writ-store", "rusqlite", "libsqlite3-sys"];

/// The workspace and everything below it.
pub(crate) struct Graph {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
    normal: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Clone, Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Graph {
    pub(crate) fn ask() -> Result<Self> {
        let json = output(cargo("metadata").args(["--format-version", "1"]))?;
        let metadata: Metadata =
            serde_json::from_str(&json).context("cannot read what cargo metadata said")?;
        let normal = metadata.resolve.nodes.into_iter().map(|node| {
            let linked = |dep: &NodeDependency| dep.dep_kinds.iter().any(|kind| kind.kind.is_none());
            (node.id, node.deps.into_iter().filter(linked).map(|dep| dep.pkg).collect())
        });
        Ok(Self {
            normal: normal.collect(),
            members: metadata.workspace_members,
            packages: metadata.packages.into_iter().map(|package| (package.id.clone(), package)).collect(),
        })
    }

    /// Every arrow between rooms that the table does not allow, of whatever kind the dependency is.
    pub(crate) fn arrows_against(&self, table: &Table) -> Vec<String> {
        let mut broken = Vec::new();
        for package in self.rooms() {
            let from = room(package);
            if !table.knows(&from) {
                broken.push(format!("ARCHITECTURE.md has no row for the room `{from}` ({})", package.name));
                continue;
            }
            for dependency in package.dependencies.iter().filter(|dependency| dependency.path.is_some()) {
                let to = dependency.name.strip_prefix("writ-").unwrap_or(&dependency.name);
                if !table.allows(&from, to) {
                    let kind = dependency.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
                    broken.push(format!("the arrow {from} -> {to}{kind} is not in ARCHITECTURE.md"));
                }
            }
        }
        broken
    }

    /// `core/` has no tokio, tonic, nix, SQL or file access in its whole dependency closure.
    pub(crate) fn core_without_io(&self) -> Vec<String> {
        let core = self.rooms().filter(|package| package.manifest_path.contains("/core/"));
        core.flat_map(|package| {
            let found = self.closure(&package.id);
            let io = IO.iter().filter(move |name| found.contains(**name));
            io.map(move |name| format!("core/{} must do no I/O, but it depends on {name}", room(package)))
        })
        .collect()
    }

    /// Only `store` may speak SQL.
    pub(crate) fn sql_only_in_store(&self) -> Vec<String> {
        self.rooms()
            .filter(|package| room(package) != "store")
            .filter(|package| package.dependencies.iter().any(|dependency| dependency.name == "rusqlite"))
            .map(|package| format!("SQL belongs to store, but {} depends on rusqlite", room(package)))
            .collect()
    }

    /// Only `authz` may speak Cedar.
    pub(crate) fn cedar_only_in_authz(&self) -> Vec<String> {
        self.rooms()
            .filter(|package| room(package) != "authz")
            .filter(|package| {
                package.dependencies.iter().any(|dependency| dependency.name.starts_with("cedar"))
            })
            .map(|package| format!("Cedar belongs to core/authz, but {} depends on it", room(package)))
            .collect()
    }

    fn rooms(&self) -> impl Iterator<Item = &Package> {
        self.members.iter().filter_map(|id| self.packages.get(id))
    }

    /// The names of all crates that a package links, itself included.
    fn closure(&self, id: &str) -> BTreeSet<String> {
        let mut open = vec![id];
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.normal.get(id).into_iter().flatten().map(String::as_str));
            }
        }
        seen.into_iter().filter_map(|id| Some(self.packages.get(id)?.name.clone())).collect()
    }
}

/// An agent built alone has no server, no CA and no SQL.
pub(crate) fn agent_alone() -> Result<Vec<String>> {
    let alone = ["--package", "writ", "--no-default-features", "--features", "agent"];
    let tree = output(cargo("tree").args(alone).args(["--edges", "normal,build", "--prefix", "none"]))?;
    let crates: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let carried = NOT_IN_AGENT.iter().filter(|name| crates.contains(**name));
    Ok(carried.map(|name| format!("an agent built alone must not carry {name}, but it does")).collect())
}

/// The room that a package is: examples are one room, whatever their packages are called.
fn room(package: &Package) -> String {
    if package.manifest_path.contains("/examples/") {
        return "examples".into();
    }
    package.name.strip_prefix("writ-").unwrap_or(&package.name).into()
}
