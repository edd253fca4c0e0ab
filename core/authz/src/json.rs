//! JSON from outside, parsed once: I-JSON (RFC 7493), bounded, with its one canonical form (RFC 8785).

use serde_json::Value;
use spiffe::json::{self, NotCanonical};

/// A JSON value that every reader reads alike. It exists only if it is valid: no member is there twice, no
/// surrogate stands alone, every integer lies within ±2^53, and depth and size are within the limits.
///
/// What is decided, hashed and forwarded is [`Json::canonical`], never the bytes that came.
#[derive(Clone, Debug, PartialEq)]
pub struct Json {
    value: Value,
    canonical: Vec<u8>,
}

/// The most that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes, before anything is parsed.
    pub bytes: usize,
    /// Objects and arrays inside one another.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 * 1024, depth: 32 }
    }
}

/// Why bytes are not such a value.
#[derive(Debug, thiserror::Error)]
pub enum BadJson {
    /// There are too many of them.
    #[error("the request has {0} bytes, and {1} are allowed")]
    TooLong(usize, usize),
    /// It nests too deep.
    #[error("the request nests objects and arrays deeper than {0} levels")]
    TooDeep(usize),
    /// It is not JSON, or names a member twice.
    #[error("the request is not unambiguous JSON: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A number means different things to different readers.
    #[error(transparent)]
    Number(#[from] NotCanonical),
}

impl Json {
    /// Parses exactly one value.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Self, BadJson> {
        if bytes.len() > limits.bytes {
            return Err(BadJson::TooLong(bytes.len(), limits.bytes));
        }
        if nests_deeper(bytes, limits.depth) {
            return Err(BadJson::TooDeep(limits.depth));
        }
        Ok(Self::of(json::parse(bytes)?)?)
    }

    /// A value that is made here, or a part of one that was parsed.
    pub fn of(value: Value) -> Result<Self, NotCanonical> {
        let canonical = json::canonical(&value)?;
        Ok(Self { value, canonical })
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its canonical form.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The value without its canonical form.
    pub fn into_value(self) -> Value {
        self.value
    }
}

/// Whether brackets outside of texts open deeper than that. Text that is no JSON may be judged either way.
fn nests_deeper(bytes: &[u8], most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Json, BadJson> {
        Json::parse(text.as_bytes(), Limits::default())
    }

    #[test]
    fn one_meaning_has_one_form() {
        let one = parse(r#"{ "b": 1.0, "a": "\u0041\/" }"#).unwrap();
        assert_eq!(one.canonical(), br#"{"a":"A/","b":1}"#);
        assert_eq!(parse(r#"{"a":"A/","b":1e0}"#).unwrap().canonical(), one.canonical());
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"[{"x":{"a":1,"\u0061":2}}]"#,
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            "9007199254740993",
            "-9007199254740993",
            "1e400",
            "1 2",
            "\u{feff}1",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Json::parse(b"\"\xc3\x28\"", Limits::default()).is_err());
        assert!(parse("9007199254740992").is_ok() && parse("-9007199254740992").is_ok());
    }

    #[test]
    fn depth_and_size_are_bounded_and_brackets_in_texts_do_not_count() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(&deep(32)).is_ok());
        assert!(matches!(parse(&deep(33)), Err(BadJson::TooDeep(32))));
        assert!(matches!(parse(&deep(1_000_000)), Err(BadJson::TooLong(..))));
        assert!(parse(&format!("\"{}\\\"[\"", "[".repeat(100))).is_ok());
        let long = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
        assert!(parse(&long).is_ok() && parse(&format!("{long} ")).is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_read_the_same_once_more_or_refused(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                r#"[\[\]{}",:0-9a-f\\u \-+.eE]{0,120}"#.prop_map(String::into_bytes),
            ],
        ) {
            if let Ok(json) = Json::parse(&bytes, Limits::default()) {
                let again = Json::parse(json.canonical(), Limits::default()).expect("canonical JSON is JSON");
                prop_assert_eq!(again.canonical(), json.canonical());
            }
        }
    }
}
