//! `docker`: what Docker or Podman says of a container.

use super::{Kind, Name, values};

pub(super) const KIND: Kind = Kind::processes(
    "docker",
    &[
        Name::many("label", values::pair),
        Name::many("env", variable),
        Name::once("image_id", values::any),
        Name::once("image_config_digest", values::digest),
        Name::once("image-signature", values::verified).elsewhere(),
        Name::once("image-attestations", values::verified).elsewhere(),
        Name::many("image-signature-value", values::any).elsewhere(),
        Name::many("image-signature-subject", values::any).elsewhere(),
        Name::many("image-signature-issuer", values::any).elsewhere(),
        Name::many("image-signature-log-id", values::any).elsewhere(),
        Name::many("image-signature-log-index", values::number).elsewhere(),
        Name::many("image-signature-integrated-time", values::number).elsewhere(),
        Name::many("image-signature-signed-entry-timestamp", values::any).elsewhere(),
    ],
)
.also_called(&[("image", "image_id"), ("image_name", "image_id"), ("digest", "image_config_digest")]);

fn variable(value: &str) -> values::Checked {
    match value.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(()),
        _ => Err("write NAME=VALUE"),
    }
}
