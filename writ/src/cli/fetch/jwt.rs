//! `writ fetch jwt`: tokens of this process, or the judgement of somebody else's.

use std::{io::Read as _, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use spiffe::{SpiffeId, Timestamp, jwt::MAX_TOKEN_BYTES};

use super::{FIRST_PAUSE, How, files, now};
use crate::{
    cli::output::{self, Format, plain},
    wire::workload::{self, Refused, Token},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Jwt {
    /// For whom the token is; may be repeated.
    #[arg(long, required = true, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// Only the token of this identity.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// Fetch none; have the agent judge this token, or the one on standard input where it is `-`.
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["spiffe_id", "watch", "write"])]
    validate: Option<String>,
    #[command(flatten)]
    pub(super) how: How,
}

/// Shows tokens; with `--watch` again at half of their life, until the agent refuses.
pub(super) async fn run(
    socket: &Path,
    jwt: &Jwt,
    format: Format,
    pause: &mut Duration,
) -> Result<Option<Refused>> {
    if let Some(token) = &jwt.validate {
        return validate(socket, jwt, token, format).await;
    }
    loop {
        let tokens = match workload::jwt_svids(socket, &jwt.audience, jwt.spiffe_id.as_ref()).await {
            Ok(tokens) => tokens,
            Err(refused) => return Ok(Some(refused)),
        };
        *pause = FIRST_PAUSE;
        if let Some(dir) = &jwt.how.write {
            files::write_token(dir, &tokens)?;
        }
        let answer = Answer { svids: tokens.iter().map(Shown::from).collect() };
        output::show(format, &answer, |_| text(&tokens, now(), jwt))?;
        if !jwt.how.watch {
            return Ok(None);
        }
        let ends = tokens.iter().map(|token| token.expires_at).min().unwrap_or_default();
        tokio::time::sleep((ends.since(now()) / 2).max(SHORTEST)).await;
    }
}

async fn validate(socket: &Path, jwt: &Jwt, token: &str, format: Format) -> Result<Option<Refused>> {
    let audience = jwt.audience.first().map_or("", String::as_str);
    match workload::validate_jwt_svid(socket, audience, &given(token)?).await {
        Ok((spiffe_id, claims)) => {
            let valid = Valid { spiffe_id, claims };
            output::show(format, &valid, |valid| {
                let claims = serde_json::to_string(&valid.claims).unwrap_or_default();
                format!("valid: {}\n  claims  {}\n", plain(&valid.spiffe_id), plain(&claims))
            })?;
            Ok(None)
        }
        Err(refused) => Ok(Some(refused)),
    }
}

/// A token on a command line is read by everybody who may list processes.
fn given(token: &str) -> Result<String> {
    if token != "-" {
        return Ok(token.to_owned());
    }
    let (mut token, most) = (String::new(), MAX_TOKEN_BYTES as u64 + 2);
    std::io::stdin().take(most).read_to_string(&mut token).context("cannot read the token")?;
    Ok(token.trim().to_owned())
}

fn text(tokens: &[Token], now: Timestamp, jwt: &Jwt) -> String {
    let mut text = String::new();
    for token in tokens {
        let left = Duration::from_secs(token.expires_at.since(now).as_secs());
        text.push_str(&format!("{}\n", token.id));
        if !token.hint.is_empty() {
            text.push_str(&format!("  hint         {}\n", plain(&token.hint)));
        }
        let left = humantime::format_duration(left);
        text.push_str(&format!("  valid until  {} ({left} left)\n", token.expires_at));
        text.push_str(&format!("  token        {}\n", plain(&token.token)));
    }
    if let Some(dir) = &jwt.how.write {
        text.push_str(&format!("written to {}: svid.jwt\n", dir.display()));
    }
    text
}

/// What is printed as JSON. Unlike a key, a token is what was asked for.
#[derive(Serialize)]
struct Answer<'a> {
    svids: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    spiffe_id: &'a SpiffeId,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
    expires_at: Timestamp,
    token: &'a str,
}

impl<'a> From<&'a Token> for Shown<'a> {
    fn from(token: &'a Token) -> Self {
        let Token { id, hint, token, expires_at } = token;
        Self { spiffe_id: id, hint, expires_at: *expires_at, token }
    }
}

#[derive(Serialize)]
struct Valid {
    spiffe_id: String,
    claims: Map<String, Value>,
}

const SHORTEST: Duration = Duration::from_secs(1);
