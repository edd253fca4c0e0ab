//! Which values there can be, each check with what to write instead.

/// Nothing, or why no process or node has such a value.
pub(super) type Checked = Result<(), &'static str>;

pub(super) fn any(value: &str) -> Checked {
    if value.is_empty() { Err("the value is missing") } else { Ok(()) }
}

/// A uid or gid as it is written: (uid_t) -1 means "no change" to the kernel, so nobody has it.
pub(super) fn id(value: &str) -> Option<()> {
    value.parse::<u32>().ok().filter(|id| id.to_string() == value && *id != u32::MAX).map(|_| ())
}

pub(super) fn number(value: &str) -> Checked {
    let is_number = value.parse::<u64>().is_ok_and(|number| number.to_string() == value);
    if is_number { Ok(()) } else { Err("the value has to be a number") }
}

pub(super) fn path(value: &str) -> Checked {
    match value {
        _ if !value.starts_with('/') => Err("the path has to be absolute"),
        _ if value.ends_with(" (deleted)") => Err("a deleted file gives no path"),
        _ => Ok(()),
    }
}

pub(super) fn sha256(value: &str) -> Checked {
    hex(value, 64).ok_or("the hash has to be 64 digits of lower-case hexadecimal")
}

/// A SHA-1 fingerprint, as SPIRE has them.
pub(super) fn sha1(value: &str) -> Checked {
    hex(value, 40).ok_or("the fingerprint has to be 40 digits of lower-case hexadecimal")
}

/// A digest as registries write it.
pub(super) fn digest(value: &str) -> Checked {
    value
        .strip_prefix("sha256:")
        .and_then(|hash| hex(hash, 64))
        .ok_or("the digest has to be sha256: and 64 digits of lower-case hexadecimal")
}

/// Bytes of any number.
pub(super) fn bytes(value: &str) -> Checked {
    let is_hex = !value.is_empty() && value.len().is_multiple_of(2) && hex(value, value.len()).is_some();
    if is_hex { Ok(()) } else { Err("the value has to be lower-case hexadecimal, two digits a byte") }
}

/// `key:value`, as labels are; the value may be empty.
pub(super) fn pair(value: &str) -> Checked {
    match value.split_once(':') {
        Some((key, _)) if !key.is_empty() => Ok(()),
        _ => Err("write KEY:VALUE"),
    }
}

pub(super) fn uuid(value: &str) -> Checked {
    match crate::cgroups::PodUid::parse(value) {
        Some(uid) if uid.as_str() == value => Ok(()),
        _ => Err("a uid is a UUID in lower case, as Kubernetes prints it"),
    }
}

pub(super) fn verified(value: &str) -> Checked {
    if value == "verified" { Ok(()) } else { Err("only the value verified is ever given") }
}

fn hex(value: &str, digits: usize) -> Option<()> {
    let is_hex = value.len() == digits && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then_some(())
}
