//! SPIFFE IDs and trust domains (SPIFFE-ID standard, sections 2.1 to 2.4).

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest SPIFFE ID, in bytes (section 2.3).
pub const MAX_ID_BYTES: usize = 2048;
/// The longest trust domain name, in bytes (section 2.3).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;
const SCHEME: &str = "spiffe://";

/// The name of a trust domain, lower case, that has passed section 2.1.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE ID that has passed every rule of the SPIFFE-ID standard, so nobody checks it again.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    uri: Arc<str>,
    path_start: usize,
}

/// Which rule of the SPIFFE-ID standard a text breaks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// It does not begin with `spiffe://`.
    #[error("it does not begin with spiffe://")]
    Scheme,
    /// It is longer than the standard lets be expected.
    #[error("it is {0} bytes long; at most {1} are allowed")]
    Length(usize, usize),
    /// The trust domain has a character outside `[a-z0-9._-]`.
    #[error("trust domain characters are lower-case letters, digits, dots, dashes and underscores")]
    TrustDomain,
    /// A path segment has a character outside `[a-zA-Z0-9._-]`.
    #[error("path characters are letters, digits, dots, dashes and underscores")]
    PathCharacter,
    /// A path that does not begin with a slash.
    #[error("a path begins with a slash")]
    NoSlash,
    /// A path segment is empty, or the path ends with a slash.
    #[error("a path has no empty segments and no trailing slash")]
    EmptySegment,
    /// A path segment is `.` or `..`.
    #[error("a path has no segments . and ..")]
    DotSegment,
}

impl TrustDomain {
    /// The name, without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own SPIFFE ID, without a path.
    pub fn id(&self) -> SpiffeId {
        let uri: Arc<str> = format!("{SCHEME}{}", self.0).into();
        SpiffeId { path_start: uri.len(), uri }
    }

    /// The SPIFFE ID of `path` (with its leading slash) in this trust domain.
    pub fn join(&self, path: &str) -> Result<SpiffeId, IdError> {
        if !path.is_empty() && !path.starts_with('/') {
            return Err(IdError::NoSlash); // it would run into the name and make another trust domain
        }
        format!("{SCHEME}{}{path}", self.0).parse()
    }
}

/// Lets a map with trust domains as keys be asked by a name; equality and hash are the name's.
impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl SpiffeId {
    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain's name.
    pub fn trust_domain_name(&self) -> &str {
        &self.uri[SCHEME.len()..self.path_start]
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.trust_domain_name().into())
    }

    /// The path with its leading slash; empty for the trust domain itself.
    pub fn path(&self) -> &str {
        &self.uri[self.path_start..]
    }

    /// Whether this ID belongs to `trust_domain`.
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain_name() == trust_domain.as_str()
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        match text.len() {
            0 => Err(IdError::Empty),
            long if long > MAX_TRUST_DOMAIN_BYTES => Err(IdError::Length(long, MAX_TRUST_DOMAIN_BYTES)),
            _ if !text.bytes().all(allowed) => Err(IdError::TrustDomain),
            _ => Ok(Self(text.into())),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > MAX_ID_BYTES {
            return Err(IdError::Length(text.len(), MAX_ID_BYTES));
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        authority.parse::<TrustDomain>()?;
        if !path.is_empty() {
            path[1..].split('/').try_for_each(check_segment)?;
        }
        Ok(Self { path_start: text.len() - path.len(), uri: text.into() })
    }
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    match segment {
        "" => Err(IdError::EmptySegment),
        "." | ".." => Err(IdError::DotSegment),
        _ if !segment.bytes().all(allowed) => Err(IdError::PathCharacter),
        _ => Ok(()),
    }
}

macro_rules! text_conversions {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.as_str().to_owned()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
text_conversions!(TrustDomain);
text_conversions!(SpiffeId);

#[cfg(test)]
mod tests;
