//! Asking the server for tokens: one call for a batch, and what comes back is verified like a stranger's.

use std::{pin::pin, time::Duration};

use registry::objects::Entry;
use server_api::node::{JwtOrder, Token as Signed, Unsigned};
use spiffe::{
    AudienceError, Audiences, Bundles, SpiffeId, Timestamp,
    jwt::{Compact, JwtError, svid},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::timeout,
};

use super::{Token, queue::Order};
use crate::{clock, issue::aside, rotation::Validity, upstream::Upstream};

/// A token that the server gave and that cannot be used, or the server's own refusal.
#[derive(Debug, thiserror::Error)]
enum NotHad {
    #[error("the server refused: {0}")]
    Refused(Unsigned),
    #[error("it does not verify: {0}")]
    Unverified(#[from] JwtError),
    #[error("it names no key")]
    Nameless,
    #[error("it names {0}")]
    OtherId(SpiffeId),
    #[error("it is for other audiences")]
    OtherAudiences,
    #[error(transparent)]
    Audiences(#[from] AudienceError),
    #[error("it lasts until {0}, longer than its entry")]
    TooLong(Timestamp),
}

/// A token for each of these orders, where there is one; of any other, the log says why. `learned` tells
/// of new bundles: a token may come a moment before the bundle with its key. The flight ends with the
/// server's answer.
pub(super) async fn sign(
    upstream: &Upstream,
    orders: &[Order],
    learned: &Notify,
    flight: OwnedSemaphorePermit,
) -> Vec<Option<Token>> {
    match try_sign(upstream, orders, learned, flight).await {
        Ok(tokens) => tokens,
        Err(reason) => {
            tracing::warn!(count = orders.len(), reason, "no JWT-SVIDs could be had");
            vec![None; orders.len()]
        }
    }
}

async fn try_sign(
    upstream: &Upstream,
    orders: &[Order],
    learned: &Notify,
    flight: OwnedSemaphorePermit,
) -> Result<Vec<Option<Token>>, String> {
    let mut news = pin!(learned.notified());
    news.as_mut().enable();
    let wanted = orders.iter().map(|order| JwtOrder {
        entry: order.entry.id.clone(),
        audiences: order.audiences.iter().map(str::to_owned).collect(),
    });
    let wanted: Vec<_> = wanted.collect();
    let asked = upstream.ask(|mut signer| {
        let wanted = wanted.clone();
        async move { signer.sign_jwt(wanted).await }
    });
    let signed = timeout(ANSWER_WITHIN, asked).await;
    drop(flight);
    let signed = signed.map_err(|_| "the server does not answer")?.map_err(|error| error.to_string())?;
    let mut judged = judge_all(orders, signed.clone(), upstream).await?;
    let is_unknown = |judged: &Result<_, _>| matches!(judged, Err(NotHad::Unverified(JwtError::NoKey)));
    if judged.iter().any(is_unknown) && timeout(LEARNED_WITHIN, news).await.is_ok() {
        judged = judge_all(orders, signed, upstream).await?;
    }
    let note = |(order, judged): (&Order, Result<Token, NotHad>)| {
        judged
            .inspect_err(|reason| tracing::warn!(entry = %order.entry.id, %reason, "a JWT-SVID was not had"))
    };
    Ok(orders.iter().zip(judged).map(|pair| note(pair).ok()).collect())
}

type Results = Vec<Result<Signed, Unsigned>>;

async fn judge_all(
    orders: &[Order],
    signed: Results,
    upstream: &Upstream,
) -> Result<Vec<Result<Token, NotHad>>, String> {
    let (orders, bundles) = (orders.to_vec(), upstream.bundles());
    aside(orders.len(), move || {
        let now = clock::now();
        let judged = orders.iter().zip(signed);
        judged.map(|(order, signed)| judge(order, signed.map_err(NotHad::Refused)?, &bundles, now)).collect()
    })
    .await
}

/// The token of this order, if that is what the server signed and the bundles vouch for it now.
fn judge(order: &Order, signed: Signed, bundles: &Bundles, now: Timestamp) -> Result<Token, NotHad> {
    let Order { entry, audiences } = order;
    let wanted: Vec<_> = audiences.iter().collect();
    let valid = svid::validate(&signed.token, &wanted, bundles, now)?;
    if valid.spiffe_id != entry.spiffe_id {
        return Err(NotHad::OtherId(valid.spiffe_id));
    }
    if named(&valid.claims)? != *audiences {
        return Err(NotHad::OtherAudiences);
    }
    let until = valid.expires_at;
    // INVARIANT: no token outlives its entry.
    if outlives(entry, until) {
        return Err(NotHad::TooLong(until));
    }
    let kid = Compact::parse(&signed.token)?.kid.ok_or(NotHad::Nameless)?;
    Ok(Token { text: signed.token.into(), kid, validity: Validity { from: now, until } })
}

fn named(claims: &serde_json::Map<String, serde_json::Value>) -> Result<Audiences, AudienceError> {
    match claims.get("aud") {
        Some(serde_json::Value::Array(list)) => Audiences::new(list.iter().filter_map(|aud| aud.as_str())),
        one => Audiences::new(one.and_then(|aud| aud.as_str())),
    }
}

fn outlives(entry: &Entry, until: Timestamp) -> bool {
    entry.expires_at.is_some_and(|end| until > end)
}

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const LEARNED_WITHIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
