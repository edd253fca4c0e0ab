//! `cgroup`: where a process is in the tree of cgroups.

use super::{Kind, Name, values};

pub(super) const KIND: Kind = Kind::processes(
    "cgroup",
    &[Name::once("path", values::path), Name::once("id", values::number), Name::many("v1", hierarchy)],
)
.also_called(&[("inode", "id")]);

fn hierarchy(value: &str) -> values::Checked {
    match value.split_once(':') {
        Some((name, path)) if !name.is_empty() && path.starts_with('/') => Ok(()),
        _ => Err("write the hierarchy and the path in it, such as memory:/batch"),
    }
}
