//! For whom a token is: what a workload asks, and what the server signs.

use std::sync::Arc;

/// The most audiences of one token.
pub const MAX_AUDIENCES: usize = 32;
/// The longest audience, in bytes.
pub const MAX_AUDIENCE_BYTES: usize = 2048;
/// All audiences of one token, in bytes: the token then stays far below what verifiers read.
pub const MAX_AUDIENCES_BYTES: usize = 8192;

/// The audiences of a token: at least one, each once, in order, and bounded. A clone shares them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Audiences(Arc<[Box<str>]>);

/// Why a token cannot be for these.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AudienceError {
    /// There is none, or one is empty.
    #[error("audience must be specified")]
    Missing,
    /// There are too many.
    #[error("a token has at most {MAX_AUDIENCES} audiences")]
    TooMany,
    /// They are too long.
    #[error("an audience has at most {MAX_AUDIENCE_BYTES} bytes, and all of a token {MAX_AUDIENCES_BYTES}")]
    TooLong,
    /// One has a control character in it.
    #[error("an audience has no control characters")]
    ControlCharacter,
}

impl Audiences {
    /// These audiences; the same set always gives the same value.
    pub fn new<A: AsRef<str>>(asked: impl IntoIterator<Item = A>) -> Result<Self, AudienceError> {
        let (mut audiences, mut bytes) = (Vec::new(), 0);
        for audience in asked {
            let audience = check(audience.as_ref())?;
            bytes += audience.len();
            if audiences.len() == MAX_AUDIENCES {
                return Err(AudienceError::TooMany);
            }
            if bytes > MAX_AUDIENCES_BYTES {
                return Err(AudienceError::TooLong);
            }
            audiences.push(Box::from(audience));
        }
        if audiences.is_empty() {
            return Err(AudienceError::Missing);
        }
        audiences.sort_unstable();
        audiences.dedup();
        Ok(Self(audiences.into()))
    }

    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// One audience, if a token may be for it.
pub fn check(audience: &str) -> Result<&str, AudienceError> {
    match audience {
        "" => Err(AudienceError::Missing),
        long if long.len() > MAX_AUDIENCE_BYTES => Err(AudienceError::TooLong),
        odd if odd.chars().any(char::is_control) => Err(AudienceError::ControlCharacter),
        audience => Ok(audience),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_a_set() {
        let [one, other] = [vec!["b", "a", "b"], vec!["a", "b"]].map(|asked| Audiences::new(asked).unwrap());
        assert_eq!(one, other);
        assert_eq!(one.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_ne!(one, Audiences::new(["A", "b"]).unwrap(), "audiences are compared byte by byte");
    }

    #[test]
    fn audiences_are_there_few_and_short() {
        let many = |count: usize| (0..count).map(|n| n.to_string());
        assert!(Audiences::new(many(32)).is_ok());
        assert_eq!(Audiences::new(many(33)), Err(AudienceError::TooMany));
        assert_eq!(Audiences::new(many(0)), Err(AudienceError::Missing));
        assert_eq!(Audiences::new(["a", ""]), Err(AudienceError::Missing));
        assert!(Audiences::new(["x".repeat(2048)]).is_ok());
        assert_eq!(Audiences::new(["x".repeat(2049)]), Err(AudienceError::TooLong));
        let long: Vec<_> = (0..5).map(|n| format!("{n}{}", "x".repeat(2000))).collect();
        assert_eq!(Audiences::new(long), Err(AudienceError::TooLong));
        assert_eq!(Audiences::new(["a\nb"]), Err(AudienceError::ControlCharacter));
    }
}
