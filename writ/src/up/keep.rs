//! Starting a daemon again that ended by itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use daemon::Shutdown;
use serde::de::IgnoredAny;

use super::child::{Child, Order};
use crate::cli::output::remark;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A daemon that served this long ended for a new reason.
const SERVED_WELL: Duration = Duration::from_secs(60);

/// Keeps a daemon running until the end is requested, and ends it then.
pub(super) async fn keep(order: Order, first: Child, shutdown: Shutdown) {
    let name = order.role.name();
    let mut child = first;
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let how = tokio::select! {
            () = shutdown.requested() => return child.stop().await,
            how = child.ended() => how,
        };
        remark(&format!("writ: the {name} ended ({how}); starting it again"));
        if started.elapsed() > SERVED_WELL {
            pause = FIRST_PAUSE;
        }
        let again = tokio::select! {
            () = shutdown.requested() => return,
            again = restart(&order, &mut pause) => again,
        };
        child = again;
    }
}

/// Starts the daemon, with longer and longer pauses, until it serves.
async fn restart(order: &Order, pause: &mut Duration) -> Child {
    loop {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        let started: Result<(Child, IgnoredAny)> = Child::start(order).await;
        match started {
            Ok((child, _)) => return child,
            Err(error) => remark(&format!("writ: {error:#}; trying again in {pause:?}")),
        }
    }
}
