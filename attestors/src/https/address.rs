//! [`Address`]: where a host listens, and whether it has to prove its name.

use std::{fmt, net::IpAddr, str::FromStr};

use hyper::Uri;

/// `https://HOST:PORT`; or `http://HOST:PORT` of this machine's own loopback, such as a kubelet's read-only
/// port, since nothing proves who answers elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    secure: bool,
    host: String,
    port: u16,
}

impl Address {
    /// Where this is; `None` if it proves nothing about who answers.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        // A name before an @ only misleads whoever reads it.
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_own = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_own => false,
            _ => return None,
        };
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        (!host.is_empty()).then_some(Self { secure, host, port })
    }

    /// Whether who answers proves its name.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// The name or number of the host, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether both are one place, however their letters are written.
    #[cfg(feature = "server")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.secure, self.port) == (other.secure, other.port) && self.host.eq_ignore_ascii_case(&other.host)
    }

    /// What a request names as its host (RFC 9110, section 7.2): without the port that is usual.
    pub(crate) fn named(&self) -> String {
        let usual = if self.secure { 443 } else { 80 };
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        match self.port == usual {
            true => format!("{}{}{}", brackets[0], self.host, brackets[1]),
            false => self.authority(),
        }
    }

    /// `HOST:PORT`, with brackets where they are needed.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text} is not https://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| form())?;
        let is_bare = matches!(uri.path_and_query().map(|path| path.as_str()), None | Some("/" | ""));
        match Self::of(&uri) {
            Some(address) if is_bare => Ok(address),
            None if is_bare && uri.scheme_str() == Some("http") => {
                Err(format!("{text} proves nothing about who answers: use https, or http on 127.0.0.1"))
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_tls_is_on_this_machine() {
        for (text, shown, named) in [
            ("https://10.0.0.1:10250", "https://10.0.0.1:10250", "10.0.0.1:10250"),
            (
                "https://kubernetes.default.svc",
                "https://kubernetes.default.svc:443",
                "kubernetes.default.svc",
            ),
            ("https://[::1]:10250/", "https://[::1]:10250", "[::1]:10250"),
            ("https://[::1]/", "https://[::1]:443", "[::1]"),
            ("http://127.0.0.1:10255", "http://127.0.0.1:10255", "127.0.0.1:10255"),
        ] {
            let address = text.parse::<Address>().expect(text);
            assert_eq!((address.to_string(), address.named()), (shown.to_owned(), named.to_owned()));
        }
        for text in [
            "",
            "node1",
            "node1:10250",
            "ftp://node1",
            "https://",
            "https://node1/pods",
            "https://node1?x",
            "https://node1@evil.example",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        let error = "http://10.0.0.1:10255".parse::<Address>().expect_err("not on this machine");
        assert!(error.contains("use https"), "{error}");
    }
}
