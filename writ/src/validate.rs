//! `writ validate --stdin-jsonl`: pure checks for conformance suites, one JSON object a line in, one out.
//!
//! It runs the very code that the daemons run. A line that cannot be answered is answered as well:
//! suites count lines, so nothing but the end of the input ends the loop.

mod identity;
mod input;
mod path;
mod policy;
mod process;
mod signature;

use std::{
    io::{BufRead, Read, Write},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use spiffe::Timestamp;

/// Answers every line of `input`; each answer is flushed before the next line is read.
/// `clock` is asked only where a case leaves its time open.
pub(crate) fn run(
    mut input: impl BufRead,
    mut output: impl Write,
    clock: impl Fn() -> Timestamp,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    while let Some(length) = next_line(&mut input, &mut line)? {
        let answer = match length {
            Length::Within => answer(&line, &clock),
            Length::Beyond => reject(None, format!("a line is longer than {MAX_LINE_BYTES} bytes")),
        };
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

/// The longest line that is read as a question.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Question<'a> {
    /// Kept as written, so that it comes back unchanged whatever it is.
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    op: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: Option<&'a RawValue>,
    verdict: &'static str,
    value: Option<Value>,
    error: String,
    us: u64,
}

/// What an operation finds: a value (null where the verdict says all), or the reason of a refusal.
type Outcome = Result<Value, String>;

fn answer<'a>(line: &'a [u8], clock: &impl Fn() -> Timestamp) -> Answer<'a> {
    let question: Question<'a> = match serde_json::from_slice(line) {
        Ok(question) => question,
        Err(error) => return reject(id_of(line), format!("the line is not a question: {error}")),
    };
    let input = question.input.map_or("null", RawValue::get);
    // Reading a struct also takes an array for one; a question is an object, and so is its input.
    if !is_object(line) || (question.input.is_some() && !is_object(input.as_bytes())) {
        return reject(id_of(line), "the line and its input must be JSON objects".to_owned());
    }
    let started = Instant::now();
    let outcome = match question.op.as_str() {
        "spiffe_id" => identity::spiffe_id(input),
        "trust_domain" => identity::trust_domain(input),
        "x509svid_verify" => identity::x509svid_verify(input),
        "bundle_parse" => identity::bundle_parse(input),
        "jwtsvid_validate" => signature::jwtsvid_validate(input),
        "jws_verify" => signature::jws_verify(input),
        "jwk_parse" => signature::jwk_parse(input),
        "sig_verify" => signature::sig_verify(input),
        "container_info" => process::container_info(input),
        "cedar_authorize" => policy::cedar_authorize(input),
        "x509_path" => path::x509_path(input, clock),
        unknown => {
            let error = format!("the operation {unknown:?} is not known to this version");
            return Answer { verdict: "unsupported", ..reject(question.id, error) };
        }
    };
    let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    match outcome {
        Ok(Value::Null) => Answer { id: question.id, verdict: "ok", value: None, error: String::new(), us },
        Ok(value) => Answer { id: question.id, verdict: "ok", value: Some(value), error: String::new(), us },
        Err(error) => Answer { us, ..reject(question.id, error) },
    }
}

fn reject(id: Option<&RawValue>, error: String) -> Answer<'_> {
    Answer { id, verdict: "reject", value: None, error, us: 0 }
}

/// The id of a line whose other members are not as they should be.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

fn id_of(line: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Id<'_>>(line).ok()?.id
}

enum Length {
    Within,
    Beyond,
}

/// Reads one line, without its end, into `line`; of a line that is too long nothing but its start.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<Length>> {
    line.clear();
    let limit = MAX_LINE_BYTES as u64 + 1;
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_some() || line.len() <= MAX_LINE_BYTES {
        return Ok(Some(Length::Within));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Length::Beyond))
}

#[cfg(test)]
mod tests;
