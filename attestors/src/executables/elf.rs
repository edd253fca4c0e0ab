//! The GNU build id of an ELF file, from its program headers (System V gABI, chapter 5).
//!
//! The file is a stranger's: every number in it is taken for a lie until it was checked, and no more than
//! [`MOST`] bytes of notes are read.

use std::io;

/// What can be read at any place: a file, or bytes of a test.
pub(crate) trait ReadAt {
    /// Fills the buffer from this place on; how many bytes there were.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// The build id, in lower-case hexadecimal; `None` if the file is no ELF file or has none.
pub(crate) fn build_id(file: &(impl ReadAt + ?Sized)) -> io::Result<Option<String>> {
    let header = read(file, 0, HEADER)?;
    let Some(layout) = Layout::of(&header) else { return Ok(None) };
    let (Some(table), Some(size), Some(count)) = layout.program_headers(&header) else { return Ok(None) };
    if size < layout.smallest_header() || count > MOST_HEADERS {
        return Ok(None);
    }
    let headers = read(file, table, size * count)?;
    let mut left = MOST;
    for header in headers.chunks_exact(size) {
        let Some((offset, length, align)) = layout.note(header) else { continue };
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(left);
        left -= length;
        if let Some(id) = in_notes(&read(file, offset, length)?, &layout, align) {
            return Ok(Some(hex::encode(id)));
        }
    }
    Ok(None)
}

/// The build id among notes: name size, description size, type, name, description, each padded.
fn in_notes<'a>(mut notes: &'a [u8], layout: &Layout, align: u64) -> Option<&'a [u8]> {
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let name_size = layout.word(notes, 0)? as usize;
        let size = layout.word(notes, 4)? as usize;
        let kind = layout.word(notes, 8)?;
        let name_end = 12_usize.checked_add(name_size)?;
        let start = name_end.checked_next_multiple_of(align)?;
        let end = start.checked_add(size)?;
        let (name, description) = (notes.get(12..name_end)?, notes.get(start..end)?);
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return (1..=LONGEST_ID).contains(&size).then_some(description);
        }
        notes = notes.get(end.checked_next_multiple_of(align)?..)?;
    }
}

/// How wide numbers are, and which end comes first.
struct Layout {
    is_64: bool,
    is_little: bool,
}

impl Layout {
    fn of(header: &[u8]) -> Option<Self> {
        let is_64 = match header.get(4)? {
            1 => false,
            2 => true,
            _ => return None,
        };
        let is_little = match header.get(5)? {
            1 => true,
            2 => false,
            _ => return None,
        };
        header.starts_with(b"\x7fELF").then_some(Self { is_64, is_little })
    }

    /// Where they are, how large one is, and how many there are.
    fn program_headers(&self, header: &[u8]) -> (Option<u64>, Option<usize>, Option<usize>) {
        let half = |at| self.half(header, at).map(usize::from);
        if self.is_64 {
            (self.long(header, 32), half(54), half(56))
        } else {
            (self.word(header, 28).map(u64::from), half(42), half(44))
        }
    }

    fn smallest_header(&self) -> usize {
        if self.is_64 { 56 } else { 32 }
    }

    /// Offset, length and alignment, if this header is of notes.
    fn note(&self, header: &[u8]) -> Option<(u64, u64, u64)> {
        if self.word(header, 0)? != PT_NOTE {
            return None;
        }
        if self.is_64 {
            Some((self.long(header, 8)?, self.long(header, 32)?, self.long(header, 48)?))
        } else {
            let word = |at| self.word(header, at).map(u64::from);
            Some((word(4)?, word(16)?, word(28)?))
        }
    }

    fn half(&self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little { u16::from_le_bytes(*bytes) } else { u16::from_be_bytes(*bytes) })
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
    }

    fn long(&self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(if self.is_little { u64::from_le_bytes(*bytes) } else { u64::from_be_bytes(*bytes) })
    }
}

