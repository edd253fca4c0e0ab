//! Once a second the server says how new its view is. Without that word nothing is permitted for long.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use registry::objects::TenantName;
use tokio::time::{sleep, timeout};

use super::{Home, fresh::Head};
use crate::clock;

impl Home {
    /// Asks each second, and at once over each new connection, as long as the agent runs.
    pub(crate) async fn hear(self: Arc<Self>) -> Infallible {
        let mut connections = self.upstream.connections();
        let mut trouble = String::new();
        loop {
            match self.ask_how_new().await {
                Ok(head) => {
                    trouble.clear();
                    let tenants: BTreeSet<_> =
                        self.all().iter().map(|live| live.grant.tenant.clone()).collect();
                    for tenant in &tenants {
                        self.learn_key(tenant).await;
                    }
                    self.heard(head);
                }
                Err(why) if why != trouble => {
                    tracing::debug!(why, "the server did not say how new its view is");
                    trouble = why;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(EVERY) => {}
                // An error means that the agent is ending.
                Ok(()) = connections.changed() => {}
            }
        }
    }

    /// Whoever began a task may call at once: the server has just been reached, so it is asked for what decisions need
    /// and nobody here knows yet, or not any more.
    pub(super) async fn may_act_at_once(&self, tenant: &TenantName) {
        self.learn_key(tenant).await;
        let is_fresh = self.as_of().is_some_and(|at| clock::boot().saturating_sub(at) <= EVERY * 2);
        if !is_fresh {
            self.hear_now().await;
        }
    }

    async fn learn_key(&self, tenant: &TenantName) {
        if let Err(error) = self.keys.learn(tenant).await {
            tracing::warn!(%tenant, %error, "the server did not tell a tenant's key; calls of its actors are refused until it does");
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
/// How long a call of tier 3 waits for the server.
const WITHIN: Duration = Duration::from_secs(2);
