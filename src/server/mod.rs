//! Put together: the only module that names concrete implementations.

mod backends;
mod background;
mod backlog;
mod certificates;
mod dust;
mod entrance;
mod facilitators;
mod handover;
mod hours;
mod http2;
mod listener;
mod lists;
mod notes;
mod observe;
pub mod reload;
mod reorg;
mod run;
mod serving;
mod side_door;
mod socket_file;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use alloy::primitives::keccak256;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::Acceptor;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use rustix::fs::Mode;

use crate::admin::Admin;
use crate::config;
use crate::facilitator::{BoxError, Pool, Tell};
use crate::gate::rails::Turnstile;
use crate::gate::{Gate, Observer, Parts};
use crate::ledger::{self, Ledger, Store};
use crate::payment::QuoteKey;
use crate::primitives::{Clock, Place, SystemClock};
use crate::protocol::x402::X402;
use crate::proxy::tls::{self, Certificates};
use crate::proxy::upstream::Upstream;
use crate::proxy::{Live, Proxy};
use crate::scheme::exact::Exact;
use crate::status::{Readiness, Status};
use crate::tariff::{Board, Route, RouteKey, Tariff};
use crate::telemetry::{Metrics, Pseudonyms, Telemetry};

use background::Background;
use facilitators::Facilitators;
use handover::{Estate, Heir, Origin};
use hours::Farewell;
pub(crate) use hours::Hours;
use listener::Keeper;
use listener::crowd::Crowd;
pub(crate) use listener::{Connections, Door};
use reorg::Lookout;
use side_door::{MOST_VISITS, SideDoor};

pub use background::Lost;
pub use handover::{HandoverError, Legacy};
pub use notes::Cells;
pub use run::{RunError, Stop, run};
pub use serving::Serving;

