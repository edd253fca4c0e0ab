//! `binary`: what a linker wrote into the executable. Whoever makes a file can write anything there.

use super::{Kind, Name, values};

pub(super) const KIND: Kind = Kind::processes("binary", &[Name::once("build_id", values::bytes).weak()])
    .also_called(&[("build-id", "build_id"), ("id", "build_id")]);
