//! The `:authority` of requests over a Unix socket, made harmless.
//!
//! There is no host to name, so gRPC libraries name the socket: those in Python and C++ percent-encode its
//! path, Java's writes it in its own way. None of that is an authority by RFC 3986, and our HTTP/2 library
//! refuses such a request. Nobody reads the name here, so each of its odd bytes becomes a `-` before it gets
//! that far; lengths stay what they are, so both sides' header tables agree. Nothing else is touched or
//! judged: what is malformed passes, for the library to refuse.

/// Follows the bytes that a client sends, as far as it takes to find authorities (RFC 9113 section 4.1,
/// RFC 7541 section 6).
#[derive(Debug)]
pub(super) struct Authorities {
    frame: Frame,
    block: Block,
}

/// Where in a connection the next byte stands.
#[derive(Clone, Copy, Debug)]
enum Frame {
    /// In the preface, or in a payload without headers: so many bytes are left.
    Skipped(usize),
    /// In a frame's header, of which so many bytes are there.
    Header([u8; FRAME_HEADER], usize),
    /// At the length of the padding; so many bytes follow it.
    PadLength { left: usize, priority: usize },
    /// In a payload with headers: so many bytes come before them, of them, and after them.
    Headers { before: usize, left: usize, after: usize },
}

/// Where in a block of headers the next byte stands.
#[derive(Clone, Copy, Debug)]
enum Block {
    /// At a field.
    Field,
    /// In a number that goes on; afterwards comes this string, or the next field.
    Number(Option<Text>),
    /// At the length of a string.
    Length(Text),
    /// In that length, which goes on.
    MoreLength { of: Text, length: usize, shift: u32, is_plain: bool },
    /// In a string.
    Inside { of: Text, left: usize, is_plain: bool },
}

/// Which string of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Text {
    /// Its name, of which so many bytes have been `:authority` so far.
    Name(u8),
    Authority,
    Value,
}

impl Authorities {
    /// Before a client has said anything.
    pub(super) fn new() -> Self {
        Self { frame: Frame::Skipped(PREFACE), block: Block::Field }
    }

    /// The next bytes.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.frame {
                Frame::Skipped(left) => {
                    let passed = left.min(bytes.len() - at);
                    at += passed;
                    self.frame = Frame::Skipped(left - passed).or_next();
                }
                _ => {
                    self.step(&mut bytes[at]);
                    at += 1;
                }
            }
        }
    }

    fn step(&mut self, byte: &mut u8) {
        let next = match self.frame {
            Frame::Skipped(left) => Frame::Skipped(left.saturating_sub(1)),
            Frame::Header(mut read, length) => {
                read[length] = *byte;
                if length + 1 < FRAME_HEADER { Frame::Header(read, length + 1) } else { Frame::begun(read) }
            }
            Frame::PadLength { left, priority } => {
                let padding = usize::from(*byte);
                Frame::Headers {
                    before: priority,
                    left: left.saturating_sub(priority + padding),
                    after: padding,
                }
            }
            Frame::Headers { before: 0, left: 0, after } => {
                Frame::Headers { before: 0, left: 0, after: after.saturating_sub(1) }
            }
            Frame::Headers { before: 0, left, after } => {
                self.block = self.block.next(byte);
                Frame::Headers { before: 0, left: left - 1, after }
            }
            Frame::Headers { before, left, after } => Frame::Headers { before: before - 1, left, after },
        };
        self.frame = next.or_next();
    }
}

impl Frame {
    /// What follows a whole frame header.
    fn begun(header: [u8; FRAME_HEADER]) -> Self {
        let [high, middle, low, kind, flags, ..] = header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
        match kind {
            HEADERS if flags & PADDED != 0 => Self::PadLength { left: length.saturating_sub(1), priority },
            HEADERS => Self::Headers { before: priority, left: length.saturating_sub(priority), after: 0 },
            CONTINUATION => Self::Headers { before: 0, left: length, after: 0 },
            _ => Self::Skipped(length),
        }
    }

    /// Itself, or what follows it where nothing of it is left.
    fn or_next(self) -> Self {
        match self {
            Self::Skipped(0) | Self::Headers { before: 0, left: 0, after: 0 } => {
                Self::Header([0; FRAME_HEADER], 0)
            }
            other => other,
        }
    }
}

