//! `launch`: what the agent measured of a command before it started it.

use super::{Kind, Name, values};

pub(super) const KIND: Kind = Kind::processes(
    "launch",
    &[
        Name::once("measurement", values::sha256),
        Name::once("script_sha256", values::sha256),
        Name::once("lock_sha256", values::sha256),
    ],
)
.also_called(&[("sha256", "measurement"), ("script", "script_sha256"), ("lock", "lock_sha256")]);
