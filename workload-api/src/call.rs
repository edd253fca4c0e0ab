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

use crate::{Source, Standing, WorkloadApi, limits::PREPARING, refusal::Refusal, session::Session};

/// A call that has not been answered.
pub(crate) struct Call<S: Source> {
    pub(crate) api: Arc<WorkloadApi<S>>,
    pub(crate) session: Arc<Session<S>>,
    /// How long the client waits for an answer, where it says so.
    pub(crate) timeout: Option<Duration>,
}

/// How a source is asked where a caller stands.
pub(crate) type Follow<S, T> = fn(&S, &<S as Source>::Caller) -> watch::Receiver<Standing<T>>;

/// A caller with what it may have: as it is, and as it will be.
pub(crate) struct Granted<S: Source, T> {
    api: Arc<WorkloadApi<S>>,
    session: Arc<Session<S>>,
    caller: Arc<S::Caller>,
    follow: Follow<S, T>,
    standings: watch::Receiver<Standing<T>>,
    held: Arc<T>,
}

impl<S: Source> Call<S> {
    /// How long this call may take: `usual`, but shorter where its client says so.
    pub(crate) fn patience(&self, usual: Duration) -> Duration {
        self.timeout.map_or(usual, |timeout| shortly_before(timeout).min(usual))
    }

    /// Who answers.
    pub(crate) fn source(&self) -> &S {
        &self.api.source
    }

    /// Who is asking, and where it stands at this moment, whatever that is.
    pub(crate) async fn standing<T>(&self, follow: Follow<S, T>) -> Result<Standing<T>, Refusal> {
        let Self { api, session, .. } = self;
        let mut caller = session.identify(&api.source, &api.queue, None).await?;
        loop {
            let standing = follow(&api.source, &caller).borrow().clone();
            if !matches!(standing, Standing::Outdated) {
                return Ok(standing);
            }
            caller = session.identify(&api.source, &api.queue, Some(&caller)).await?;
        }
    }

    /// Who is asking, and what it has. Waits where the module's rule says so.
    pub(crate) async fn granted<T>(self, follow: Follow<S, T>) -> Result<Granted<S, T>, Refusal> {
        let Self { api, session, timeout } = self;
        let asked = Instant::now();
        let answer_within = timeout.map_or(Duration::MAX, shortly_before);
        let mut caller = session.identify(&api.source, &api.queue, None).await?;
        let mut standings = follow(&api.source, &caller);
        let (mut seat, mut waited) = (None, false);
        loop {
            let standing = standings.borrow_and_update().clone();
            let (patience, refusal) = match standing {
                Standing::Holds(held) => {
                    if waited {
                        session.line.check().map_err(|_| Refusal::Changed)?;
                    }
                    api.served(&session);
                    return Ok(Granted { api, session, caller, follow, standings, held });
                }
                Standing::Outdated => {
                    caller = session.identify(&api.source, &api.queue, Some(&caller)).await?;
                    standings = follow(&api.source, &caller);
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

impl<S: Source, T> Granted<S, T> {
    /// Who answers.
    pub(crate) fn source(&self) -> &S {
        &self.api.source
    }

    /// What the caller has, as it was when it asked.
    pub(crate) fn held(&self) -> &T {
        &self.held
    }

    /// What it has at this moment, if anything.
    pub(crate) fn now(&self) -> Option<Arc<T>> {
        match &*self.standings.borrow() {
            Standing::Holds(held) => Some(held.clone()),
            _ => None,
        }
    }

    /// Whether the process is still the one that asked.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        self.session.line.check().map_err(|_| Refusal::Changed)
    }

    /// That the caller does not have what it asks for.
    pub(crate) fn no_identity(&self) -> Refusal {
        Refusal::NoIdentity(self.session.line.peer().pid())
    }
}

impl<S: Source, T: Send + Sync + 'static> Granted<S, T> {
    /// The answer now, and again whenever it differs from the one before. It ends at once with the
    /// caller's last identity, and with the process that connected.
    pub(crate) fn answers(
        self,
        encode: fn(&T) -> Result<Bytes, Refusal>,
    ) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + 'static, Refusal> {
        self.session.line.lasts();
        let first = encode(&self.held)?;
        let state = Answers { granted: self, encode, last: Bytes::new() };
        Ok(futures::stream::unfold((Some(state), Some(first)), |(state, first)| async move {
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
        }))
    }
}

struct Answers<S: Source, T> {
    granted: Granted<S, T>,
    encode: fn(&T) -> Result<Bytes, Refusal>,
    last: Bytes,
}

impl<S: Source, T> Answers<S, T> {
    async fn next(&mut self) -> Result<Bytes, Refusal> {
        let Granted { api, session, caller, follow, standings, .. } = &mut self.granted;
        let revoked = Refusal::NoIdentity(session.line.peer().pid());
        loop {
            standings.changed().await.map_err(|_| revoked)?;
            let mut standing = standings.borrow_and_update().clone();
            while matches!(standing, Standing::Outdated) {
                *caller = session.identify(&api.source, &api.queue, Some(caller)).await?;
                *standings = follow(&api.source, caller);
                standing = standings.borrow_and_update().clone();
            }
            match standing {
                Standing::Holds(held) => {
                    let answer = (self.encode)(&held)?;
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