/// Up to so many bytes from there; fewer where the file ends.
fn read(file: &(impl ReadAt + ?Sized), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let Some(at) = offset.checked_add(filled as u64) else { break };
        match file.read_at(&mut bytes[filled..], at) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An offset beyond what a file can have.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const HEADER: usize = 64;
/// Programs have a dozen.
const MOST_HEADERS: usize = 128;
/// Bytes of notes that are read in all.
const MOST: usize = 64 * 1024;
/// A SHA-1 has 20 bytes; `--build-id=0x…` takes any number.
const LONGEST_ID: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An ELF file with one header, of these notes.
    fn elf(is_64: bool, is_little: bool, notes: &[u8]) -> Vec<u8> {
        let mut file = b"\x7fELF".to_vec();
        file.extend([if is_64 { 2 } else { 1 }, if is_little { 1 } else { 2 }]);
        file.resize(64, 0);
        let end = |number: u64, width: usize| {
            if is_little {
                number.to_le_bytes()[..width].to_vec()
            } else {
                number.to_be_bytes()[8 - width..].to_vec()
            }
        };
        let put = |file: &mut Vec<u8>, at: usize, number: u64, width: usize| {
            file[at..at + width].copy_from_slice(&end(number, width));
        };
        let (table, length) = (64, notes.len() as u64);
        let size = if is_64 { 56 } else { 32 };
        file.resize(64 + size, 0);
        let notes_at = file.len() as u64;
        let fields: &[(usize, u64, usize)] = if is_64 {
            &[
                (32, table, 8),
                (54, 56, 2),
                (56, 1, 2),
                (64, 4, 4),
                (72, notes_at, 8),
                (96, length, 8),
                (112, 4, 8),
            ]
        } else {
            &[
                (28, table, 4),
                (42, 32, 2),
                (44, 1, 2),
                (64, 4, 4),
                (68, notes_at, 4),
                (80, length, 4),
                (92, 4, 4),
            ]
        };
        for (at, number, width) in fields {
            put(&mut file, *at, *number, *width);
        }
        file.extend(notes);
        file
    }

    fn note(is_little: bool, name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
        let word = |n: u32| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut note = Vec::new();
        for number in [name.len() as u32, description.len() as u32, kind] {
            note.extend(word(number));
        }
        for part in [name, description] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    fn id(file: &[u8]) -> Option<String> {
        build_id(file).expect("bytes can be read")
    }

    #[test]
    fn the_build_id_of_a_real_program_is_what_readelf_shows() {
        let program = std::env::current_exe().expect("it runs");
        let shown = std::process::Command::new("readelf").arg("-n").arg(&program).output();
        let shown = String::from_utf8(shown.expect("binutils are installed").stdout).expect("text");
        let known = shown.lines().find_map(|line| line.trim().strip_prefix("Build ID: "));
        let file = std::fs::File::open(&program).expect("readable");
        assert_eq!(build_id(&file).expect("readable").as_deref(), known);
        assert!(known.is_some(), "linkers write one");
    }

    #[test]
    fn both_widths_and_both_ends_are_read_and_other_notes_passed_over() {
        for (is_64, is_little) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut notes = note(is_little, b"GNU\0", 1, b"an ABI tag");
            notes.extend(note(is_little, b"stapsdt\0", 3, b"not by GNU"));
            notes.extend(note(is_little, b"GNU\0", 3, &[0xab; 20]));
            assert_eq!(id(&elf(is_64, is_little, &notes)), Some("ab".repeat(20)));
        }
    }

    #[test]
    fn a_file_that_lies_about_itself_has_no_build_id() {
        let good = note(true, b"GNU\0", 3, &[1; 20]);
        assert_eq!(id(b""), None);
        assert_eq!(id(b"#!/bin/sh\n"), None);
        assert_eq!(id(&elf(true, true, b"")), None);
        assert_eq!(id(&elf(true, true, &note(true, b"GNU\0", 3, b""))), None);
        assert_eq!(id(&elf(true, true, &note(true, b"GNU\0", 3, &[1; 65]))), None);
        let mut endless = good.clone();
        endless[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(id(&elf(true, true, &endless)), None);
        let whole = elf(true, true, &good);
        for end in 0..whole.len() {
            assert_eq!(id(&whole[..end]), None, "cut after {end} bytes");
        }
        let mut far = whole.clone();
        far[72..80].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(id(&far), None);
        let mut many = whole;
        many[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(id(&many), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_read_without_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            at in 0_usize..200,
            is_64: bool,
        ) {
            let _ = id(&bytes);
            let mut file = elf(is_64, true, &note(true, b"GNU\0", 3, &[7; 20]));
            for (n, byte) in bytes.iter().enumerate().take(12) {
                if let Some(place) = file.get_mut(at + n) {
                    *place = *byte;
                }
            }
            let found = id(&file);
            prop_assert!(found.is_none_or(|id| id.len() <= 2 * LONGEST_ID));
        }
    }
}
