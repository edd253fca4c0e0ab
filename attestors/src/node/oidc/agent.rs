//! The agent's half: where the token is.

use std::path::PathBuf;

use hyper::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Payload;
use crate::{
    https::{self, Host},
    node::agent::{CannotProve, Shown, no_challenge, read},
};

/// Where the token is: exactly one of the three is said.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// In a file, which something keeps up to date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// In a variable of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// Where GitHub Actions says (`ACTIONS_ID_TOKEN_REQUEST_URL`), a new one each time, for this audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_audience: Option<String>,
    /// The authorities, in PEM, that vouch for that host; the system's where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

const MAX_TOKEN: u64 = 16 * 1024;
const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const BEARER: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

impl Config {
    /// Whether it says exactly one place.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let places = [self.token_file.is_some(), self.token_env.is_some(), self.github_audience.is_some()];
        match places.into_iter().filter(|is_said| *is_said).count() {
            1 => Ok(()),
            _ => Err("node_attestor.oidc: say one of token_file, token_env and github_audience"),
        }
    }

    pub(crate) async fn show(&self) -> Result<Shown, CannotProve> {
        self.check().map_err(other)?;
        let token = match (&self.token_file, &self.token_env, &self.github_audience) {
            (Some(path), ..) => String::from_utf8(read(path, MAX_TOKEN).await?).map_err(other)?,
            (_, Some(name), _) => variable(name)?,
            (.., Some(audience)) => self.github(audience, &variable(URL)?, &variable(BEARER)?).await?,
            _ => return Err(other("no token is configured")),
        };
        let token = Zeroizing::new(token);
        let payload = serde_json::to_vec(&Payload { token: token.trim().to_owned() }).map_err(other)?;
        Ok(Shown { payload, answer: no_challenge() })
    }

    /// A new token of the job that this runs in.
    pub(super) async fn github(
        &self,
        audience: &str,
        url: &str,
        bearer: &str,
    ) -> Result<String, CannotProve> {
        let separator = if url.contains('?') { '&' } else { '?' };
        let uri = format!("{url}{separator}audience={}", escaped(audience));
        let uri: Uri = uri.parse().map_err(|_| other(format!("{URL} is not an address")))?;
        let authorities = https::authorities(self.ca_file.as_deref()).map_err(other)?;
        let host = Host::of(&uri, &authorities, None).map_err(other)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let answer = host.get(path, Some(bearer)).await.map_err(other)?;
        if answer.status != StatusCode::OK {
            let says = "does the workflow have `permissions: id-token: write`?";
            return Err(other(format!("GitHub gives no ID token ({}); {says}", answer.status)));
        }
        let document: Value = serde_json::from_slice(&answer.body).map_err(other)?;
        let token = document["value"].as_str().map(str::to_owned);
        token.ok_or_else(|| other("GitHub's answer has no value"))
    }
}

fn variable(name: &str) -> Result<String, CannotProve> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| {
        let hint = match name {
            URL | BEARER => "; the workflow needs `permissions: id-token: write`",
            _ => "",
        };
        other(format!("the environment has no {name}{hint}"))
    })
}

/// Percent-encoded (RFC 3986, section 2.1), as a value of a query.
fn escaped(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let escape = |byte: u8| match is_plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn other(error: impl std::fmt::Display) -> CannotProve {
    CannotProve::Other(error.to_string())
}
