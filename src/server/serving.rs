//! A gateway that follows its file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{self, Format, Loaded, Watcher};
use crate::primitives::explain;

use super::handover::Heir;
use super::reload::Reloaded;
use super::{Legacy, Lost, RunError, Server, system_clock};

/// A gateway and the file it was started from. A change of the file takes effect once it has been read; a file that
/// has become wrong changes nothing (S64).
pub struct Serving {
    server: Server,
    watcher: Watcher,
    path: PathBuf,
}

impl Serving {
    /// Starts what the file at `path` was read to mean.
    ///
    /// # Errors
    /// When the file is wrong or the gateway does not start.
    pub async fn start(path: &Path, loaded: Loaded) -> Result<Self, RunError> {
        Self::succeed(Legacy::default(), path, loaded).await
    }

    /// The same in the place of another process.
    ///
    /// # Errors
    /// When the file is wrong or the gateway does not start.
    pub async fn succeed(legacy: Legacy, path: &Path, loaded: Loaded) -> Result<Self, RunError> {
        let was_read = loaded.was_read();
        let Loaded { config, report, hash, lists } = loaded;
        let Some(config) = config else {
            return Err(RunError::Config { report: report.render(Format::Human, false), was_read });
        };
        // Watching before serving: an edit between the two would otherwise wait for the slow poll.
        let mut watcher = Watcher::new(path, &hash);
        watcher.follow(&lists);
        let server = Server::succeed(legacy, config, &hash, system_clock()).await?;
        Ok(Self { server, watcher, path: path.to_owned() })
    }

    /// The gateway.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Serves until `end` ends, even in the middle of a reload: one that asks nodes takes its time.
    ///
    /// # Errors
    /// When a part of the gateway has ended that should not.
    pub async fn until<T>(&mut self, end: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = self.watcher.changed() => {}
                lost = self.server.lost() => return Err(lost),
                ended = &mut end => return Ok(ended),
            }
            tokio::select! {
                _ = self.reload() => {}
                ended = &mut end => return Ok(ended),
            }
        }
    }

    /// Waits for the next change of the file and takes it over. `None` when it is wrong; then all is as it was.
    pub async fn change(&mut self) -> Option<Reloaded> {
        self.watcher.changed().await;
        self.reload().await
    }

    /// Reads the file again. A good one is put in force; a bad one leaves everything as it was (S64).
    async fn reload(&mut self) -> Option<Reloaded> {
        let path = self.path.clone();
        // A large table takes a moment to read; requests do not wait for it.
        let loaded = match tokio::task::spawn_blocking(move || config::load(&path)).await {
            Ok(loaded) => loaded,
            Err(error) => {
                self.server.note_reload("failed");
                tracing::error!(%error, "the changed file could not be read, the prices stay as they were");
                return None;
            }
        };
        // Also of a file that is not used: it may name a list that is not there yet.
        self.watcher.follow(&loaded.lists);
        let Some(config) = loaded.config else {
            let report = loaded.report.render(Format::Human, false);
            self.server.note_reload("failed");
            tracing::error!("the changed file is not used, the prices stay as they were:\n{report}");
            return None;
        };
        if loaded.report.warnings() > 0 {
            tracing::warn!("{}", loaded.report.render(Format::Human, false));
        }
        match self.server.reload(config, &loaded.hash).await {
            Err(error) => {
                self.server.note_reload("failed");
                tracing::error!("the changed file is not used, the prices stay as they were: {}", explain(&error));
                None
            }
            Ok(reloaded) => {
                self.server.note_reload("ok");
                tell(&reloaded, &loaded.hash);
                Some(reloaded)
            }
        }
    }

    /// Stops as [`Server::shut_down`] does.
    pub async fn shut_down(self, grace: Duration) -> bool {
        self.server.shut_down(grace).await
    }

    /// Stops as [`Server::leave_to`] does.
    pub(super) async fn leave_to(self, heir: Heir, patience: impl Future<Output = ()>) -> bool {
        self.server.leave_to(heir, patience).await
    }

    /// Stops as [`Server::drain`] does.
    pub async fn drain(self, patience: impl Future<Output = ()>) -> bool {
        self.server.drain(patience).await
    }
}

fn tell(reloaded: &Reloaded, hash: &str) {
    tracing::info!(changes = reloaded.changes.len(), hash, "reloaded");
    for change in &reloaded.changes {
        tracing::info!("{change}");
    }
    if !reloaded.restart_needed.is_empty() {
        tracing::warn!(keys = reloaded.restart_needed.join(", "), "only a restart applies these");
    }
}
