//! [`News`]: that somebody whom attestors ask, such as a kubelet, says something else than before of processes
//! that stay what they are.

use tokio::sync::watch;

/// Told by attestors, and heard by whoever remembers what they said.
#[derive(Debug, Default)]
pub struct News(watch::Sender<u64>);

impl News {
    /// Something that was said is no longer so.
    pub(crate) fn tell(&self) {
        self.0.send_modify(|times| *times += 1);
    }

    /// Changes each time that something was told.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