impl Block {
    fn next(self, byte: &mut u8) -> Self {
        match self {
            Self::Field => Self::field(*byte),
            Self::Number(then) if *byte & 0x80 == 0 => Self::at(then),
            Self::Number(then) => Self::Number(then),
            Self::Length(of) => {
                let (is_plain, length) = (*byte & 0x80 == 0, usize::from(*byte & 0x7f));
                match length {
                    0x7f => Self::MoreLength { of, length, shift: 0, is_plain },
                    _ => Self::inside(of, length, is_plain),
                }
            }
            Self::MoreLength { of, length, shift, is_plain } => {
                let more = usize::from(*byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                let length = length.saturating_add(more);
                match *byte & 0x80 {
                    0 => Self::inside(of, length, is_plain),
                    _ => Self::MoreLength { of, length, shift: shift.saturating_add(7), is_plain },
                }
            }
            Self::Inside { of, left, is_plain } => {
                if of == Text::Authority
                    && is_plain
                    && !(byte.is_ascii_alphanumeric() || b"-.:".contains(byte))
                {
                    *byte = b'-';
                }
                let of = match of {
                    Text::Name(so_far) if NAME.get(usize::from(so_far)) == Some(byte) => {
                        Text::Name(so_far + 1)
                    }
                    Text::Name(_) => Text::Name(u8::MAX),
                    other => other,
                };
                Self::inside(of, left - 1, is_plain)
            }
        }
    }

    /// A field by its first byte.
    fn field(first: u8) -> Self {
        let (prefix, is_literal) = match first {
            0x80.. => (0x7f, false),
            0x40.. => (0x3f, true),
            0x20.. => (0x1f, false),
            _ => (0x0f, true),
        };
        let then = match first & prefix {
            _ if !is_literal => None,
            0 => Some(Text::Name(0)),
            STATIC_AUTHORITY => Some(Text::Authority),
            _ => Some(Text::Value),
        };
        if first & prefix == prefix { Self::Number(then) } else { Self::at(then) }
    }

    fn at(then: Option<Text>) -> Self {
        then.map_or(Self::Field, Self::Length)
    }

    /// In a string of which so much is left, or behind it.
    fn inside(of: Text, left: usize, is_plain: bool) -> Self {
        match (left, of) {
            (0, Text::Name(10)) => Self::Length(Text::Authority),
            (0, Text::Name(_)) => Self::Length(Text::Value),
            (0, _) => Self::Field,
            _ => Self::Inside { of, left, is_plain },
        }
    }
}

/// `PRI * HTTP/2.0…SM`
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// `:authority` in the table that every connection begins with.
const STATIC_AUTHORITY: u8 = 1;
const NAME: &[u8] = b":authority";

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(first: u8, text: &str) -> Vec<u8> {
        [&[first, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    #[test]
    fn odd_bytes_of_an_authority_become_harmless_and_nothing_else_changes() {
        let said = |authority: &str| {
            let path = literal(0x44, "/%2F");
            let named = [&[0x40, 3], &b"a%b"[..], &[3], b"c%d"].concat();
            let block = [&[0x83, 0x3f, 0x01], &path[..], &literal(0x41, authority), &named].concat();
            let padded = [&[2, 0, 0, 0, 0, 9], &block[..], b"%%"].concat();
            let (head, rest) = block.split_at(block.len() - 12);
            [
                &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
                &frame(4, 0, b"A%A%A%"),
                &frame(HEADERS, PADDED | PRIORITY, &padded),
                &frame(0, 0, b"\x41\x01%"),
                &frame(HEADERS, 0, head),
                &frame(CONTINUATION, 4, rest),
            ]
            .concat()
        };
        for step in [1, 2, 7, 1000] {
            let (mut passed, mut authorities) = (said("tmp%2Fa_b/c.sock:1"), Authorities::new());
            passed.chunks_mut(step).for_each(|bytes| authorities.pass(bytes));
            assert_eq!(passed, said("tmp-2Fa-b-c.sock:1"));
        }
    }

    #[test]
    fn any_bytes_pass() {
        let mut noise: Vec<u8> =
            (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let mut authorities = Authorities::new();
        noise.chunks_mut(100).for_each(|bytes| authorities.pass(bytes));
    }
}
