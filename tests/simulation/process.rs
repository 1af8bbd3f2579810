//! One gateway process of one replica: a real gate over a real ledger, until it dies.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tollhouse::facilitator::{Facilitator, Notice, Pool};
use tollhouse::gate::{Event, Gate, Observer, Parts};
use tollhouse::ledger::{Ledger, Limits};
use tollhouse::payment::QuoteKey;
use tollhouse::primitives::{Clock, Timestamp};
use tollhouse::protocol::x402::X402;
use tollhouse::scheme::Scheme;
use tollhouse::scheme::exact::eip3009::Eip3009Exact;
use tollhouse::tariff::Board;

use crate::facilitator::Adapter;
use crate::mutation::Mutation;
use crate::plan::Fault;
use crate::stamp::Stamped;
use crate::store::Disk;
use crate::town::town;
use crate::world::{Watch, World, lock};

/// Whether a process lives. Everything through which it reaches the world asks here first, so what a dead process
/// still computes changes nothing and is told to nobody.
pub struct Pulse {
    pub world: Arc<World>,
    pub replica: usize,
    pub number: u32,
    dead: AtomicBool,
    died: Notify,
    /// Until when it stood still or could not write, in milliseconds of the world.
    trouble: AtomicU64,
}

impl Pulse {
    /// A moment in which the process may die or stand still. Nothing after it happens in a dead process.
    pub async fn beat(&self) {
        if !self.is_dead() && self.world.strikes(Fault::Crash) {
            self.die();
        }
        if self.world.strikes(Fault::Freeze) {
            let pause = self.world.between(5_000, 70_000);
            // Others go on meanwhile, and what they see of it is its trouble, too.
            self.note_trouble_until(self.world.now().after(pause));
            tokio::time::sleep(pause).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn die(&self) {
        self.world.tell(|| format!("{} dies", self.name()));
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// It could not do in time what keeps its leases alive.
    pub fn note_trouble(&self) {
        self.note_trouble_until(self.world.now());
    }

    fn note_trouble_until(&self, moment: Timestamp) {
        self.trouble.fetch_max(moment.as_millis(), Ordering::Relaxed);
    }

    /// Whether it had trouble since this moment, or is gone.
    pub fn troubled_since(&self, moment: Timestamp) -> bool {
        self.is_dead() || self.trouble.load(Ordering::Relaxed) >= moment.as_millis()
    }

    pub fn name(&self) -> String {
        format!("gateway {}.{}", self.replica, self.number)
    }
}

/// A living process.
pub struct Process {
    pub pulse: Arc<Pulse>,
    pub gate: Arc<Gate>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Process {
    fn start(world: &Arc<World>, replica: usize, number: u32) -> Arc<Self> {
        let pulse = Arc::new(Pulse {
            world: Arc::clone(world),
            replica,
            number,
            dead: AtomicBool::new(false),
            died: Notify::new(),
            trouble: AtomicU64::new(0),
        });
        let ahead = Duration::from_millis(world.plan.skew[replica]);
        let clock: Arc<dyn Clock> = Arc::new(Watch { world: Arc::clone(world), ahead });
        let limits = Limits { redeem_for: Duration::from_secs(world.plan.redeem_for), ..Limits::default() };
        let ledger = Ledger::new(Arc::new(Disk { pulse: Arc::clone(&pulse) }), Arc::clone(&clock), limits);
        let asked = |(number, kind): (usize, &_)| -> Arc<dyn Facilitator> {
            Arc::new(Adapter::new(Arc::clone(&pulse), number, *kind, Arc::clone(&clock)))
        };
        let facilitators = world.plan.facilitators.iter().enumerate().map(asked).collect();
        let scheme: Arc<dyn Scheme> = match world.plan.real_signatures {
            true => Arc::new(Eip3009Exact),
            false => Arc::new(Stamped { believes_anything: world.mutated(Mutation::AnySignature) }),
        };
        let gate = Gate::new(Parts {
            protocol: Arc::new(X402),
            scheme,
            ledger: Arc::clone(&ledger),
            pool: Arc::new(Pool::new(facilitators)),
            board: Arc::new(Board::new(town().tariff(world.posted.load(Ordering::Relaxed)))),
            quotes: QuoteKey::new(&[7; 32]),
            clock,
            observer: Arc::new(Teller(Arc::clone(&pulse))),
        });
        let process = Arc::new(Self { pulse, gate: Arc::clone(&gate), tasks: Mutex::default() });
        if !world.mutated(Mutation::NeverTends) {
            process.run(ledger.tend());
        }
        if !world.mutated(Mutation::NeverReconciles) {
            process.run(gate.reconcile());
        }
        process
    }

    /// Runs something that ends with the process.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let handle = tokio::spawn(task).abort_handle();
        let mut tasks = lock(&self.tasks);
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle.clone());
        handle
    }
}

/// Keeps a replica running: whenever its process dies another starts, a while later.
pub async fn keep_running(world: Arc<World>, replica: usize) {
    for number in 1.. {
        let process = Process::start(&world, replica, number);
        world.tell(|| format!("{} starts", process.pulse.name()));
        lock(&world.processes)[replica] = Some(Arc::clone(&process));
        process.pulse.died.notified().await;
        lock(&world.processes)[replica] = None;
        lock(&process.tasks).drain(..).for_each(|task| task.abort());
        tokio::time::sleep(world.between(50, 20_000)).await;
    }
}

/// Tells the story as the gate sees it.
struct Teller(Arc<Pulse>);

impl Observer for Teller {
    fn observe(&self, event: &Event) {
        if !self.0.is_dead() {
            self.0.world.tell(|| format!("{} says {}", self.0.name(), words(event)));
        }
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Refused { reason, .. } => format!("refused: {reason}"),
        Event::Screened { reason, .. } => format!("screened: {reason}"),
        Event::Declined { key, code, .. } => format!("{} declined: {code}", crate::world::short(key)),
        Event::Unknown { key, cause, .. } => format!("{} unknown: {cause}", crate::world::short(key)),
        Event::Settled { key, reconciled, .. } => {
            format!("{} settled{}", crate::world::short(key), if *reconciled { ", as was found out" } else { "" })
        }
        Event::Reorganised { key, turn, .. } => format!("{} {}", crate::world::short(key), turn.word()),
        Event::Alarm { what, .. } => format!("alarm: {what}"),
        Event::Delivered { key, outcome, .. } => format!("{} delivered: {outcome}", crate::world::short(key)),
        Event::Redeemed { key, .. } => format!("{} comes back", crate::world::short(key)),
        Event::Offered { .. } => "offered".to_owned(),
        Event::Reserved { key, .. } => format!("{} reserved", crate::world::short(key)),
        Event::SignedAgain { key, .. } => format!("{} not taken: an earlier one is open", crate::world::short(key)),
        Event::Released { key, .. } => format!("{} released", crate::world::short(key)),
        Event::Settling { key, facilitator, .. } => format!("{} settling at {facilitator}", crate::world::short(key)),
        Event::Answered(_) => "answered".to_owned(),
        Event::Facilitator(Notice::Asked { facilitator, call, outcome, .. }) => {
            format!("{call} at {facilitator}: {outcome}")
        }
        Event::Facilitator(Notice::Breaker { facilitator, state, .. }) => {
            format!("the breaker of {facilitator} is {state:?}")
        }
        Event::WalletAsked { outcome, .. } => format!("a wallet was asked: {outcome}"),
        Event::Paused { scope, .. } => format!("{scope} is paused"),
        Event::Resumed { scope, .. } => format!("{scope} is resumed"),
    }
}
