//! `process`: by what a process was started, and whether somebody sits before it.

use super::{Kind, Name, values};

pub(super) const KIND: Kind = Kind::processes(
    "process",
    &[
        Name::once("parent", values::path).weak(),
        Name::many("ancestor", values::path).weak(),
        Name::once("tty", values::any).weak(),
    ],
)
.also_called(&[("ppid", "parent"), ("terminal", "tty")]);
