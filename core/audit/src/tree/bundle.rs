//! Bundles: the entries of a tile of level 0, each with its length before it (C2SP tlog-tiles).

/// An entry's bytes at most.
pub const MAX_ENTRY: usize = u16::MAX as usize;

/// Bytes that are no bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a bundle of entries: it ends within the entry with the number {0} in it")]
pub struct BadBundle(pub usize);

/// Appends an entry; `false`, and nothing is appended, where it is too long.
#[must_use]
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entries of a bundle.
pub fn entries(mut bundle: &[u8]) -> Result<Vec<&[u8]>, BadBundle> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let cut = bundle
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let (entry, rest) = cut.ok_or(BadBundle(entries.len()))?;
        entries.push(entry);
        bundle = rest;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_gives_its_entries_back_and_half_an_entry_is_none() {
        let mut bundle = Vec::new();
        assert!(push(&mut bundle, b"one") && push(&mut bundle, b"") && push(&mut bundle, &[7; MAX_ENTRY]));
        assert!(!push(&mut bundle, &[7; MAX_ENTRY + 1]));
        assert_eq!(entries(&bundle).unwrap(), [b"one".as_slice(), b"", &[7; MAX_ENTRY]]);
        assert_eq!(entries(&bundle[..bundle.len() - 1]), Err(BadBundle(2)));
        assert_eq!(entries(&bundle[..6]), Err(BadBundle(1)));
    }
}
