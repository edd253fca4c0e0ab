//! What the headers of a request say: the security header of the Workload API, and the deadline.

use std::time::Duration;

use http::HeaderMap;

/// The header that a browser or a proxy that was talked into a request cannot have set by chance.
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// Whether the security header is there exactly once and says exactly `true` (Workload Endpoint
/// standard, section 6.3).
pub(crate) fn has_security_header(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(SECURITY_HEADER).iter();
    values.next().is_some_and(|value| value.as_bytes() == b"true") && values.next().is_none()
}

/// How long the client waits, from gRPC's header `grpc-timeout`. What cannot be read is no deadline.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_security_header_is_there_once_and_says_true() {
        let judge = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SECURITY_HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            has_security_header(&headers)
        };
        assert!(judge(&[b"true"]));
        let wrong: [&[&[u8]]; 9] = [
            &[],
            &[b"false"],
            &[b"TRUE"],
            &[b"True"],
            &[b"true", b"true"],
            &[b"true,true"],
            &[b""],
            &[b"1"],
            &[b"true\xff"],
        ];
        for values in wrong {
            assert!(!judge(values), "{values:?}");
        }
    }

    #[test]
    fn a_deadline_has_at_most_eight_digits_and_a_unit() {
        let read = |text: &str| {
            timeout(&HeaderMap::from_iter([(
                http::header::HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_str(text).unwrap(),
            )]))
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1500000u"), Some(Duration::from_millis(1500)));
        for text in ["", "S", "5", "5s", "-5S", "100000000S", "5 S", "٥S"] {
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                let headers =
                    HeaderMap::from_iter([(http::header::HeaderName::from_static("grpc-timeout"), value)]);
                assert_eq!(timeout(&headers), None, "{text}");
            }
        }
    }
}
