//! Uploading: the server says from which record on it wants them, and acknowledges what is durable there.

use std::{convert::Infallible, time::Duration};

use audit::SignedHead;
use server_api::{
    CallError,
    recorder::{Answer, Client, Record as Sent, Upload},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tonic::transport::Channel;

use super::{End, Heads, Reader, Spool, Spooled};
use crate::upstream::Upstream;

/// Signs heads, and uploads over whatever connection stands, for as long as this is polled.
pub(crate) async fn work(spool: &Spool, upstream: &Upstream) -> Infallible {
    let (send, mut heads) = watch::channel(None);
    let signing = spool.sign_heads(|| upstream.key(), send);
    let uploading = async {
        let mut connections = upstream.connections();
        loop {
            let Some(channel) = connections.borrow_and_update().clone().filter(|_| upstream.has_a_log())
            else {
                if connections.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            if let Some(certificate) = upstream.certificate() {
                spool.know(certificate.id.as_str());
            }
            tokio::select! {
                over = converse(spool, upstream, channel, &mut heads) => {
                    if let Err(error) = over {
                        tracing::debug!(%error, "audit records are not uploaded now");
                    }
                    tokio::select! { () = sleep(TRY_AGAIN) => {}, _ = connections.changed() => {} }
                }
                _ = connections.changed() => {}
            }
        }
    };
    tokio::select! {
        never = signing => match never {},
        never = uploading => never,
    }
}

/// Uploads one spool over one connection until either is another one.
async fn converse(
    spool: &Spool,
    upstream: &Upstream,
    channel: Channel,
    heads: &mut Heads,
) -> Result<(), CallError> {
    let mut end = spool.end();
    let newest = end.wait_for(|end| !end.node.is_empty() && end.seq > 0).await;
    let Ok(begun) = newest.map(|end| end.clone()) else { return Ok(()) };
    let (mut upload, next) = match Client::new(channel).upload(begun.spool, spool.oldest(), begun.seq).await?
    {
        (upload, Answer::Begun { next, contradiction: None }) => (upload, next),
        (_, Answer::Begun { contradiction: Some(why), .. }) => {
            spool.begin_anew(&why);
            return Ok(());
        }
        (_, Answer::Acknowledged(_)) => {
            return Err(CallError::Nonsense("an upload is answered by where it begins".to_owned()));
        }
    };
    let mut reader = Some(spool.reader(next.saturating_sub(1)));
    let mut wanted = spool.wanted.subscribe();
    let (mut under_way, mut sent, mut next_at) = (0, next.saturating_sub(1), Instant::now());
    heads.mark_changed();
    end.mark_changed();
    loop {
        tokio::select! {
            answer = upload.answer() => match answer? {
                Answer::Acknowledged(seq) => {
                    under_way -= 1;
                    spool.acknowledge(begun.spool, seq);
                    end.mark_changed();
                }
                Answer::Begun { contradiction: Some(why), .. } => {
                    spool.begin_anew(&why);
                    return Ok(());
                }
                Answer::Begun { contradiction: None, .. } => {
                    return Err(CallError::Nonsense("an upload begins once".to_owned()));
                }
            },
            changed = due(&mut end, &mut wanted, sent, next_at), if under_way < UNDER_WAY => {
                let is_another = changed.is_err() || end.borrow_and_update().spool != begun.spool;
                if is_another {
                    return Ok(());
                }
                let (read, records) = read(reader.take()).await?;
                reader = read;
                if let Some(last) = records.last() {
                    under_way += 1;
                    let bytes: usize = records.iter().map(|record| record.leaf.len() + record.sealed.len()).sum();
                    sent = last.seq;
                    next_at = Instant::now() + if bytes < BATCH / 2 { GATHERED } else { Duration::ZERO };
                    let sent = records.into_iter().map(|record| Sent { leaf: record.leaf, sealed: record.sealed });
                    upload.send(sent.collect()).await?;
                    end.mark_changed(); // there may be more
                }
            }
            Ok(()) = heads.changed() => {
                let head = heads.borrow_and_update().clone();
                show(&mut upload, upstream, head.filter(|signed| signed.head.spool == begun.spool)).await?;
            }
        }
    }
}

/// There is more to send. What nobody waits for is gathered for a moment, so that the server makes it durable as one.
async fn due(
    end: &mut watch::Receiver<End>,
    wanted: &mut watch::Receiver<u64>,
    sent: u64,
    at: Instant,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        () = sleep_until(at) => {}
        _ = wanted.wait_for(|seq| *seq > sent) => {}
    }
    end.changed().await
}

async fn show(upload: &mut Upload, upstream: &Upstream, head: Option<SignedHead>) -> Result<(), CallError> {
    let (Some(head), Ok(public_key)) = (head, upstream.key().public_key()) else { return Ok(()) };
    upload.show(head, public_key).await
}

/// Reads on, on a thread that may wait for the disk.
async fn read(reader: Option<Reader>) -> Result<(Option<Reader>, Vec<Spooled>), CallError> {
    let Some(mut reader) = reader else { return Ok((None, Vec::new())) };
    let done = tokio::task::spawn_blocking(move || {
        let records = reader.next(BATCH);
        (reader, records)
    });
    let failed =
        |error: &dyn std::fmt::Display| CallError::Unavailable(format!("the spool cannot be read: {error}"));
    let (reader, records) = done.await.map_err(|error| failed(&error))?;
    Ok((Some(reader), records.map_err(|error| failed(&error))?))
}

/// Batches that are not acknowledged yet.
const UNDER_WAY: usize = 4;
/// After a batch, others may wait so long.
const GATHERED: Duration = Duration::from_millis(20);
/// About so many bytes of records go together.
const BATCH: usize = 256 * 1024;
const TRY_AGAIN: Duration = Duration::from_secs(1);
