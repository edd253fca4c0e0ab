//! Kinds that SPIRE's own agents give of processes, and Writ's do not.

use super::{Kind, Name, values};

pub(super) const SLURM: Kind = Kind::processes(
    "slurm",
    &[
        Name::once("job_id", values::number).elsewhere(),
        Name::once("sluid", values::any).elsewhere(),
        Name::once("step", values::any).elsewhere(),
    ],
);

pub(super) const WINDOWS: Kind = Kind::processes(
    "windows",
    &[
        Name::once("user_sid", values::any).elsewhere(),
        Name::once("user_name", values::any).elsewhere(),
        Name::many("group_sid", enabled).elsewhere(),
        Name::many("group_name", enabled).elsewhere(),
        Name::once("path", values::any).elsewhere().weak(),
        Name::once("sha256", values::sha256).elsewhere().weak(),
    ],
);

fn enabled(value: &str) -> values::Checked {
    let rest = value.strip_prefix("se_group_enabled:");
    match rest.and_then(|rest| rest.split_once(':')) {
        Some(("true" | "false", group)) if !group.is_empty() => Ok(()),
        _ => Err("write se_group_enabled:true:GROUP or se_group_enabled:false:GROUP"),
    }
}
