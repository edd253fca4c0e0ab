//! Constraints on one argument of a call.

use serde::{Deserialize, Serialize};

use super::{ParamName, Params, ScopeError};

/// A plain value.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A whole number, within ±2^53 (RFC 7493 section 2.2); doors see to that.
    Int(i64),
    /// A text.
    Text(String),
}

/// What must hold of an argument. Of several, all must.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// The argument may be left out.
    Optional,
    /// It is this.
    Equals(Scalar),
    /// It is what the mandate's parameter says.
    Param(ParamName),
    /// It is one of these.
    OneOf(Vec<Scalar>),
    /// It is this path or one below it, without any `.` or `..` in it.
    Under(String),
    /// The same, of the path that the mandate's parameter says.
    UnderParam(ParamName),
    /// A number, at most this.
    AtMost(i64),
    /// A number, at least this.
    AtLeast(i64),
    /// A text of at most so many bytes.
    MaxBytes(u32),
}

impl Constraint {
    /// Whether it holds of a value. One that names a parameter never does before it is bound.
    pub fn holds(&self, value: &Scalar) -> bool {
        match (self, value) {
            (Self::Optional, _) => true,
            (Self::Equals(wanted), value) => wanted == value,
            (Self::OneOf(these), value) => these.contains(value),
            (Self::Under(top), Scalar::Text(path)) => lies_under(path, top),
            (Self::AtMost(most), Scalar::Int(number)) => number <= most,
            (Self::AtLeast(least), Scalar::Int(number)) => number >= least,
            (Self::MaxBytes(most), Scalar::Text(text)) => text.len() <= *most as usize,
            _ => false,
        }
    }

    /// Whether it leaves a choice only among what an operator wrote, so that whoever meets it says nothing
    /// of its own: what is bound after untrusted input.
    pub fn binds(&self) -> bool {
        !matches!(self, Self::Optional | Self::MaxBytes(_))
    }

    /// The same with the parameter replaced by its value.
    pub fn bind(&self, params: &Params) -> Result<Self, ScopeError> {
        let value = |name: &ParamName| params.get(name).ok_or_else(|| ScopeError::NoParameter(name.clone()));
        match self {
            Self::Param(name) => value(name).cloned().map(Self::Equals),
            Self::UnderParam(name) => match value(name)? {
                Scalar::Text(top) => Ok(Self::Under(top.clone())),
                Scalar::Bool(_) | Scalar::Int(_) => Err(ScopeError::NotText(name.clone())),
            },
            other => Ok(other.clone()),
        }
    }

    /// The parameter that it names.
    pub fn param(&self) -> Option<&ParamName> {
        match self {
            Self::Param(name) | Self::UnderParam(name) => Some(name),
            _ => None,
        }
    }
}

/// Whether a path is `top` or below it. Nothing is normalised: a path that would need it lies nowhere.
fn lies_under(path: &str, top: &str) -> bool {
    let is_plain = |segment: &str| !matches!(segment, "" | "." | "..");
    let top = top.strip_suffix('/').unwrap_or(top);
    let is_there = match path.strip_prefix(top) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    };
    let segments = path.strip_prefix('/').unwrap_or(path);
    is_there && segments.split('/').all(is_plain) && !path.contains(['\\', '\0', '%'])
}
