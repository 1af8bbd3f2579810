//! The life of the process: start, reload when the file changes, stop when told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Watcher};
use crate::tariff::Charge;

use super::{Server, StartError, system_clock};

/// How long requests and settlements under way may take to end after the process was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// Why the process ends otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file is wrong; the report says how.
    #[error("{0}")]
    Config(String),
    /// The gateway does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The process cannot be told anything.
    #[error("signals cannot be listened for: {0}")]
    Signals(#[source] std::io::Error),
}

/// Serves what the file describes until SIGTERM or SIGINT, reloading it when it changes or on SIGHUP. `directives`
/// set how much is logged, before the file does.
///
/// # Errors
/// When the file is wrong or the gateway does not start. A file that becomes wrong later changes nothing.
pub async fn run(path: &Path, directives: Option<&str>) -> Result<(), RunError> {
    let mut stop = Stop::listen().map_err(RunError::Signals)?;
    let loaded = config::load(path);
    let report = loaded.report();
    let Some(config) = loaded.config else { return Err(RunError::Config(report)) };
    crate::telemetry::init(&config.live.log, directives);
    if loaded.has_mistakes() {
        tracing::warn!("{report}");
    }
    let summary = Summary::of(&config);
    // Watching before serving: an edit between the two would otherwise wait for the slow poll.
    let mut watcher = Watcher::new(path, &loaded.hash);
    let mut server = Server::start(config, &loaded.hash, system_clock()).await?;
    summary.tell(&server);
    loop {
        tokio::select! {
            () = watcher.changed() => reload(&mut server, path, &mut watcher).await,
            name = stop.told() => {
                tracing::info!(signal = name, "stopping");
                break;
            }
        }
    }
    if server.shut_down(GRACE).await {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped before everything had ended; what is open is in the ledger");
    }
    Ok(())
}

/// Reads the file again. A good one is put in force; a bad one leaves everything as it was (S64).
async fn reload(server: &mut Server, path: &Path, watcher: &mut Watcher) {
    let path: PathBuf = path.to_owned();
    // A large table takes a moment to read; requests do not wait for it.
    let Ok(loaded) = tokio::task::spawn_blocking(move || config::load(&path)).await else { return };
    watcher.loaded(&loaded.hash);
    let report = loaded.report();
    let Some(config) = loaded.config else {
        server.note_reload("failed");
        tracing::error!("the changed file is not used, the prices stay as they were:\n{report}");
        return;
    };
    match server.reload(config, &loaded.hash).await {
        Err(error) => {
            server.note_reload("failed");
            tracing::error!("the changed file is not used, the prices stay as they were: {error}");
        }
        Ok(reloaded) => {
            server.note_reload("ok");
            tracing::info!(changes = reloaded.changes.len(), hash = loaded.hash.as_str(), "reloaded");
            for change in &reloaded.changes {
                tracing::info!("{change}");
            }
            if !reloaded.restart_needed.is_empty() {
                tracing::warn!(keys = reloaded.restart_needed.join(", "), "only a restart applies these");
            }
        }
    }
}

/// The start-up line.
struct Summary {
    money: String,
    routes: usize,
    priced: usize,
    backends: String,
}

impl Summary {
    fn of(config: &config::Config) -> Self {
        let live = &config.live;
        let money = if live.sandbox {
            "SANDBOX: play money".to_owned()
        } else if live.live_networks.is_empty() {
            "TEST: test networks only".to_owned()
        } else {
            format!("LIVE: real money on {}", live.live_networks.join(", "))
        };
        let routes = live.tariff.routes().count();
        let priced = live.tariff.routes().filter(|route| matches!(route.charge, Charge::Toll(_))).count();
        let targets = live.upstreams.iter().flat_map(|upstream| &upstream.targets);
        let backends: Vec<_> = targets.map(|target| format!("http://{}:{}", target.host, target.port)).collect();
        Self { money, routes, priced, backends: backends.join(", ") }
    }

    fn tell(&self, server: &Server) {
        let doors: Vec<_> = server.addresses().iter().map(|address| format!("http://{address}")).collect();
        let status = server.status_address().map(|address| format!("  status http://{address}")).unwrap_or_default();
        tracing::info!(
            "tollhouse {}  {}  {} routes ({} priced)  {} → {}{status}",
            env!("CARGO_PKG_VERSION"),
            self.money,
            self.routes,
            self.priced,
            doors.join(", "),
            self.backends,
        );
    }
}

/// The signals that end the process.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
