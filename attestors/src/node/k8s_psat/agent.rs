//! The agent's half: reads the token that the kubelet keeps up to date.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Payload;
use crate::node::agent::{CannotProve, Shown, no_challenge, read};

/// Where the token is, and of which cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster's name in the server's configuration.
    pub cluster: String,
    /// The token's file.
    #[serde(default = "token_path")]
    pub token_path: PathBuf,
}

const MAX_TOKEN: u64 = 16 * 1024;

/// SPIRE's.
fn token_path() -> PathBuf {
    "/var/run/secrets/tokens/spire-agent".into()
}

impl Config {
    pub(crate) async fn show(&self) -> Result<Shown, CannotProve> {
        let token = Zeroizing::new(read(&self.token_path, MAX_TOKEN).await?);
        let other = |error: &dyn std::fmt::Display| {
            CannotProve::Other(format!("{}: {error}", self.token_path.display()))
        };
        let token = std::str::from_utf8(&token).map_err(|error| other(&error))?.trim().to_owned();
        let payload = Payload { cluster: self.cluster.clone(), token };
        let payload = serde_json::to_vec(&payload).map_err(|error| other(&error))?;
        Ok(Shown { payload, answer: no_challenge() })
    }
}
