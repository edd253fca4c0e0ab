//! How a daemon says that it serves.

use tokio::sync::oneshot;

/// Called once by a daemon when it serves, with what others need to reach it. A daemon prints
/// nothing itself: who started it decides what a person or a script gets to see.
pub struct Ready<T>(Box<dyn FnOnce(T) + Send>);

impl<T: Send + 'static> Ready<T> {
    /// Calls `then` when the daemon serves.
    pub fn new(then: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(then))
    }

    /// A signal and where it arrives; an error there means that the daemon ended before it served.
    pub fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        // The receiver may have lost interest; the daemon serves all the same.
        (Self::new(move |serving| drop(sender.send(serving))), receiver)
    }

    /// For callers that do not ask.
    pub fn ignored() -> Self {
        Self::new(drop)
    }

    /// The daemon serves now.
    pub fn announce(self, serving: T) {
        (self.0)(serving);
    }
}
