//! `unix`: who a process runs as and what it runs.

use super::{Kind, Name, values};

pub(super) const KIND: Kind = Kind::processes(
    "unix",
    &[
        Name::once("uid", uid),
        Name::once("user", values::any),
        Name::once("gid", gid),
        Name::once("group", values::any),
        Name::many("supplementary_gid", supplementary_gid),
        Name::many("supplementary_group", values::any),
        Name::once("path", values::path).weak(),
        Name::once("sha256", values::sha256).weak(),
    ],
)
.also_called(&[
    ("username", "user"),
    ("user_name", "user"),
    ("login", "user"),
    ("euid", "uid"),
    ("user_id", "uid"),
    ("groupname", "group"),
    ("group_name", "group"),
    ("egid", "gid"),
    ("group_id", "gid"),
    ("groups", "supplementary_group"),
    ("exe", "path"),
    ("binary", "path"),
    ("sha", "sha256"),
    ("hash", "sha256"),
    ("sha256sum", "sha256"),
]);

fn uid(value: &str) -> values::Checked {
    values::id(value).ok_or("a uid is a number from 0 to 4294967294; for a name write unix:user:NAME")
}

fn gid(value: &str) -> values::Checked {
    values::id(value).ok_or("a gid is a number from 0 to 4294967294; for a name write unix:group:NAME")
}

fn supplementary_gid(value: &str) -> values::Checked {
    values::id(value)
        .ok_or("a gid is a number from 0 to 4294967294; for a name write unix:supplementary_group:NAME")
}
