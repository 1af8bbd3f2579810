//! Places where a test ends this process the way the kernel or a power cut would.
//!
//! Only the feature `testing` has them, and only the place that `TOLLHOUSE_DIE_AT` names does anything:
//! `before:settled`, `after:broadcast`. In every other build a place is an empty function (S21).

#[cfg(feature = "testing")]
pub use armed::reached;

/// A place that a crash test may name by these two words.
#[cfg(not(feature = "testing"))]
#[inline(always)]
pub fn reached(_when: &'static str, _what: &'static str) {}

#[cfg(feature = "testing")]
mod armed {
    use std::sync::LazyLock;

    use rustix::process::{Signal, getpid, kill_process};

    /// Where this process is to die.
    static PLACE: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
        let place = std::env::var("TOLLHOUSE_DIE_AT").ok()?;
        let (when, what) = place.split_once(':')?;
        Some((when.to_owned(), what.to_owned()))
    });

    /// A place that a crash test may name by these two words. The first time it is reached is the last.
    pub fn reached(when: &'static str, what: &'static str) {
        if PLACE.as_ref().is_some_and(|place| place.0 == when && place.1 == what) {
            // SIGKILL: no destructor runs, no buffer is flushed, no connection is closed politely.
            let _ = kill_process(getpid(), Signal::KILL);
            std::process::abort();
        }
    }
}
