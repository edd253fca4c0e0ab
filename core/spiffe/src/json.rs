//! JSON as security documents must be read and written.
//!
//! Read: a member named twice is an error, at every depth. RFC 8259 leaves open which of two equal names
//! counts, so two readers could see two documents. Written: in the canonical form of RFC 8785 (JCS), so
//! that equal values are equal bytes for everyone who hashes or signs them.

use std::{fmt, mem};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses exactly one JSON value. Depth is bounded by `serde_json`, size by the caller.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Unambiguous.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A number that has no canonical form: other readers would see another number.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the number {0} is an integer outside of ±2^53, which not every reader keeps; write it as a text")]
pub struct NotCanonical(String);

/// The canonical form of a value.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::new();
    write_canonical(value, &mut out)?;
    Ok(out)
}

/// Appends the canonical form of `value` to `out`.
pub fn write_canonical(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    let mut separator = b"".as_slice();
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                out.extend_from_slice(mem::replace(&mut separator, b","));
                write_canonical(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16())); // section 3.2.3
            out.push(b'{');
            for (name, value) in sorted {
                out.extend_from_slice(mem::replace(&mut separator, b","));
                write_text(name, out);
                out.push(b':');
                write_canonical(value, out)?;
            }
            out.push(b'}');
        }
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_text(text, out),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Null => out.extend_from_slice(b"null"),
    }
    Ok(())
}

/// Appends a text in its canonical form: escaped where it must be, and nowhere else (section 3.2.2.2).
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// Appends a number as ECMAScript writes it (section 3.2.2.3).
fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    let integer = number.as_i128().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= MOST as f64)?;
        Some(float as i128) // exact, and -0 is 0
    });
    let float = number.as_f64().filter(|float| float.is_finite() && float.fract() != 0.0);
    match (integer, float) {
        (Some(integer), _) if integer.abs() <= i128::from(MOST) => {
            out.extend_from_slice(integer.to_string().as_bytes());
        }
        (None, Some(float)) => write_fraction(float, out),
        _ => return Err(NotCanonical(number.to_string())),
    }
    Ok(())
}

/// The shortest digits that read as this number again, with the point where ECMAScript puts it.
fn write_fraction(float: f64, out: &mut Vec<u8>) {
    let scientific = format!("{:e}", float.abs());
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = digits.replace('.', "");
    // A fraction has its point among or before its digits, so there is nothing to fill up behind them.
    let point = exponent.parse::<i32>().unwrap_or_default() + 1;
    let sign = if float < 0.0 { "-" } else { "" };
    let text = match usize::try_from(point) {
        Ok(0) | Err(_) if point > -6 => {
            format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
        }
        Ok(point) if point > 0 => format!("{sign}{}.{}", &digits[..point], &digits[point..]),
        _ => {
            let (first, rest) = digits.split_at(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{sign}{first}{dot}{rest}e{}", point - 1)
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// The largest integer up to which every integer is a number of its own to every reader (RFC 7493).
const MOST: i64 = 1 << 53;

#[derive(Clone, Copy)]
struct Unambiguous;

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!("the member {name:?} is there twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_is_an_error_at_every_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"[[{"a":1,"\u0061":2}]]"#] {
            let error = parse(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains("twice"), "{error}");
        }
    }

    fn canonical_text(text: &str) -> Result<String, NotCanonical> {
        let value = parse(text.as_bytes()).expect(text);
        Ok(String::from_utf8(canonical(&value)?).expect("UTF-8"))
    }

    #[test]
    fn members_are_sorted_by_utf16_units_and_texts_escaped_where_they_must_be() {
        // U+FB33 sorts before U+1F600 by code point, and behind it in UTF-16: RFC 8785 section 3.2.3.
        let text =
            r#" { "\ufb33": 1, "\ud83d\ude00": 2, "\u20ac": 3, "\r": 4, "1": 5, "\u0080": 6, "ö": [ ] } "#;
        let expected = "{\"\\r\":4,\"1\":5,\"\u{80}\":6,\"ö\":[],\"€\":3,\"😀\":2,\"\u{fb33}\":1}";
        assert_eq!(canonical_text(text).unwrap(), expected);
        let escapes = r#""\u0000\u001b\b\t\n\f\r\"\\\/\u007f""#;
        assert_eq!(canonical_text(escapes).unwrap(), "\"\\u0000\\u001b\\b\\t\\n\\f\\r\\\"\\\\/\u{7f}\"");
    }

    #[test]
    fn numbers_are_written_as_ecmascript_writes_them() {
        for (text, expected) in [
            ("-0", "0"),
            ("-0.0", "0"),
            ("1.0", "1"),
            ("4.50", "4.5"),
            ("2e-3", "0.002"),
            ("1e-27", "1e-27"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("-1.25e-9", "-1.25e-9"),
            ("333333.25", "333333.25"),
            ("9007199254740992", "9007199254740992"),
            ("-9007199254740992", "-9007199254740992"),
            ("1e3", "1000"),
        ] {
            assert_eq!(canonical_text(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_integer_that_readers_would_round_has_no_canonical_form() {
        for text in
            ["9007199254740993", "-9007199254740993", "18446744073709551615", "1e300", "[{\"a\":1e16}]"]
        {
            assert!(canonical_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ordinary_json_reads_as_usual() {
        let text = r#"{"a":[1,-2,0.5,"x",null,true],"b":{"a":{}}}"#;
        assert_eq!(parse(text.as_bytes()).expect("json"), serde_json::from_str::<Value>(text).expect("json"));
    }

    #[test]
    fn what_is_not_exactly_one_value_is_an_error() {
        for text in ["", "{} {}", "[1,]", "{\"a\"", "\u{feff}{}", &"[".repeat(100_000)] {
            assert!(parse(text.as_bytes()).is_err(), "{}", text.chars().take(20).collect::<String>());
        }
        assert!(parse(b"\"\xff\"").is_err());
    }
}
