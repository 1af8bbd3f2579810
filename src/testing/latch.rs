//! Something that happens when a test says so, not when a clock does.

use tokio::sync::watch;

/// Holds back whoever waits at it until somebody opens it. It stays open. Copies are the same latch.
#[derive(Debug, Clone)]
pub struct Latch(watch::Sender<bool>);

impl Latch {
    /// A latch that nobody passes yet.
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody pass, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Returns when it is open.
    pub async fn passed(&self) {
        // Ends in an error only when the sender is gone, and we are the sender.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
