//! Opening hours: when doors close, in which way, and whether the last of them has.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

/// Tells doors to close.
#[derive(Debug)]
pub(crate) struct Hours {
    closing: watch::Sender<bool>,
    farewell: Arc<OnceLock<Farewell>>,
    posts: Arc<watch::Sender<()>>,
}

/// How doors close.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Farewell {
    /// For how long those may stay who are connected and ask nothing. Each answer is the last on its connection by now,
    /// so whoever asks again leaves by himself and loses nothing; whoever is shown out may be asking this very moment.
    pub(super) linger: Duration,
}

/// What a door hears.
pub(crate) struct Shift {
    closing: watch::Receiver<bool>,
    farewell: Arc<OnceLock<Farewell>>,
    posts: Arc<watch::Sender<()>>,
    /// There as long as somebody may still come in through this door.
    post: watch::Receiver<()>,
}

impl Default for Hours {
    fn default() -> Self {
        Self { closing: watch::Sender::new(false), farewell: Arc::default(), posts: Arc::new(watch::Sender::new(())) }
    }
}

impl Hours {
    /// For one more door.
    pub(crate) fn shift(&self) -> Shift {
        let (farewell, posts) = (Arc::clone(&self.farewell), Arc::clone(&self.posts));
        Shift { closing: self.closing.subscribe(), farewell, posts, post: self.posts.subscribe() }
    }

    /// Closes the doors. The first word about how is the last.
    pub(super) fn close(&self, farewell: Farewell) {
        let _ = self.farewell.set(farewell);
        self.closing.send_replace(true);
    }

    /// Returns when nobody comes in any more through any door.
    pub(super) async fn all_shut(&self) {
        self.posts.closed().await;
    }
}

impl Shift {
    /// Returns when the door has to close.
    pub(super) async fn over(&mut self) {
        // Fails only when the server is gone, which is the end as well.
        let _ = self.closing.wait_for(|closing| *closing).await;
    }

    /// What connections watch to learn the same.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.clone()
    }

    /// Leaves the post: nobody comes in here any more. Returns when that holds for every door, with how to go on.
    pub(super) async fn end(self) -> Farewell {
        let Self { farewell, posts, post, .. } = self;
        drop(post);
        posts.closed().await;
        farewell.get().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_door_to_close_lets_all_go_on() {
        let hours = Hours::default();
        let (mut first, second) = (hours.shift(), hours.shift());
        hours.close(Farewell { linger: Duration::from_secs(7) });
        first.over().await;
        let mut first = tokio::spawn(first.end());
        let waits = tokio::time::timeout(Duration::from_millis(20), &mut first).await;
        assert!(waits.is_err(), "somebody may still come in through the second");
        assert_eq!(second.end().await.linger, Duration::from_secs(7));
        assert_eq!(first.await.expect("it does not panic").linger, Duration::from_secs(7));
        hours.all_shut().await;
    }
}
