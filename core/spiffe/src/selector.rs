//! Selectors: facts about a process or a node, as `kind:value` (`unix:uid:1000`).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest selector accepted, in bytes.
const MAX_BYTES: usize = 4096;

/// One fact. `kind` names the attestor and holds no colon; `value` is everything after the first colon.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    text: Arc<str>,
    kind_end: usize,
}

/// Why a text is not a selector.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// There is no colon, or nothing before or after it.
    #[error("selector {0:?} is not of the form kind:value, for example unix:uid:1000")]
    Form(String),
    /// It is longer than 4,096 bytes.
    #[error("selector of {0} bytes is longer than 4096")]
    Length(usize),
    /// It holds a control character.
    #[error("selector {0:?} holds a control character")]
    Control(String),
}

impl Selector {
    /// A selector of these two parts, as SPIRE's API carries them.
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        if kind.contains(':') {
            return Err(SelectorError::Form(format!("{kind}:{value}")));
        }
        format!("{kind}:{value}").parse()
    }

    /// The attestor, for example `unix`.
    pub fn kind(&self) -> &str {
        &self.text[..self.kind_end]
    }

    /// What it says, for example `uid:1000`.
    pub fn value(&self) -> &str {
        &self.text[self.kind_end + 1..]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_BYTES {
            return Err(SelectorError::Length(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(SelectorError::Control(text.to_owned()));
        }
        match text.split_once(':') {
            Some((kind, value)) if !kind.is_empty() && !value.is_empty() => {
                Ok(Self { kind_end: kind.len(), text: text.into() })
            }
            _ => Err(SelectorError::Form(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.text.as_ref().to_owned()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_selector_is_split_at_its_first_colon() {
        let selector: Selector = "unix:path:/opt/a:b,c".parse().unwrap();
        assert_eq!((selector.kind(), selector.value()), ("unix", "path:/opt/a:b,c"));
        assert_eq!(Selector::new("unix", "uid:0").unwrap().to_string(), "unix:uid:0");
    }

    #[test]
    fn what_could_be_read_as_two_selectors_is_none() {
        for text in ["", ":", "unix", "unix:", ":uid:0"] {
            assert!(matches!(text.parse::<Selector>(), Err(SelectorError::Form(_))), "{text:?}");
        }
        for text in ["unix:path:/a\nunix:uid:0", "unix:uid:0\0", "unix:\u{85}"] {
            assert!(matches!(text.parse::<Selector>(), Err(SelectorError::Control(_))), "{text:?}");
        }
        assert!(matches!(Selector::new("unix:uid", "0"), Err(SelectorError::Form(_))));
        let long = format!("k:{}", "v".repeat(MAX_BYTES - 1));
        assert_eq!(long.parse::<Selector>(), Err(SelectorError::Length(MAX_BYTES + 1)));
    }

    proptest! {
        #[test]
        fn a_selector_survives_its_parts_and_its_json(kind in "[a-z_]{1,9}", value in "[^\\p{Cc}]{1,40}") {
            let selector = Selector::new(&kind, &value).unwrap();
            prop_assert_eq!((selector.kind(), selector.value()), (kind.as_str(), value.as_str()));
            let json = serde_json::to_string(&selector).unwrap();
            prop_assert_eq!(serde_json::from_str::<Selector>(&json).unwrap(), selector);
        }
    }
}
