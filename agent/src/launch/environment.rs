//! What environment a measured program gets. Pure.
//!
//! Everything that is not on a list is left out: loaders and interpreters read variables that load code, and
//! nobody knows all of them.

use std::ffi::{OsStr, OsString};

use super::config::Rule;

/// An environment, and the part of it that is measured.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Environment {
    pub(super) all: Vec<(OsString, OsString)>,
    pub(super) measured: Vec<(OsString, OsString)>,
}

impl Environment {
    /// What of `given` a program under this rule gets, and what the agent sets itself.
    pub(super) fn of(given: &[(OsString, OsString)], rule: &Rule, socket: &str) -> Self {
        let mut environment = Self::default();
        for (name, value) in FIXED.iter().copied().chain([("SPIFFE_ENDPOINT_SOCKET", socket)]) {
            environment.all.push((name.into(), value.into()));
        }
        let mut seen: Vec<&OsStr> = Vec::new();
        for (name, value) in given {
            // Of a variable that is there twice, programs differ in which they read.
            if seen.contains(&name.as_os_str()) || environment.all.iter().any(|(known, _)| known == name) {
                continue;
            }
            seen.push(name);
            let text = name.to_str().unwrap_or_default();
            if rule.env.iter().any(|listed| listed == text) {
                environment.all.push((name.clone(), value.clone()));
                environment.measured.push((name.clone(), value.clone()));
            } else if rule.pass.iter().any(|listed| listed == text) || (is_harmless(text) && is_a_word(value))
            {
                environment.all.push((name.clone(), value.clone()));
            }
        }
        environment.measured.sort();
        environment
    }
}

/// Whether a variable of this name may make some loader or interpreter run other code.
pub(super) fn loads_code(name: &str) -> bool {
    let prefixes = [
        "LD_", "PYTHON", "NODE_", "NPM_", "npm_", "JAVA_", "JDK_", "BASH_", "PERL", "RUBY", "GLIBC_",
        "MALLOC_",
    ];
    let names = [
        "_JAVA_OPTIONS",
        "CLASSPATH",
        "ENV",
        "PATH",
        "IFS",
        "PS4",
        "SHELLOPTS",
        "BASHOPTS",
        "GCONV_PATH",
        "LOCPATH",
        "OPENSSL_CONF",
        "OPENSSL_MODULES",
        "OPENSSL_ENGINES",
        "HOSTALIASES",
        "TERMINFO",
        "NLSPATH",
        "RES_OPTIONS",
        "GETCONF_DIR",
        "SPIFFE_ENDPOINT_SOCKET",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || names.contains(&name)
}

fn is_harmless(name: &str) -> bool {
    name.starts_with("LC_") || HARMLESS.contains(&name)
}

/// A value that is neither a path nor anything else that has to be interpreted.
fn is_a_word(value: &OsStr) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.@+-".contains(c);
    value.len() <= 128 && value.to_str().is_some_and(|value| value.chars().all(is_plain))
}

/// The user's own site-packages are not part of the program, nor is what others compiled.
const FIXED: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("PYTHONNOUSERSITE", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
];
const HARMLESS: [&str; 8] =
    ["LANG", "LANGUAGE", "TERM", "COLORTERM", "NO_COLOR", "USER", "LOGNAME", "COLUMNS"];

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(text: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        text.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    #[test]
    fn what_nobody_listed_is_left_out_and_what_is_listed_is_measured_or_passed() {
        let rule = Rule { env: vec!["MODE".into()], pass: vec!["SECRET".into()], arguments: None };
        let given = variables(&[
            ("MODE", "a"),
            ("SECRET", "s"),
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "/home/u/evil"),
            ("LD_PRELOAD", "/x.so"),
            ("PYTHONPATH", "/x"),
            ("OTHER", "o"),
            ("PATH", "/home/u/bin"),
            ("MODE", "b"),
            ("PYTHONNOUSERSITE", ""),
        ]);
        let got = Environment::of(&given, &rule, "unix:///s");
        assert_eq!(got.measured, variables(&[("MODE", "a")]));
        let told: Vec<_> = got.all.iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(
            told,
            [
                "PATH",
                "PYTHONNOUSERSITE",
                "PYTHONDONTWRITEBYTECODE",
                "SPIFFE_ENDPOINT_SOCKET",
                "MODE",
                "SECRET",
                "LANG"
            ]
        );
        assert!(got.all.contains(&("PYTHONNOUSERSITE".into(), "1".into())));
    }

    #[test]
    fn names_that_load_code_are_known() {
        for name in [
            "LD_PRELOAD",
            "PYTHONPATH",
            "NODE_OPTIONS",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "BASH_ENV",
            "ENV",
        ] {
            assert!(loads_code(name), "{name}");
        }
        assert!(!loads_code("DATABASE_URL") && !loads_code("HOME"));
    }
}
