//! Opening hours: when doors close, in which way, and whether the last of them has.

use std::collections::HashSet;
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
#[derive(Debug, Clone, Default)]
pub(super) struct Farewell {
    /// For how long those may stay who are connected and ask nothing. Each answer is the last on its connection by now,
    /// so whoever asks again leaves by himself and loses nothing; whoever is shown out may be asking this very moment.
    pub(super) linger: Duration,
    /// The sockets, by name, at which another process listens from now on: who waits there is its guest.
    pub(super) inherited: HashSet<String>,
}

/// What a door hears.
pub(crate) struct Shift {
    /// What the door's socket is called.
    name: String,
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
    /// For one more door, whose socket has this name.
    pub(crate) fn shift(&self, name: impl Into<String>) -> Shift {
        let (farewell, posts) = (Arc::clone(&self.farewell), Arc::clone(&self.posts));
        Shift { name: name.into(), closing: self.closing.subscribe(), farewell, posts, post: self.posts.subscribe() }
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

    /// Whether another process goes on where this door closes.
    pub(super) fn is_inherited(&self) -> bool {
        self.farewell.get().is_some_and(|farewell| farewell.inherited.contains(&self.name))
    }

    /// For how long those may stay who are connected and ask nothing, once it is known that the door has to close.
    pub(super) fn linger(&self) -> Duration {
        self.farewell.get().map_or(Duration::ZERO, |farewell| farewell.linger)
    }

    /// Leaves the post: nobody comes in here any more. Returns when that holds for every door, with for how long
    /// those who are inside may stay.
    pub(super) async fn end(self) -> Duration {
        let linger = self.linger();
        let Self { posts, post, .. } = self;
        drop(post);
        posts.closed().await;
        linger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_door_to_close_lets_all_go_on() {
        let hours = Hours::default();
        let (mut first, second) = (hours.shift("first"), hours.shift("second"));
        hours.close(Farewell { linger: Duration::from_secs(7), inherited: HashSet::from(["second".to_owned()]) });
        first.over().await;
        assert_eq!((first.is_inherited(), second.is_inherited()), (false, true));
        let mut first = tokio::spawn(first.end());
        let waits = tokio::time::timeout(Duration::from_millis(20), &mut first).await;
        assert!(waits.is_err(), "somebody may still come in through the second");
        assert_eq!(second.end().await, Duration::from_secs(7));
        assert_eq!(first.await.expect("it does not panic"), Duration::from_secs(7));
        hours.all_shut().await;
    }
}
