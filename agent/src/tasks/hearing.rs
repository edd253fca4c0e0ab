//! Once a second the server says how new its view is. Without that word nothing is permitted for long.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{Home, fresh::Head};
use crate::clock;

impl Home {
    /// Asks each second, as long as the agent runs; more often as long as it has not heard anything yet.
    pub(crate) async fn hear(self: Arc<Self>) -> Infallible {
        let mut trouble = String::new();
        let mut next = Instant::now();
        loop {
            sleep_until(next).await;
            let every = if self.as_of().is_none() { AT_FIRST_EVERY } else { EVERY };
            next = Instant::now() + every;
            match self.ask_how_new().await {
                Ok(head) => {
                    trouble.clear();
                    self.heard(head);
                }
                Err(why) if why != trouble => {
                    tracing::debug!(why, "the server did not say how new its view is");
                    trouble = why;
                }
                Err(_) => {}
            }
        }
    }

    /// A task that begins may act at once: the server has just been reached, so it is asked how new the view is, if nobody
    /// knows that yet or not any more.
    pub(super) async fn hear_unless_fresh(&self) {
        let is_fresh = self.as_of().is_some_and(|at| clock::boot().saturating_sub(at) <= EVERY * 2);
        if !is_fresh {
            self.hear_now().await;
        }
    }

    /// Asks now, for what needs the server's word about this very moment, and waits until the view is followed to its
    /// answer. Where that does not come in time, nothing is newer than before.
    pub(crate) async fn hear_now(&self) {
        let heard = async {
            let head = self.ask_how_new().await?;
            let asked = head.asked;
            self.heard(head);
            self.reached(asked).await;
            Ok::<_, String>(())
        };
        match timeout(WITHIN, heard).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::debug!(why, "the server gave no word about this moment"),
            Err(_) => tracing::debug!("the server gave no word about this moment in time"),
        }
    }

    async fn ask_how_new(&self) -> Result<Head, String> {
        // INVARIANT: read before the question leaves, so that whatever delays the answer counts as its age.
        let asked = clock::boot();
        let fresh = self.upstream.ask_about_tasks(|mut client| async move { client.fresh().await });
        let fresh = fresh.await.map_err(|error| error.to_string())?;
        let (trust_domain, key) = self.upstream.pinned_key().ok_or("no bundle is known yet")?;
        if !fresh.is_signed_by(&key, &trust_domain) {
            return Err("its word is not signed by the pinned key".to_owned());
        }
        Ok(Head { asked, log: fresh.log, revision: fresh.revision })
    }
}

const EVERY: Duration = Duration::from_secs(1);
const AT_FIRST_EVERY: Duration = Duration::from_millis(50);
/// How long a call of tier 3 waits for the server.
const WITHIN: Duration = Duration::from_secs(2);
