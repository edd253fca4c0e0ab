//! Making SVIDs: a fresh key for each, one batch to the server, and what comes back is verified like a
//! stranger's.

use std::{fmt, sync::Arc};

use registry::objects::{Entry, EntryId};
use rustls_pki_types::CertificateDer;
use server_api::node::Unsigned;
use spiffe::{
    Bundles, PrivateKey, SpiffeId, Timestamp,
    x509::{Certificate, svid},
};
use tokio::task::spawn_blocking;
use workload_api::X509Svid;

use crate::{
    clock,
    publication::{Held, MadeFor},
    rotation::Validity,
    spine::Input,
    taint::Signers,
    upstream::{Order, Shown, Upstream},
};

/// An SVID that the server gave and that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// It does not verify.
    #[error("it does not verify: {0}")]
    Unverified(#[from] svid::SvidError),
    /// It names somebody else.
    #[error("it names {0}")]
    OtherId(SpiffeId),
    /// It is for another key.
    #[error("it is for another key")]
    OtherKey,
    /// It lasts longer than its entry.
    #[error("it lasts until {0}, longer than its entry")]
    TooLong(Timestamp),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] spiffe::KeyError),
}

/// Makes an SVID for each of these entries. Gives back what happened: what was issued, and what was not.
pub(crate) async fn issue(upstream: &Upstream, entries: Vec<Arc<Entry>>) -> Vec<Input> {
    let asked: Vec<EntryId> = entries.iter().map(|entry| entry.id.clone()).collect();
    match try_issue(upstream, entries).await {
        Ok((issued, failed)) => vec![Input::Issued(issued), Input::NotIssued(failed)],
        Err(reason) => {
            tracing::warn!(count = asked.len(), reason, "no SVIDs could be made");
            vec![Input::NotIssued(asked)]
        }
    }
}

type Outcome = (Vec<(EntryId, Held)>, Vec<EntryId>);

async fn try_issue(upstream: &Upstream, entries: Vec<Arc<Entry>>) -> Result<Outcome, String> {
    let (bundles, mut signer) = upstream.signer().ok_or("there is no connection to the server")?;
    let (many, shown) = (entries.len(), signer.shown());
    let (entries, keys, orders) = aside(many, move || fresh_keys(entries, shown)).await??;
    let signed = signer.sign(orders).await.map_err(|error| error.to_string())?;
    aside(many, move || {
        let now = clock::now();
        let (mut issued, mut failed) = (Vec::new(), Vec::new());
        for ((entry, key), signed) in entries.into_iter().zip(keys).zip(signed) {
            match take(&entry, key, signed, &bundles, now) {
                Ok(held) => issued.push((entry.id.clone(), held)),
                Err(reason) => {
                    tracing::warn!(entry = %entry.id, %reason, "an SVID was not made");
                    failed.push(entry.id.clone());
                }
            }
        }
        (issued, failed)
    })
    .await
}

type Fresh = (Vec<Arc<Entry>>, Vec<PrivateKey>, Vec<Order>);

fn fresh_keys(entries: Vec<Arc<Entry>>, shown: Shown) -> Result<Fresh, String> {
    let made = entries.iter().map(|_| PrivateKey::generate()).collect::<Result<Vec<_>, _>>();
    let keys = made.map_err(|error| error.to_string())?;
    let order = |(entry, key): (&Arc<Entry>, &PrivateKey)| {
        Ok(Order { entry: entry.id.clone(), shown: shown.of(key)? })
    };
    let orders = entries.iter().zip(&keys).map(order).collect::<Result<_, String>>()?;
    Ok((entries, keys, orders))
}

/// Why one SVID of a batch was not made.
enum NotMade {
    Refused(Unsigned),
    Unfit(Unfit),
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => write!(f, "the server refused: {refused}"),
            Self::Unfit(unfit) => write!(f, "what the server signed is not used: {unfit}"),
        }
    }
}

fn take(
    entry: &Entry,
    key: PrivateKey,
    signed: Result<Vec<bytes::Bytes>, Unsigned>,
    bundles: &Bundles,
    now: Timestamp,
) -> Result<Held, NotMade> {
    let chain = signed.map_err(NotMade::Refused)?;
    let chain = chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let (svid, validity) = judge(&entry.spiffe_id, chain, key, bundles, now).map_err(NotMade::Unfit)?;
    // INVARIANT: no SVID outlives its entry.
    if entry.expires_at.is_some_and(|end| validity.until > end) {
        return Err(NotMade::Unfit(Unfit::TooLong(validity.until)));
    }
    let signers = Signers::of(&svid.chain);
    let (validity, made_for) = (validity.beginning_at(now), MadeFor::from(entry));
    Ok(Held { svid: Arc::new(svid), validity, signers, made_for })
}

/// An SVID of `id` for `key`, if that is what the chain is and the bundles vouch for it now.
pub(crate) fn judge(
    id: &SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    bundles: &Bundles,
    now: Timestamp,
) -> Result<(X509Svid, Validity), Unfit> {
    let named = svid::verify(&chain, bundles, now)?;
    if named != *id {
        return Err(Unfit::OtherId(named));
    }
    let leaf = chain.first().ok_or(Unfit::OtherKey)?;
    let leaf = Certificate::parse(leaf).map_err(svid::SvidError::from)?;
    if leaf.public_key().raw != key.public_key()? {
        return Err(Unfit::OtherKey);
    }
    let validity = Validity { from: leaf.not_before(), until: leaf.not_after() };
    Ok((X509Svid { id: named, chain, key }, validity))
}

/// Which of these do not verify any more.
pub(crate) async fn distrusted(held: Vec<(EntryId, Arc<X509Svid>)>, bundles: Arc<Bundles>) -> Vec<EntryId> {
    let judged = aside(held.len(), move || {
        let now = clock::now();
        let bad = held.into_iter().filter(|(_, svid)| svid::verify(&svid.chain, &bundles, now).is_err());
        bad.map(|(id, _)| id).collect()
    });
    judged.await.unwrap_or_default()
}

/// Cryptography for hundreds takes milliseconds, for which nobody else shall wait. For a few, another
/// thread would take longer to wake than the work does.
pub(crate) async fn aside<T: Send + 'static>(
    many: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    if many <= FEW {
        return Ok(work());
    }
    spawn_blocking(work).await.map_err(|broken| broken.to_string())
}

const FEW: usize = 4;
