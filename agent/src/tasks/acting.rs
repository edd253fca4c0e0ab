//! Where a process stands that is an actor's: its plain SPIFFE ID is not handed out, and what it has depends on its live
//! tasks.

use std::sync::Arc;

use authz::chain::State;
use peer::Peer;
use tokio::sync::watch;
use workload_api::{Identity, Standing, Svids};

use super::{Home, Live};
use crate::{clock, identities::Identities};

/// Follows the X509-SVIDs of a process: those of its plain entries, and those of its live tasks whose key is exported.
pub(crate) fn follow(
    home: &Arc<Home>,
    identities: &Arc<Identities>,
    peer: &Arc<Peer>,
    mut plain: watch::Receiver<Standing<Svids>>,
) -> watch::Receiver<Standing<Svids>> {
    let mut changes = home.book.changes();
    changes.mark_unchanged();
    let first = standing(home, identities, peer, &plain.borrow_and_update().clone());
    let (told, follower) = watch::channel(first);
    let (home, identities, peer) = (home.clone(), identities.clone(), peer.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = told.closed() => return,
                changed = plain.changed() => if changed.is_err() { return },
                changed = changes.changed() => if changed.is_err() { return },
            }
            let now = standing(&home, &identities, &peer, &plain.borrow_and_update().clone());
            told.send_replace(now);
        }
    });
    follower
}

fn standing(home: &Home, identities: &Identities, peer: &Peer, plain: &Standing<Svids>) -> Standing<Svids> {
    if matches!(plain, Standing::Outdated) {
        return Standing::Outdated;
    }
    let live: Vec<_> = home.book.of(peer).into_iter().filter(|live| live.is_active()).collect();
    if live.is_empty() {
        return plain.clone();
    }
    let exported: Vec<_> = live.iter().filter_map(exported).collect();
    let (mut held, mut bundles) = match plain {
        Standing::Holds(svids) => (svids.identities().to_vec(), svids.bundles().clone()),
        _ => (Vec::new(), identities.bundles_of(&live[0].spiffe_id)),
    };
    let awaited = live.iter().any(|live| live.grant.export_key) && exported.is_empty();
    held.extend(exported);
    if held.is_empty() && awaited {
        return Standing::Preparing;
    }
    for live in &live {
        bundles.extend(identities.bundles_of(&live.spiffe_id));
    }
    Standing::Holds(Arc::new(if held.is_empty() {
        Svids::withheld(bundles)
    } else {
        Svids::new(held, bundles)
    }))
}

/// The SVID of a task whose mandate lets its processes have the key.
fn exported(live: &Arc<Live>) -> Option<Identity> {
    let credential = live.grant.export_key.then(|| live.credential().borrow().clone())??;
    let may = *live.state().borrow() == State::Active && clock::now() < credential.validity.until;
    // One hint each: a process may have several tasks.
    may.then(|| Identity { svid: credential.svid.clone(), hint: live.id().to_string() })
}
