//! Server-sent events: as much of them as MCP uses. Only their data matters.

use super::wire::{Answer, too_long};

/// The events of an answer.
pub(super) struct Events {
    answer: Answer,
    parser: Parser,
}

impl Events {
    pub(super) fn of(answer: Answer) -> Self {
        let parser = Parser::new(answer.most());
        Self { answer, parser }
    }

    /// The next event that has data; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(data) = self.parser.next()? {
                return Ok(Some(data));
            }
            match self.answer.part().await? {
                Some(part) => self.parser.feed(&part)?,
                None => return Ok(None),
            }
        }
    }
}

/// Lines become events; an event ends with an empty line.
struct Parser {
    most: usize,
    /// What was not looked at yet.
    rest: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

impl Parser {
    fn new(most: usize) -> Self {
        Self { most, rest: Vec::new(), data: Vec::new(), has_data: false }
    }

    fn feed(&mut self, part: &[u8]) -> Result<(), String> {
        if self.rest.len() + part.len() > 2 * self.most {
            return Err(too_long(self.most));
        }
        self.rest.extend_from_slice(part);
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                self.has_data = false;
                // An event without data only says where a client could go on; the gate never does.
                if !self.data.is_empty() {
                    return Ok(Some(std::mem::take(&mut self.data)));
                }
                continue;
            }
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if self.data.len() + data.len() > self.most {
                return Err(too_long(self.most));
            }
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
            self.has_data = true;
        }
        Ok(None)
    }

    /// The next whole line, ended by LF or CR LF. A lone CR is not used by anybody.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.rest.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parts: &[&[u8]]) -> Result<Vec<String>, String> {
        let mut parser = Parser::new(50);
        let mut events = Vec::new();
        for part in parts {
            parser.feed(part)?;
            while let Some(data) = parser.next()? {
                events.push(String::from_utf8(data).unwrap());
            }
        }
        Ok(events)
    }

    #[test]
    fn events_are_found_however_they_arrive() {
        let stream =
            b": hello\r\n\r\nid: 0\ndata: \n\nevent: message\nid: 1\ndata: {\"a\":\ndata:1}\n\ndata: x\r\n\r\ndata: open";
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(events(&[stream]).unwrap(), ["{\"a\":\n1}", "x"]);
        assert_eq!(events(&bytes).unwrap(), ["{\"a\":\n1}", "x"]);
    }

    #[test]
    fn an_event_is_bounded_with_and_without_an_end() {
        assert!(
            events(&[b"data: 012345678901234567890123456789012345678901234567890123456789x\n\n"]).is_err()
        );
        assert!(events(&[&[b'x'; 120]]).is_err());
    }
}
