//! Tells when the file, or a list that it names, may have changed.
//!
//! What is watched is the file's directory: editors replace a file, and Kubernetes replaces the symbolic link `..data`
//! beside it; a watch on the file itself would follow the old one and be blind from then on. Mounts that send no
//! events (a `subPath`, a network file system) are why the file is also read every few seconds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout_at};

use super::{ListFile, directory_of, hash, read};

/// A change is looked at when nothing has happened for this long: one replacement is several events.
const QUIET: Duration = Duration::from_millis(200);
/// A change is looked at after this long even if events keep coming.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how many times `QUIET` a file whose last line has no end is not believed.
const HALF_WRITTEN: u32 = 15;
/// How often the file is read without any event.
const POLL: Duration = Duration::from_secs(10);

/// Watches one file, and the lists that it names.
pub struct Watcher {
    path: PathBuf,
    /// Of the content that was returned for last.
    known: String,
    /// As they were when they were last looked at.
    lists: Vec<ListFile>,
    events: mpsc::Receiver<()>,
    /// `None` when the system offers no events; the file is still read every few seconds.
    _notify: Option<RecommendedWatcher>,
    hangup: Option<Hangup>,
    poll: tokio::time::Interval,
    /// An event that has not been looked at; kept here so that `changed` can be dropped and called again.
    pending: bool,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("path", &self.path).field("known", &self.known).finish_non_exhaustive()
    }
}

enum Woken {
    /// The file may have changed.
    Maybe,
    /// SIGHUP: somebody wants it read again, and the secrets it refers to.
    Asked,
}

impl Watcher {
    /// Watches a file whose content was loaded with this [`hash`](super::Loaded::hash). Needs a Tokio runtime.
    pub fn new(path: &Path, loaded: &str) -> Self {
        Self::polling_every(path, loaded, POLL)
    }

    /// As `new`, reading the file at another pace.
    pub fn polling_every(path: &Path, loaded: &str, pace: Duration) -> Self {
        let (sender, events) = mpsc::channel(1);
        let mut poll = interval_at(Instant::now() + pace, pace);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            path: path.to_owned(),
            known: loaded.to_owned(),
            lists: Vec::new(),
            events,
            _notify: events_of(&[path], sender),
            hangup: hangup(),
            poll,
            pending: false,
        }
    }

    /// From now on watches these lists besides, and no others.
    pub fn follow(&mut self, lists: &[ListFile]) {
        let paths = |lists: &[ListFile]| lists.iter().map(|list| list.path.clone()).collect::<Vec<_>>();
        if paths(lists) != paths(&self.lists) {
            let (sender, events) = mpsc::channel(1);
            let files: Vec<&Path> = std::iter::once(&*self.path).chain(lists.iter().map(|list| &*list.path)).collect();
            self._notify = events_of(&files, sender);
            self.events = events;
            // What happened in between went unheard.
            self.pending = true;
        }
        self.lists = lists.to_vec();
    }

    /// Returns when the file's content differs from what it was the last time, when a list was written, or when somebody sent
    /// SIGHUP.
    ///
    /// A file that is gone is not a change: the gateway keeps what it has. A list that is gone is one: somebody has to
    /// hear of it. May be dropped and called again.
    pub async fn changed(&mut self) {
        loop {
            if self.pending {
                self.settle().await;
                self.whole().await;
                self.pending = false;
                if self.differs() {
                    return;
                }
            }
            match self.woken().await {
                Woken::Maybe => self.pending = true,
                Woken::Asked => {
                    self.differs();
                    return;
                }
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await.is_some(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            true = hangup => Woken::Asked,
            Some(()) = self.events.recv() => Woken::Maybe,
            _ = self.poll.tick() => Woken::Maybe,
        }
    }

    /// Waits until the directory is quiet, but not for ever.
    async fn settle(&mut self) {
        let patience = Instant::now() + PATIENCE;
        while let Ok(Some(())) = timeout_at(patience.min(Instant::now() + QUIET), self.events.recv()).await {
            if Instant::now() >= patience {
                return;
            }
            // Without a pause a directory that never rests would keep a core busy.
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the rest of a file that is being written in place: cut off after `$1` of `$1.50`, or before a `deny`,
    /// it would be a valid file with other prices. A file that ends in a whole line is taken as it is.
    async fn whole(&mut self) {
        for _ in 0..HALF_WRITTEN {
            match read(&self.path) {
                Ok(bytes) if hash(&bytes) != self.known && bytes.last().is_some_and(|last| *last != b'\n') => {}
                _ if self.lists.iter().any(|list| ListFile::look(&list.path) != *list && list.ends_within_a_line()) => {
                }
                _ => return,
            }
            sleep(QUIET).await;
        }
    }

    fn differs(&mut self) -> bool {
        let lists: Vec<_> = self.lists.iter().map(|list| ListFile::look(&list.path)).collect();
        let mut differs = lists != self.lists;
        self.lists = lists;
        if let Ok(bytes) = read(&self.path) {
            let now = hash(&bytes);
            differs |= now != self.known;
            self.known = now;
        }
        differs
    }
}

#[cfg(unix)]
type Hangup = tokio::signal::unix::Signal;

#[cfg(unix)]
fn hangup() -> Option<Hangup> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok()
}

fn events_of(files: &[&Path], sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let names: Vec<OsString> = files.iter().filter_map(|file| Some(file.file_name()?.to_owned())).collect();
    let directories: BTreeSet<&Path> = files.iter().map(|file| directory_of(file)).collect();
    let heard = move |event: notify::Result<Event>| {
        // A full channel already says that something happened.
        if event.map_or(true, |event| concerns(&event, &names)) {
            let _ = sender.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(heard).ok()?;
    for directory in directories {
        // One that cannot be watched is still read every few seconds.
        let _ = watcher.watch(directory, RecursiveMode::NonRecursive);
    }
    Some(watcher)
}

/// Whether an event may be about one of the files. Reading it is an event too, and the ledger may lie in the same directory.
fn concerns(event: &Event, files: &[OsString]) -> bool {
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    let mut names = event.paths.iter().filter_map(|path| path.file_name());
    event.need_rescan()
        || event.paths.is_empty()
        || names.any(|changed| files.iter().any(|file| file == changed) || changed.to_string_lossy().starts_with(".."))
}

#[cfg(test)]
mod tests;