/// How many places of a backend are tried before the client hears 502; each only when nothing was sent.
const MOST_TRIES: usize = 16;
/// How long the ledger may take to write what is left to write at the end. One that fails would try for ever.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// For how long whoever is connected when the doors close may still ask. Long enough for a request that is under way.
const LINGER: Duration = Duration::from_secs(1);
/// How many requests a connection of HTTP/1.1 carries before it is closed; clients open another one. So what a
/// connection has gathered in memory is let go, and load balancers get to spread clients anew.
const MOST_REQUESTS: u32 = 100_000;
/// How many probes and scrapers may be connected at once. Fewer than the descriptors that clients leave.
const MOST_PROBES: usize = 64;
/// How often turnstiles forget who has not come for long.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A gateway that is running.
pub struct Server {
    gate: Arc<Gate>,
    ledger: Arc<Ledger>,
    live: Arc<ArcSwap<Live>>,
    pool: Arc<Pool>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    telemetry: Arc<Telemetry>,
    readiness: Arc<Readiness>,
    connections: Connections,
    crowd: Arc<Crowd>,
    /// In the order of the file.
    doors: Vec<Place>,
    status: Option<SocketAddr>,
    admin: Option<Place>,
    /// Connections of operators: apart from those of clients, who may use up all of theirs.
    visits: Connections,
    /// What the process was started with; a reload cannot change it.
    boot: config::Boot,
    /// Whether the ledger was opened for play money; nor can it change this.
    sandbox: bool,
    log: crate::telemetry::Config,
    facilitators: Facilitators,
    background: Background,
    shutdown: config::Shutdown,
    /// Set when the end has been announced.
    ending: Arc<AtomicBool>,
    hours: Hours,
    /// Those of the status listener, which closes last of all, because probes must see the end.
    late_hours: Hours,
    /// What is listened at, by name.
    sockets: Vec<(String, Weak<OwnedFd>)>,
    /// What the ledger is known by.
    known_by: String,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(Box<dyn std::error::Error + Send + Sync>),
    /// The changed file sells for money that the open ledger is not for.
    #[error("the ledger that is open is not for the money of this file; restart to open the right one")]
    OtherMoney,
    /// A place cannot be listened at.
    #[error("cannot listen on {place}")]
    Listen {
        /// The place.
        place: Place,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificates of a listener cannot be used.
    #[error("the certificates of {place} cannot be used")]
    Tls {
        /// The place.
        place: Place,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// The admin API cannot be opened.
    #[error("the admin API cannot listen on {place}")]
    Admin {
        /// The place.
        place: Place,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The process that this one takes over from remembers payments elsewhere.
    #[error("the process that hands over has another ledger; to change `ledger`, stop it and start this one")]
    OtherLedger,
    /// The process that this one takes over from cannot be understood.
    #[error("the process that hands over cannot be understood")]
    Legacy(#[source] std::io::Error),
    /// A chain or a token on it is not what the file says (S9).
    #[error("network {network} is not what the file says")]
    Chain {
        /// The network.
        network: crate::primitives::Caip2,
        /// What is different.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A facilitator cannot be set up as the file describes it.
    #[error("facilitator `{name}` cannot be used")]
    Facilitator {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Server {
    /// Starts a gateway on the runtime it is called on. `hash` names the file in the metrics.
    ///
    /// # Errors
    /// When the ledger cannot be opened, an address cannot be listened on, or a facilitator cannot be set up.
    pub async fn start(config: config::Config, hash: &str, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Self::succeed(Legacy::default(), config, hash, clock).await
    }

    /// The same in the place of another process, which serves until all is ready here.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when the two do not understand each other.
    pub async fn succeed(
        mut legacy: Legacy,
        config: config::Config,
        hash: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        // Pingora, the facilitators and the nodes share one provider; with none installed rustls cannot choose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config::Config { boot, live } = config;
        let (metrics, readiness) = (Arc::new(Metrics::new()), Arc::new(Readiness::default()));
        let (mut background, late_hours) = (Background::default(), Hours::default());
        let mut sockets = Vec::new();
        let mut status = match boot.status {
            Some(address) => Some(StatusDoor::open(address, &mut legacy, &mut sockets).await?),
            None => None,
        };
        let status_address = status.as_ref().and_then(|status| status.door.place().port());
        // Before all that takes time: whoever asks hears that we live and are not ready yet. Where another process serves
        // meanwhile, it answers.
        if let Some(status) = status.take_if(|_| !legacy.has_predecessor()) {
            let answers = Status::new(Arc::clone(&metrics), Arc::clone(&readiness));
            status.serve(answers, &mut background, &late_hours);
        }
        facilitators::check_chains(&live, &clock).await?;
        let store = open(&boot.ledger, live.sandbox).await?;
        let secret = |name: &'static str| {
            let store = Arc::clone(&store);
            async move { store.secret(name).await.map_err(|error| StartError::Ledger(error.into())) }
        };
        let quotes = secret("quotes").await?;
        let known_by = known_by(quotes.expose());
        if !legacy.shares(&known_by) {
            return Err(StartError::OtherLedger);
        }
        let quotes = QuoteKey::new(quotes.expose());
        let pseudonyms = Pseudonyms::new(&secret("payers").await?);
        let author = ledger::Author::process(own_name());
        let ledger = Ledger::of(store, Arc::clone(&clock), ledger::Limits::default(), author);

        let telemetry = Arc::new(Telemetry::new(Arc::clone(&metrics), live.log.clone(), pseudonyms));
        let lookout = Lookout::before(Arc::clone(&telemetry) as Arc<dyn Observer>);
        let hears = Arc::clone(&telemetry);
        let tell: Tell = Arc::new(move |notice| hears.observe(&notice.into()));
        let mut facilitators = Facilitators::over(Cells::of(Arc::clone(ledger.store())), tell);
        let pool = Arc::new(Pool::new(facilitators.adopt(&live, &clock)?));
        let board = Arc::new(Board::new(Arc::clone(&live.tariff)));
        let gate = Gate::new(Parts {
            protocol: Arc::new(X402),
            scheme: Arc::new(Exact),
            ledger: Arc::clone(&ledger),
            pool: Arc::clone(&pool),
            board: Arc::clone(&board),
            quotes,
            clock: Arc::clone(&clock),
            observer: Arc::clone(&lookout) as Arc<dyn Observer>,
        });
        let picture = picture(&live, None).await;
        let live_picture = Arc::new(ArcSwap::from_pointee(picture));
        metrics.configured(hash, !live.live_networks.is_empty(), &live.tariff);

        let connections = Connections::of_clients(boot.connections);
        let mut server = Self {
            gate,
            ledger,
            live: live_picture,
            pool,
            board,
            clock,
            metrics,
            telemetry,
            readiness,
            crowd: Arc::new(Crowd::within(connections.room(), live.per_client)),
            connections,
            doors: Vec::new(),
            status: status_address,
            admin: None,
            visits: Connections::most(MOST_VISITS),
            boot,
            sandbox: live.sandbox,
            log: live.log,
            facilitators,
            background,
            shutdown: live.shutdown,
            ending: Arc::default(),
            hours: Hours::default(),
            late_hours,
            sockets,
            known_by,
        };
        server.gate.cap(live.caps);
        server.gate.wallets().replace(server.facilitators.accepted(&live.wallets));
        let closed = server.gate.look_at_rails().await;
        closed.map_err(|error| StartError::Ledger(error.into()))?;
        server.tend();
        let watch = reorg::watch(lookout, Arc::clone(&server.gate), server.facilitators.chains());
        server.background.spawn("the watch for reorganisations", watch);
        let side_door = server.open_side_door(&mut legacy).await?;
        let doors = server.open_doors(&mut legacy).await?;
        legacy.turn().await.map_err(StartError::Legacy)?;
        server.let_in(side_door, doors);
        server.readiness.set(true);
        if let Some(status) = status {
            let answers = Status::new(Arc::clone(&server.metrics), Arc::clone(&server.readiness));
            status.serve(answers, &mut server.background, &server.late_hours);
        }
        Ok(server)
    }

    /// Where clients connect, in the order of the file, with the ports that were given for port 0.
    pub fn doors(&self) -> &[Place] {
        &self.doors
    }

    /// Where the status listener is.
    pub fn status_address(&self) -> Option<SocketAddr> {
        self.status
    }

    /// Where the admin API is.
    pub fn admin(&self) -> Option<&Place> {
        self.admin.as_ref()
    }

    /// The gate, for a look inside.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The metrics, in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Everything that goes on beside requests.
    fn tend(&mut self) {
        let (store, clock) = (Arc::clone(self.ledger.store()), Arc::clone(&self.clock));
        let census = observe::census(store, clock, Arc::clone(&self.pool), Arc::clone(&self.metrics));
        let survey = observe::survey(self.facilitators.chains(), Arc::clone(&self.metrics));
        let lists = lists::watch(Arc::clone(&self.live), Arc::clone(&self.clock), Arc::clone(&self.metrics));
        self.background.spawn("the care of the ledger", Arc::clone(&self.ledger).tend());
        self.background.spawn("the look at open settlements", Arc::clone(&self.gate).reconcile());
        self.background.spawn("the look at pauses and caps", Arc::clone(&self.gate).watch_rails());
        self.background.spawn("the count of the ledger", census);
        self.background.spawn("the look at screening lists", lists);
        let dust = dust::watch(Arc::clone(&self.live), Arc::clone(&self.pool), Arc::clone(&self.metrics));
        self.background.spawn("the look at nodes", survey);
        self.background.spawn("the look at the cost of gas", dust);
        let (live, gate) = (Arc::clone(&self.live), Arc::clone(&self.gate));
        self.background.spawn("the care of turnstiles", async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                gate.rails().sweep();
                live.load_full().turnstiles.values().for_each(|turnstile| turnstile.sweep());
            }
        });
        self.background.spawn("the look-up of backends", backends::look_up(Arc::clone(&self.live)));
        let watch = backends::watch(Arc::clone(&self.live), Arc::clone(&self.metrics));
        self.background.spawn("the look at backends", watch);
    }

    async fn open_side_door(&mut self, legacy: &mut Legacy) -> Result<Option<SideDoor>, StartError> {
        let Some(config) = &self.boot.admin else { return Ok(None) };
        let name = handover::admin(&config.place());
        let door = SideDoor::open(config, legacy.take(&name)).await?;
        self.sockets.push((name, door.socket()));
        self.admin = Some(door.place().clone());
        Ok(Some(door))
    }

    async fn open_doors(&mut self, legacy: &mut Legacy) -> Result<Vec<OpenDoor>, StartError> {
        let conf = Arc::new(ServerConf { max_retries: MOST_TRIES, ..ServerConf::default() });
        let mut doors = Vec::new();
        for listener in self.boot.listen.clone() {
            let acceptor = match &listener.tls {
                Some(tls) => Some(self.show_certificates(&listener.place, tls)?),
                None => None,
            };
            let (timeouts, live) = (listener.timeouts, Arc::clone(&self.live));
            let (crowd, metrics) = (Arc::clone(&self.crowd), Arc::clone(&self.metrics));
            let (announced, h2c) = (listener.proxy_protocol, listener.h2c);
            let keeper = Arc::new(Keeper { acceptor, announced, h2c, timeouts, crowd, live, metrics });
            let name = handover::door(&listener.place);
            let door =
                Door::open(&listener.place, Mode::from_raw_mode(listener.mode), legacy.take(&name), Some(keeper))
                    .await?;
            self.sockets.push((name.clone(), door.socket()));
            self.doors.push(door.place().clone());
            let (gate, live, ending) = (Arc::clone(&self.gate), Arc::clone(&self.live), Arc::clone(&self.ending));
            let mut app = http_proxy(&conf, Proxy::new(gate, live, ending, timeouts.idle));
            app.server_options = Some(connection_options(&listener));
            app.h2_options = Some(http2::bounds());
            doors.push(OpenDoor { name, door, app });
        }
        Ok(doors)
    }

    /// From now on connections are accepted.
    fn let_in(&mut self, side_door: Option<SideDoor>, doors: Vec<OpenDoor>) {
        if let (Some(door), Some(config)) = (side_door, &self.boot.admin) {
            let admin = Admin::new(Arc::clone(&self.gate), config);
            let (visits, shift) = (self.visits.clone(), self.hours.shift(handover::admin(&config.place())));
            self.background.spawn("the admin listener", door.serve(admin, visits, shift));
        }
        for OpenDoor { name, door, app } in doors {
            let (connections, shift) = (self.connections.clone(), self.hours.shift(name));
            self.background.spawn("a listener", door.serve(Arc::new(app), connections, shift));
        }
    }

    /// Whoever shows these certificates to clients, and those that take their place.
    fn show_certificates(&mut self, place: &Place, tls: &tls::Config) -> Result<Acceptor, StartError> {
        let wrong = |source: BoxError| StartError::Tls { place: place.clone(), source };
        let certificates = Certificates::read(&tls.certificates).map_err(|error| wrong(error.into()))?;
        let certificates = Arc::new(certificates);
        let acceptor = certificates.acceptor(tls.tls12).map_err(|error| wrong(error.into()))?;
        let renewal = certificates::renew(place.clone(), certificates, Arc::clone(&self.metrics));
        self.background.spawn("the look at certificates", renewal);
        Ok(acceptor)
    }

    /// Returns when a part of the gateway has ended that should not: it must be stopped. May be dropped and called
    /// again.
    pub async fn lost(&mut self) -> Lost {
        self.background.lost().await
    }

    /// How it is to end, as the file has it now.
    pub fn shutdown(&self) -> config::Shutdown {
        self.shutdown
    }

    /// Says that the end is near, and goes on serving: `/readyz` says 503 from now on, and each answer is the last on its
    /// connection.
    pub fn announce_end(&self) {
        self.readiness.set(false);
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Stops as [`drain`](Self::drain) does, for as long as this.
    pub async fn shut_down(self, grace: Duration) -> bool {
        self.drain(tokio::time::sleep(grace)).await
    }

    /// Stops: no new connections but those that wait to be accepted, the ones that are open may finish, settlements end, and what was held is let go.
    /// Returns whether everything ended before `patience` did; what did not is in the ledger and goes on after a
    /// restart.
    pub async fn drain(self, patience: impl Future<Output = ()>) -> bool {
        self.announce_end();
        self.close(Farewell { linger: LINGER, ..Farewell::default() }, patience).await
    }

    /// Stops in the same way, while `heir` serves. Nobody is in a hurry, so connections that ask nothing may stay for
    /// half of the grace: most ask once more meanwhile, and hear that they have to come anew.
    async fn leave_to(self, heir: Heir, patience: impl Future<Output = ()>) -> bool {
        // Not `announce_end`: whoever asks for readiness on a connection of old asks about the service.
        self.ending.store(true, Ordering::Relaxed);
        self.late_hours.close(Farewell { linger: Duration::ZERO, inherited: heir.inherits.clone() });
        let linger = (self.shutdown.grace / 2).max(LINGER);
        self.close(Farewell { linger, inherited: heir.inherits }, patience).await
    }

    async fn close(mut self, farewell: Farewell, patience: impl Future<Output = ()>) -> bool {
        self.hours.close(farewell);
        let quiet = async {
            self.hours.all_shut().await;
            self.connections.all_closed().await;
            self.visits.all_closed().await;
            while self.gate.settling() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::select! {
            biased;
            () = quiet => true,
            () = patience => false,
        };
        let written = tokio::time::timeout(LAST_WORDS, self.ledger.flush()).await.is_ok();
        // Best effort: a lease that is not let go lapses by itself.
        let _ = tokio::time::timeout(LAST_WORDS, self.facilitators.close()).await;
        self.late_hours.close(Farewell::default());
        self.background.shut_down().await;
        ended && written
    }

    /// What a process has that takes over from this one.
    fn estate(&self, origin: Origin) -> Estate {
        // What is remembered in memory would end with this process.
        let forgets = matches!(self.boot.ledger, ledger::Config::Memory);
        Estate::new(origin, self.sockets.clone(), self.known_by.clone(), forgets)
    }
}

/// A door for clients that nobody has come through yet.
struct OpenDoor {
    name: String,
    door: Door,
    app: HttpProxy<Proxy>,
}

/// The door for probes and scrapers.
struct StatusDoor {
    name: String,
    door: Door,
}

impl StatusDoor {
    async fn open(
        address: SocketAddr,
        legacy: &mut Legacy,
        sockets: &mut Vec<(String, Weak<OwnedFd>)>,
    ) -> Result<Self, StartError> {
        let name = handover::status(address);
        let door = Door::at(address, legacy.take(&name)).await?;
        sockets.push((name.clone(), door.socket()));
        Ok(Self { name, door })
    }

    /// Not counted: a scrape does not hold up the end.
    fn serve(self, status: Status, background: &mut Background, hours: &Hours) {
        let shift = hours.shift(self.name);
        background
            .spawn("the status listener", self.door.serve(Arc::new(status), Connections::most(MOST_PROBES), shift));
    }
}

/// Opens the ledger that the file names. A sandbox and real money never share one.
async fn open(config: &ledger::Config, sandbox: bool) -> Result<Arc<dyn Store>, StartError> {
    match config {
        ledger::Config::Memory => Ok(Arc::new(ledger::Memory::new())),
        ledger::Config::Postgres { url } => {
            let opened = ledger::Postgres::open(url, purpose(sandbox)).await;
            Ok(Arc::new(opened.map_err(|error| StartError::Ledger(error.into()))?))
        }
        ledger::Config::Sqlite { path, real_money } => {
            let open = if *real_money { ledger::Sqlite::open_to_stay } else { ledger::Sqlite::open };
            let (path, purpose) = (path.clone(), purpose(sandbox));
            let opened = tokio::task::spawn_blocking(move || open(&path, purpose)).await;
            let opened = opened.map_err(|error| StartError::Ledger(error.into()))?;
            Ok(Arc::new(opened.map_err(|error| StartError::Ledger(error.into()))?))
        }
    }
}

/// What holds for every request of a connection.
fn connection_options(listener: &config::Listener) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = listener.h2c;
    options.keepalive_request_limit = Some(MOST_REQUESTS);
    options.h2_idle_timeout = Some(listener.timeouts.idle);
    options
}

const fn purpose(sandbox: bool) -> ledger::Purpose {
    if sandbox { ledger::Purpose::Sandbox } else { ledger::Purpose::Real }
}

/// The picture that requests live under. Upstreams that did not change keep their connections and their turn.
async fn picture(live: &config::Live, before: Option<&Live>) -> Live {
    let upstreams = join_all(live.upstreams.iter().map(async |config| {
        let known = before.and_then(|before| before.upstreams.get(&config.name));
        let upstream = match known.filter(|upstream| upstream.config() == config) {
            Some(unchanged) => Arc::clone(unchanged),
            None => {
                let upstream = Arc::new(Upstream::new(config.clone(), known.map(|known| &**known)));
                upstream.resolve().await;
                upstream
            }
        };
        (Arc::clone(&config.name), upstream)
    }));
    let upstreams = upstreams.await.into_iter().collect();
    let turnstiles = turnstiles(&live.tariff, before);
    Live {
        tariff: Arc::clone(&live.tariff),
        screening: Arc::clone(&live.screening),
        trusted: Arc::clone(&live.trusted),
        upstreams,
        turnstiles,
    }
}

/// A turnstile for every route that is limited. It goes on from what the one before it has counted.
fn turnstiles(tariff: &Tariff, before: Option<&Live>) -> HashMap<RouteKey, Arc<Turnstile>> {
    let turnstile = |route: &Route| {
        let known = before.and_then(|before| before.turnstiles.get(&route.key));
        Turnstile::of(&route.limits, known.map(|known| &**known)).map(Arc::new)
    };
    tariff.routes().filter_map(|route| Some((route.key.clone(), turnstile(route)?))).collect()
}

/// What a ledger is known by, from a secret that it has drawn and has alone.
fn known_by(secret: &[u8]) -> String {
    keccak256([b"the ledger of ", secret].concat()).to_string()
}

/// How the records of the ledger name this process: its host and its number there. In a container the host is the pod.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("gateway {}/{}", host.trim(), std::process::id())
}

/// The clock of the machine, for whoever starts a server in earnest.
pub fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
