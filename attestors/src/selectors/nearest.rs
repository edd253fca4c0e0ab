//! What was probably meant by a word that nobody knows.

/// The one of `known` that differs in the fewest letters, if that is few.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let few = |known: &str| known.len() / 3;
    // Almost all of them are written in lower case.
    let word = word.to_ascii_lowercase();
    known
        .map(|known| (distance(&word, known), known))
        .filter(|(n, known)| *n <= few(known))
        .min()
        .map(|(_, k)| k)
}

/// How many letters must be put, removed or replaced to make the one from the other. Words of any length
/// can come in, so long ones are simply far.
fn distance(one: &str, other: &str) -> usize {
    if one.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
