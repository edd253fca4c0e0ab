//! `systemd`: the unit that a process belongs to.

use super::{Kind, Name, values};

pub(super) const KIND: Kind =
    Kind::processes("systemd", &[Name::once("id", unit), Name::once("fragment_path", values::path)])
        .also_called(&[("unit", "id"), ("name", "id"), ("path", "fragment_path")]);

fn unit(value: &str) -> values::Checked {
    if crate::cgroups::Unit::parse(value).is_some() {
        Ok(())
    } else {
        Err("a unit has a name and a kind, such as web.service")
    }
}
