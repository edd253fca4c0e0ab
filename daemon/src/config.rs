//! The configuration file: TOML into the room's own struct.
//!
//! Each struct says `#[serde(deny_unknown_fields)]`, so that a mistyped key is an error that names
//! the key, the line and the file. Durations are text like `"1h"` or `"90s"`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// Configuration files are written by people; one beyond this is some other file.
const LARGEST: u64 = 1024 * 1024;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("cannot read the configuration file {}: {source}; check the path given with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is far too large to be a configuration.
    #[error("{} is {size} bytes long; a configuration file has at most {LARGEST}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        size: u64,
    },
    /// The text is not TOML, has a key that nobody knows, lacks one, or has a value of the wrong kind.
    #[error("{} is not a valid configuration: {}", path.display(), one_line(fault))]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says; not a source, as it draws over several lines what is said here in one.
        fault: Box<toml::de::Error>,
    },
}

/// Reads the configuration file at `path`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(read)?.len();
    if size > LARGEST {
        return Err(ConfigError::TooLarge { path: path.to_owned(), size });
    }
    parse(&fs::read_to_string(path).map_err(read)?, path)
}

/// Reads a configuration from text; `path` is what errors call it.
pub fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), fault: Box::new(source) })
}

/// The parser draws the line and points at the place; an error here is one sentence.
fn one_line(error: &toml::de::Error) -> String {
    let drawn = error.to_string();
    let place = drawn.lines().next().and_then(|first| first.strip_prefix("TOML parse error at "));
    match place {
        Some(place) => format!("{}: {}", place.trim(), error.message().replace('\n', ", ")),
        None => error.message().replace('\n', ", "),
    }
}

/// For `#[serde(with = "daemon::config::duration")]` on a [`std::time::Duration`].
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Reads text like `"1h"`, `"90s"` or `"24h 30m"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|_| D::Error::custom(not_a_duration(&text)))
    }

    /// Writes the same form.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn not_a_duration(text: &str) -> String {
        format!(
            "{text:?} is not a duration; write a number and a unit, for example \"90s\", \"1h\" or \"7d\""
        )
    }
}

/// For `#[serde(default, with = "daemon::config::optional_duration")]` on an `Option<Duration>`.
pub mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Reads what [`super::duration`] reads.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        humantime::parse_duration(&text)
            .map(Some)
            .map_err(|_| D::Error::custom(super::duration::not_a_duration(&text)))
    }

    /// Writes the same form.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        listen: String,
        #[serde(with = "duration")]
        ca_ttl: Duration,
        #[serde(default, with = "optional_duration")]
        agent_ttl: Option<Duration>,
    }

    fn read(text: &str) -> Result<Example, String> {
        parse(text, Path::new("/etc/writ/server.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn durations_are_text_with_a_unit() {
        let example = read("listen = \"x\"\nca_ttl = \"24h\"\nagent_ttl = \"90s\"").unwrap();
        assert_eq!(example.listen, "x");
        assert_eq!(example.ca_ttl, Duration::from_hours(24));
        assert_eq!(example.agent_ttl, Some(Duration::from_secs(90)));
        assert!(
            read("listen = \"x\"\nca_ttl = \"soon\"").unwrap_err().contains("\"soon\" is not a duration")
        );
        assert!(read("listen = \"x\"\nca_ttl = 24").is_err());
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_key_line_and_file() {
        let error = read("listen = \"x\"\nca_ttl = \"1h\"\nlisten_adress = \"y\"").unwrap_err();
        assert!(error.contains("/etc/writ/server.toml"), "{error}");
        assert!(error.contains("listen_adress"), "{error}");
        assert!(error.contains("line 3"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let error = load::<Example>(Path::new("/nonexistent/writ.toml")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/writ.toml") && error.contains("--config"), "{error}");
    }
}
