//! Messages of D-Bus, as far as they are needed: calls with strings, answers with one. Pure.

/// A call of a method that takes strings.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) to: &'a str,
    pub(super) object: &'a str,
    pub(super) interface: &'a str,
    pub(super) method: &'a str,
    pub(super) arguments: &'a [&'a str],
}

/// What came back.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// A string, an object's path, or a variant that holds one of them.
    Text(String),
    /// systemd's error of that name.
    NoSuchUnit,
    /// Any other error.
    Refused,
}

/// A message that is not as the specification has it, or needlessly long.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("it sent a message that is not D-Bus as this agent knows it")]
pub(super) struct Malformed;

/// The first bytes of a message: its kind, and how long the rest is.
#[derive(Debug)]
pub(super) struct Head {
    little: bool,
    kind: u8,
    fields: usize,
    body: usize,
}

impl Call<'_> {
    /// The whole message, in little endian.
    pub(super) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        self.arguments.iter().for_each(|argument| put_string(&mut body, argument));
        let mut message = vec![b'l', METHOD_CALL, 0, VERSION];
        put_u32(&mut message, length(&body));
        put_u32(&mut message, serial);
        put_u32(&mut message, 0); // the length of the fields, when it is known
        let fields =
            [(1, b'o', self.object), (2, b's', self.interface), (3, b's', self.method), (6, b's', self.to)];
        for (code, kind, text) in fields {
            pad(&mut message, 8);
            message.extend([code, 1, kind, 0]);
            put_string(&mut message, text);
        }
        if !self.arguments.is_empty() {
            pad(&mut message, 8);
            message.extend([8, 1, b'g', 0]);
            message.push(u8::try_from(self.arguments.len()).unwrap_or(u8::MAX));
            message.extend(self.arguments.iter().map(|_| b's'));
            message.push(0);
        }
        let fields = length(&message) - 16;
        message[12..16].copy_from_slice(&fields.to_le_bytes());
        pad(&mut message, 8);
        message.extend(body);
        message
    }
}

impl Head {
    /// How many bytes it has.
    pub(super) const BYTES: usize = 16;

    /// Reads it.
    pub(super) fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, Malformed> {
        let little = match bytes[0] {
            b'l' => true,
            b'B' => false,
            _ => return Err(Malformed),
        };
        let mut reader = Reader { bytes, at: 4, little };
        let (body, _serial, fields) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let [body, fields] = [body, fields].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if bytes[3] != VERSION || body > LONGEST || fields > LONGEST {
            return Err(Malformed);
        }
        Ok(Self { little, kind: bytes[1], fields, body })
    }

    /// How many bytes follow.
    pub(super) fn rest(&self) -> usize {
        self.fields.next_multiple_of(8) + self.body
    }

    /// Reads what follows. If it is an answer: to which call, and what it says.
    pub(super) fn answer(&self, rest: &[u8]) -> Result<Option<(u32, Answer)>, Malformed> {
        if self.kind != METHOD_RETURN && self.kind != ERROR {
            return Ok(None);
        }
        if rest.len() != self.rest() {
            return Err(Malformed);
        }
        // The head is as long as two alignments, so what follows may be counted from its own beginning.
        let mut fields = Reader { bytes: &rest[..self.fields], at: 0, little: self.little };
        let (mut to, mut error, mut signature) = (None, None, "");
        while fields.at < self.fields {
            fields.align(8)?;
            let code = fields.u8()?;
            match (code, fields.signature()?) {
                (5, "u") => to = Some(fields.u32()?),
                (4, "s") => error = Some(fields.string()?),
                (8, "g") => signature = fields.signature()?,
                // The sender, the receiver, the number of descriptors: no matter.
                (_, "u") => fields.u32().map(drop)?,
                (_, "s" | "o") => fields.string().map(drop)?,
                (_, "g") => fields.signature().map(drop)?,
                _ => return Err(Malformed),
            }
        }
        let to = to.ok_or(Malformed)?;
        if self.kind == ERROR {
            let no_such_unit = error == Some("org.freedesktop.systemd1.NoSuchUnit");
            return Ok(Some((to, if no_such_unit { Answer::NoSuchUnit } else { Answer::Refused })));
        }
        let mut body = Reader { bytes: &rest[rest.len() - self.body..], at: 0, little: self.little };
        let signature = if signature == "v" { body.signature()? } else { signature };
        if !matches!(signature, "s" | "o") {
            return Err(Malformed);
        }
        let text = body.string()?.to_owned();
        if body.at == self.body { Ok(Some((to, Answer::Text(text)))) } else { Err(Malformed) }
    }
}

/// Values are aligned to their size, counted from the beginning.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), Malformed> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Malformed) }
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        self.text(length)
    }

    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = self.u8()?.into();
        self.text(length)
    }

    /// Text is followed by a zero, and holds none.
    fn text(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = self.take(length)?;
        if self.u8()? != 0 || text.contains(&0) {
            return Err(Malformed);
        }
        std::str::from_utf8(text).map_err(|_| Malformed)
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    pad(bytes, 4);
    put_u32(bytes, length(text.as_bytes()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend(number.to_le_bytes());
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// Calls are some hundred bytes long.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const VERSION: u8 = 1;
/// Of the fields, and of the body.
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests;
