//! The life of the process: start, follow the file, stop when told.

use std::path::Path;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Format, Shutdown};
use crate::primitives::{Place, explain};
use crate::tariff::Charge;
use crate::telemetry::Directives;

use super::handover::{Estate, Heir, Origin};
use super::{Legacy, Lost, Server, Serving, StartError};

/// Why the process ends otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file is wrong; the report says how.
    #[error("{report}")]
    Config {
        /// Every mistake of it.
        report: String,
        /// Whether there was a file that could be read.
        was_read: bool,
    },
    /// The gateway does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A part of the gateway has ended. The rest has been stopped, so that whoever watches the process starts it anew.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The process cannot be told anything.
    #[error("signals cannot be listened for")]
    Signals(#[source] std::io::Error),
    /// The process that this one was to take over from cannot be understood. It serves on.
    #[error("the process that hands over cannot be understood")]
    Legacy(#[source] std::io::Error),
    /// The process cannot find out how it was started, so nothing could take over from it.
    #[error("the running binary cannot be found")]
    Origin(#[source] std::io::Error),
}

/// Serves what the file describes until SIGTERM or SIGINT, reloading it when it changes or on SIGHUP. `directives`
/// set how much is logged, before the file does. SIGTERM lets clients go elsewhere first; each further signal ends a wait.
/// On SIGUSR2 another process takes over, of the binary that stands there by then.
///
/// # Errors
/// When the file is wrong, the gateway does not start, or a part of it ends. A file that becomes wrong later changes
/// nothing.
pub async fn run(path: &Path, directives: Option<&Directives>) -> Result<(), RunError> {
    let mut stop = Stop::listen().map_err(RunError::Signals)?;
    // Taken over at once: by itself it would end a process that is not ready for it.
    let mut upgrade = signal(SignalKind::user_defined2()).map_err(RunError::Signals)?;
    let origin = Origin::of_this_process().map_err(RunError::Origin)?;
    keep_memory_private();
    take_descriptors();
    let loaded = config::load(path);
    if let Some(config) = &loaded.config {
        crate::telemetry::init(&config.live.log, directives);
        if loaded.report.warnings() > 0 {
            tracing::warn!("{}", loaded.report.render(Format::Human, false));
        }
    }
    let summary = loaded.config.as_ref().map(Summary::of);
    let start = async {
        let legacy = Legacy::receive().await.map_err(RunError::Legacy)?;
        Serving::succeed(legacy, path, loaded).await
    };
    let mut serving = tokio::select! {
        started = start => started?,
        signal = stop.told() => {
            tracing::info!(signal, "stopped before it served");
            return Ok(());
        }
    };
    if let Some(summary) = summary {
        summary.tell(serving.server());
    }
    let estate = serving.server().estate(origin);
    match serving.until(end(&mut stop, &mut upgrade, &estate)).await {
        Ok(End::Told(signal)) => {
            tracing::info!(signal, "stopping");
            depart(serving, &mut stop, signal == "SIGTERM").await;
            Ok(())
        }
        Ok(End::Succeeded(heir)) => {
            tracing::info!(process = heir.process, "another process has taken over; stopping");
            let Shutdown { grace, .. } = serving.server().shutdown();
            tell(serving.leave_to(heir, patience(&mut stop, grace)).await);
            Ok(())
        }
        Err(lost) => {
            tracing::error!(lost = lost.0, "stopping: a part of the gateway has ended unexpectedly");
            depart(serving, &mut stop, false).await;
            Err(lost.into())
        }
    }
}

/// Why a gateway that serves comes to its end.
enum End {
    /// By this signal.
    Told(&'static str),
    /// Another process serves in its place.
    Succeeded(Heir),
}

/// Waits for the end. An upgrade that fails is none.
async fn end(stop: &mut Stop, upgrade: &mut Signal, estate: &Estate) -> End {
    loop {
        tokio::select! {
            signal = stop.told() => return End::Told(signal),
            _ = upgrade.recv() => tracing::info!("starting a process to take over"),
        }
        let handover = estate.hand_over();
        tokio::pin!(handover);
        let handed = loop {
            tokio::select! {
                handed = &mut handover => break handed,
                // The new process is ended with the attempt.
                signal = stop.told() => return End::Told(signal),
                _ = upgrade.recv() => tracing::warn!("a process is about to take over already; nothing more is started"),
            }
        };
        match handed {
            Ok(heir) => return End::Succeeded(heir),
            Err(error) => tracing::error!("nobody takes over, this process serves on: {}", explain(&error)),
        }
    }
}

/// Lets clients go elsewhere, if there is time for it, and what is under way end.
async fn depart(serving: Serving, stop: &mut Stop, unhurried: bool) {
    let Shutdown { delay, grace } = serving.server().shutdown();
    if unhurried && !delay.is_zero() {
        serving.server().announce_end();
        tracing::info!(?delay, "not ready any more, and still serving");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            signal = stop.told() => tracing::info!(signal, "not waiting for clients to go elsewhere"),
        }
    }
    tell(serving.drain(patience(stop, grace)).await);
}

/// For how long what is under way is waited for.
async fn patience(stop: &mut Stop, grace: Duration) {
    tokio::select! {
        () = tokio::time::sleep(grace) => {}
        signal = stop.told() => tracing::info!(signal, "not waiting for what is under way"),
    }
}

fn tell(ended: bool) {
    if ended {
        tracing::info!("stopped");
    } else {
        tracing::warn!("stopped before everything had ended; what is open is in the ledger");
    }
}

/// Takes all the file descriptors that the system allows us: each request may need two.
fn take_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
}

/// Turns core dumps off, and other processes' look into our memory: it holds keys (S60).
fn keep_memory_private() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps could not be turned off");
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
        let backends: Vec<_> = targets.map(|target| &*target.name).collect();
        Self { money, routes, priced, backends: backends.join(", ") }
    }

    fn tell(&self, server: &Server) {
        let secure = server.boot.listen.iter().map(|listener| listener.tls.is_some());
        let doors: Vec<_> = server.doors().iter().zip(secure).map(|(place, secure)| shown(place, secure)).collect();
        let status = server.status_address().map(|address| format!("  status http://{address}")).unwrap_or_default();
        let admin = server.admin().map(|place| format!("  admin {}", shown(place, false))).unwrap_or_default();
        tracing::info!(
            "tollhouse {}  {}  {} routes ({} priced)  {} → {}{status}{admin}",
            env!("CARGO_PKG_VERSION"),
            self.money,
            self.routes,
            self.priced,
            doors.join(", "),
            self.backends,
        );
    }
}

/// As a client would be told to go there.
fn shown(place: &Place, secure: bool) -> String {
    match place {
        Place::Socket(_) => place.to_string(),
        Place::Port(address) => format!("{}://{address}", if secure { "https" } else { "http" }),
    }
}

/// The signals that end the process.
#[derive(Debug)]
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Takes the signals over from now on; they no longer end the process by themselves.
    ///
    /// # Errors
    /// When the system does not let signals be listened for.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns the name of the signal that came.
    pub async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
