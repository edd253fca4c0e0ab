//! One call of a stream: the first answer, and everything that follows it.
//!
//! The Workload API promises the first answer at once. There is one departure: a process that has been
//! told that it has no identity, and asks again, waits. Its stream stays open and silent, so that an
//! entry made for it reaches it in milliseconds instead of after its own back-off.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use tokio::{sync::watch, time::Instant};
use tonic::Status;

use crate::{Source, Standing, Svids, WorkloadApi, limits::PREPARING, refusal::Refusal, session::Session};

/// A call that has not been answered.
pub(crate) struct Call<S: Source> {
    pub(crate) api: Arc<WorkloadApi<S>>,
    pub(crate) session: Arc<Session<S>>,
    /// How long the client waits for an answer, where it says so.
    pub(crate) timeout: Option<Duration>,
}

/// A caller with its identities: as they are, and as they will be.
pub(crate) struct Granted<S: Source> {
    api: Arc<WorkloadApi<S>>,
    session: Arc<Session<S>>,
    caller: Arc<S::Caller>,
    standings: watch::Receiver<Standing>,
    svids: Arc<Svids>,
}

impl<S: Source> Call<S> {
    /// Who is asking, and what it has. Waits where the module's rule says so.
    pub(crate) async fn granted(self) -> Result<Granted<S>, Refusal> {
        let Self { api, session, timeout } = self;
        let asked = Instant::now();
        let answer_within = timeout.map_or(Duration::MAX, shortly_before);
        let mut caller = session.identify(&api.source, &api.queue, None).await?;
        let mut standings = api.source.follow(&caller);
        let (mut seat, mut waited) = (None, false);
        loop {
            let standing = standings.borrow_and_update().clone();
            let (patience, refusal) = match standing {
                Standing::Holds(svids) => {
                    if waited {
                        session.line.check().map_err(|_| Refusal::Changed)?;
                    }
                    api.served(&session);
                    return Ok(Granted { api, session, caller, standings, svids });
                }
                Standing::Outdated => {
                    caller = session.identify(&api.source, &api.queue, Some(&caller)).await?;
                    standings = api.source.follow(&caller);
                    continue;
                }
                Standing::Preparing => (PREPARING, Refusal::NotReady),
                Standing::Nothing => {
                    let refusal = Refusal::NoIdentity(session.line.peer().pid());
                    if seat.is_none() {
                        seat = Some(api.seat(&session).ok_or(refusal)?);
                    }
                    (api.limits.waiting, refusal)
                }
            };
            let until = asked + patience.min(answer_within).min(LONGEST);
            waited = true;
            match tokio::time::timeout_at(until, standings.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Refusal::NoIdentity(session.line.peer().pid())),
                Err(_) => return Err(refusal),
            }
        }
    }
}

impl<S: Source> Granted<S> {
    /// The answer now, and again whenever it differs from the one before. It ends at once with the
    /// caller's last identity, and with the process that connected.
    pub(crate) fn answers(
        self,
        encode: fn(&Svids) -> Bytes,
    ) -> impl Stream<Item = Result<Bytes, Status>> + Send + 'static {
        let first = encode(&self.svids);
        let state = Answers { granted: self, encode, last: Bytes::new() };
        futures::stream::unfold((Some(state), Some(first)), |(state, first)| async move {
            let mut state = state?;
            let next = match first {
                Some(first) => Ok(first),
                None => state.next().await,
            };
            match next {
                Ok(answer) => {
                    state.last = answer.clone();
                    Some((Ok(answer), (Some(state), None)))
                }
                Err(refusal) => Some((Err(refusal.into()), (None, None))),
            }
        })
    }
}

struct Answers<S: Source> {
    granted: Granted<S>,
    encode: fn(&Svids) -> Bytes,
    last: Bytes,
}

impl<S: Source> Answers<S> {
    async fn next(&mut self) -> Result<Bytes, Refusal> {
        let Granted { api, session, caller, standings, .. } = &mut self.granted;
        let revoked = Refusal::NoIdentity(session.line.peer().pid());
        loop {
            standings.changed().await.map_err(|_| revoked)?;
            let mut standing = standings.borrow_and_update().clone();
            while matches!(standing, Standing::Outdated) {
                *caller = session.identify(&api.source, &api.queue, Some(caller)).await?;
                *standings = api.source.follow(caller);
                standing = standings.borrow_and_update().clone();
            }
            match standing {
                Standing::Holds(svids) => {
                    let answer = (self.encode)(&svids);
                    if answer != self.last {
                        // The process may have ended or become another one since it asked.
                        session.line.check().map_err(|_| Refusal::Changed)?;
                        return Ok(answer);
                    }
                }
                Standing::Nothing => return Err(revoked),
                Standing::Preparing => return Err(Refusal::NotReady),
                Standing::Outdated => {}
            }
        }
    }
}

/// So long before its client gives up a call is answered: a refusal says more than a lost deadline.
fn shortly_before(timeout: Duration) -> Duration {
    timeout - (timeout / 10).min(Duration::from_millis(100))
}

/// Nobody waits longer, whatever is configured.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_answered_shortly_before_its_deadline() {
        assert_eq!(shortly_before(Duration::from_secs(5)), Duration::from_millis(4900));
        assert_eq!(shortly_before(Duration::from_millis(100)), Duration::from_millis(90));
        assert_eq!(shortly_before(Duration::ZERO), Duration::ZERO);
    }
}
