//! What comes over a connection, and where it is told.

use tokio::sync::mpsc;

use super::Trouble;
use crate::spine::Input;

/// What comes over a connection.
#[derive(Debug)]
pub(crate) enum News {
    /// Something for the spine.
    Input(Input),
    /// The server was heard of.
    Heard,
    /// The connection is over, and why.
    Over(Trouble),
}

/// Where news of one connection goes. News of an earlier connection counts no more.
#[derive(Clone)]
pub(crate) struct Teller {
    /// Which connection this is.
    pub(crate) connection: u64,
    /// Where it is told.
    pub(crate) to: mpsc::Sender<(u64, News)>,
}

impl Teller {
    pub(super) async fn tell(&self, news: News) {
        // Nobody listens any more when the agent ends.
        let _ = self.to.send((self.connection, news)).await;
    }
}
