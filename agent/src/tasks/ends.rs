//! What ends a task by itself, each told by the kernel or a clock that runs also while the machine sleeps; and the
//! renewal of its SVID until then.

use std::{sync::Arc, time::Duration};

use authz::chain::State;
use peer::{Changed, Peer, Watch, launch::Cgroup};
use registry::objects::Reason;
use rustls_pki_types::CertificateDer;
use spiffe::{PrivateKey, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::{Home, Live, live::Credential};
use crate::{clock, issue::judge, jitter::Seed, reactions::task_ended::task_ended, rotation::renewal};

impl Home {
    /// Stays with a task until it is over.
    pub(crate) fn outlive(self: &Arc<Self>, live: &Arc<Live>) {
        let (home, live) = (self.clone(), live.clone());
        tokio::spawn(async move {
            let reason = tokio::select! {
                biased;
                _ = live.ended() => return,
                reason = domain_ended(&home.watch, &live) => reason,
                () = time_is_over(&live) => Reason::Ttl,
                never = renewed(&home, &live) => match never {},
            };
            task_ended(&home, live.id(), reason).await;
        });
    }
}

/// Returns when there is no process any more that the task was begun for.
async fn domain_ended(watch: &Arc<Watch>, live: &Live) -> Reason {
    match (live.domain.group(), live.domain.as_cgroup()) {
        (Some(peer), _) => group_ended(watch, peer).await,
        (None, Some(cgroup)) => cgroup_ended(cgroup).await,
        (None, None) => Reason::DomainDead,
    }
}

async fn group_ended(watch: &Arc<Watch>, peer: &Arc<Peer>) -> Reason {
    let watched = watch.watch(peer);
    // Whatever happened before it was watched.
    let changed = match peer.check_closely() {
        Err(changed) => changed,
        Ok(()) => tokio::select! {
            () = peer.exited() => return Reason::DomainDead,
            changed = watched.changed() => changed,
        },
    };
    match changed {
        Changed::Exited { .. } => Reason::DomainDead,
        Changed::Image { .. }
        | Changed::Executed { .. }
        | Changed::Moved { .. }
        | Changed::Credentials { .. }
        | Changed::Unreadable { .. } => Reason::Changed,
    }
}

async fn cgroup_ended(cgroup: &Cgroup) -> Reason {
    if let Err(error) = cgroup.emptied().await {
        tracing::warn!(cgroup = cgroup.path(), %error, "the cgroup of a task cannot be watched; the task ends");
    }
    Reason::DomainDead
}

/// Returns when the task's time is over, by the wall clock or by boot time, whichever is first: a clock that is set back
/// gives it no more time.
async fn time_is_over(live: &Live) {
    let (wall, boot) = (clock::now(), clock::boot());
    let until = boot + live.grant.expires_at.since(wall);
    loop {
        let left = live.grant.expires_at.since(clock::now()).min(until.saturating_sub(clock::boot()));
        if left.is_zero() {
            return;
        }
        // The timer stops while the machine sleeps, so nobody sleeps long at a time.
        sleep_until(Instant::now() + left.min(LONGEST_SLEEP)).await;
    }
}

/// Has the task's SVID renewed ahead of its end, as long as the task may act.
async fn renewed(home: &Home, live: &Live) -> std::convert::Infallible {
    let seed = Seed(rand::random());
    let (mut state, mut failures) = (live.state(), 0);
    let mut again = due(seed, live);
    loop {
        let now = clock::now();
        let may = *state.borrow_and_update() == State::Active;
        if !may || now < again {
            let pause = again.since(now).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
            tokio::select! {
                _ = state.changed() => {}
                () = sleep_until(Instant::now() + pause) => {}
            }
            continue;
        }
        match renew(home, live).await {
            Ok(()) => {
                failures = 0;
                again = due(seed, live);
            }
            Err(why) => {
                failures += 1;
                tracing::warn!(task = %live.id(), why, "the SVID of a task was not renewed");
                again = clock::now()
                    + seed.back_off(live.id().as_str(), failures, RENEW_AGAIN, LONGEST_RENEW_AGAIN);
            }
        }
    }
}

/// When the SVID that is held is to be renewed. One that ends with its task is not.
fn due(seed: Seed, live: &Live) -> Timestamp {
    match &*live.credential().borrow() {
        Some(held) if held.validity.until >= live.grant.expires_at => live.grant.expires_at,
        Some(held) => renewal(seed, live.id().as_str(), held.validity),
        None => clock::now(),
    }
}

async fn renew(home: &Home, live: &Live) -> Result<(), String> {
    let key = PrivateKey::generate().map_err(|error| error.to_string())?;
    let public_key = key.public_key().map_err(|error| error.to_string())?;
    let chain = home.upstream.ask_about_tasks(|mut client| {
        let public_key = public_key.clone();
        async move { client.renew(live.id(), &public_key).await }
    });
    let chain = chain.await.map_err(|error| error.to_string())?;
    let chain = chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let (bundles, now) = (home.upstream.bundles(), clock::now());
    let (svid, validity) =
        judge(&live.spiffe_id, chain, key, &bundles, now).map_err(|error| error.to_string())?;
    if validity.until > live.grant.expires_at {
        return Err(format!("it lasts until {}, longer than the task", validity.until));
    }
    let held = Credential { svid: Arc::new(svid), validity: validity.beginning_at(now) };
    home.book.hold(live, Arc::new(held));
    Ok(())
}

const LONGEST_SLEEP: Duration = Duration::from_secs(1);
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);
const RENEW_AGAIN: Duration = Duration::from_millis(500);
const LONGEST_RENEW_AGAIN: Duration = Duration::from_secs(10);
