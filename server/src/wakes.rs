//! Who is to look again after a commit: only the streams of nodes that it concerns.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use registry::Audience;
use spiffe::SpiffeId;
use tokio::sync::Notify;

/// The streams that follow, by node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wakes(Arc<Mutex<HashMap<SpiffeId, Vec<Weak<Notify>>>>>);

/// One stream's place among them.
#[derive(Debug)]
pub(crate) struct Sleeper {
    node: SpiffeId,
    wake: Arc<Notify>,
    wakes: Wakes,
}

impl Wakes {
    /// A place for a stream of `node`. A wake that comes while it is awake is not lost.
    pub(crate) fn sleeper(&self, node: &SpiffeId) -> Sleeper {
        let wake = Arc::new(Notify::new());
        self.0.lock().entry(node.clone()).or_default().push(Arc::downgrade(&wake));
        Sleeper { node: node.clone(), wake, wakes: self.clone() }
    }

    /// Wakes the streams of these nodes.
    pub(crate) fn wake(&self, audience: &Audience) {
        let streams = self.0.lock();
        let of = |streams: &[Weak<Notify>]| {
            streams.iter().filter_map(Weak::upgrade).for_each(|stream| stream.notify_one());
        };
        match audience {
            Audience::Nobody => {}
            Audience::Nodes(nodes) => nodes.iter().filter_map(|node| streams.get(node)).for_each(|s| of(s)),
            Audience::Everybody => streams.values().for_each(|s| of(s)),
        }
    }
}

impl Sleeper {
    /// Waits for the next commit that concerns the node.
    pub(crate) async fn sleep(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut streams = self.wakes.0.lock();
        if let Some(of_node) = streams.get_mut(&self.node) {
            of_node.retain(|stream| !std::ptr::eq(stream.as_ptr(), Arc::as_ptr(&self.wake)));
            if of_node.is_empty() {
                streams.remove(&self.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    async fn woken(sleeper: &Sleeper) -> bool {
        tokio::time::timeout(Duration::from_millis(10), sleeper.sleep()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_wakes_the_nodes_it_concerns_and_no_other() {
        let wakes = Wakes::default();
        let node =
            |name: &str| format!("spiffe://acme.example/spire/agent/join_token/{name}").parse().unwrap();
        let (a, b) = (wakes.sleeper(&node("a")), wakes.sleeper(&node("b")));
        wakes.wake(&Audience::of(BTreeSet::from([node("a")])));
        assert!(woken(&a).await && !woken(&b).await);
        wakes.wake(&Audience::Everybody);
        assert!(woken(&a).await && woken(&b).await);
        drop(a);
        wakes.wake(&Audience::Everybody);
        assert_eq!(wakes.0.lock().len(), 1, "who left is forgotten");
    }
}
