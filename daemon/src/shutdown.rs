//! The orderly end of a daemon.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Asks a daemon to end. Cloned into everything that must notice.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Requests a [`Shutdown`]. Dropping the last clone of it requests nothing.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<watch::Sender<bool>>);

impl Shutdown {
    /// One that is requested by its trigger alone.
    pub fn manual() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(Arc::new(sender)), Self(receiver))
    }

    /// One that is requested by SIGTERM or SIGINT, or by its trigger. From then on these signals no
    /// longer end the process by themselves. Needs a tokio runtime.
    pub fn on_signals() -> io::Result<(Trigger, Self)> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (trigger, shutdown) = Self::manual();
        let requested = trigger.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            requested.request();
        });
        Ok((trigger, shutdown))
    }

    /// Waits until the end is requested.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|requested| *requested).await.is_err() {
            // All triggers are gone: nobody can ever ask.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the end has been requested.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }
}

impl Trigger {
    /// Requests the end; repeats change nothing.
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_notices_and_late_ones_too() {
        let (trigger, shutdown) = Shutdown::manual();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.requested().await }
        });
        assert!(!shutdown.is_requested());
        trigger.request();
        drop(trigger);
        waiting.await.unwrap();
        shutdown.clone().requested().await;
        assert!(shutdown.is_requested());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_trigger_is_not_a_request() {
        let (trigger, shutdown) = Shutdown::manual();
        drop(trigger);
        let waited = tokio::time::timeout(std::time::Duration::from_secs(3600), shutdown.requested());
        assert!(waited.await.is_err());
    }
}
