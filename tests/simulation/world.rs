//! What outlives every process: time, chance, the store's disk, the chain, and what the judge has seen.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use tollhouse::ledger::{Entry, Memory, Store, Versioned};
use tollhouse::payment::PaymentKey;
use tollhouse::primitives::{Clock, Timestamp};

use crate::chain::Chain;
use crate::chance::Chance;
use crate::facilitator::Books;
use crate::judge::Notes;
use crate::mutation::Mutation;
use crate::passage::Request;
use crate::plan::{Fault, Plan};
use crate::process::Process;

const START: Timestamp = Timestamp::from_secs(1_900_000_000);

/// Everything that is shared. A schedule is single-threaded, so no lock is ever waited for.
pub struct World {
    pub plan: Plan,
    pub memory: Memory,
    pub chain: Mutex<Chain>,
    /// What the facilitators remember, which is not what the gateways do.
    pub books: Mutex<Books>,
    pub notes: Mutex<Notes>,
    /// The process of each replica, while it lives.
    pub processes: Mutex<Vec<Option<Arc<Process>>>>,
    /// Every payment that was ever signed for something, as it was first presented.
    pub orders: Mutex<Vec<Request>>,
    /// Which of the two price tables is posted.
    pub posted: AtomicUsize,
    chance: Mutex<Chance>,
    begun: Instant,
    healed: AtomicBool,
    trace: Option<Mutex<Vec<String>>>,
}

impl World {
    /// Must be called inside the runtime whose time it keeps.
    pub fn new(plan: Plan, traced: bool) -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::new(),
            chain: Mutex::default(),
            books: Mutex::default(),
            notes: Mutex::default(),
            processes: Mutex::new(vec![None; plan.replicas]),
            orders: Mutex::default(),
            posted: AtomicUsize::new(0),
            chance: Mutex::new(Chance::new(plan.seed)),
            begun: Instant::now(),
            healed: AtomicBool::new(false),
            trace: traced.then(Mutex::default),
            plan,
        })
    }

    /// The time of the world, and of the chain.
    pub fn now(&self) -> Timestamp {
        START.after(self.begun.elapsed())
    }

    /// Whether this goes wrong now. Nothing does once the world has healed.
    pub fn strikes(&self, fault: Fault) -> bool {
        let rate = self.plan.rate(fault);
        let strikes = rate > 0 && !self.healed.load(Ordering::Relaxed) && lock(&self.chance).permille(rate);
        if strikes {
            self.tell(|| format!("fault: {fault:?}"));
        }
        strikes
    }

    pub fn mutated(&self, mutation: Mutation) -> bool {
        self.plan.mutation == Some(mutation)
    }

    /// From now on everything works.
    pub fn heal(&self) {
        self.tell(|| "faults stop".to_owned());
        self.healed.store(true, Ordering::Relaxed);
    }

    pub fn below(&self, end: u64) -> u64 {
        lock(&self.chance).below(end)
    }

    /// A span between two numbers of milliseconds.
    pub fn between(&self, least: u64, end: u64) -> Duration {
        Duration::from_millis(least + self.below(end - least))
    }

    /// A step on a wire or a disk: usually short, and so that two of them come out in either order.
    pub async fn step(&self) {
        match self.below(8) {
            0..=2 => {}
            3..=4 => tokio::task::yield_now().await,
            5..=6 => tokio::time::sleep(self.between(1, 20)).await,
            _ => tokio::time::sleep(self.between(20, 400)).await,
        }
    }

    /// One more line of the story, if somebody wants to read it.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let at = self.begun.elapsed();
            lock(trace).push(format!("{:>7}.{:03}  {}", at.as_secs(), at.subsec_millis(), line()));
        }
    }

    pub fn trace(&self) -> Vec<String> {
        self.trace.as_ref().map(|trace| lock(trace).clone()).unwrap_or_default()
    }

    /// What is on the store's disk about a payment.
    pub fn on_disk(&self, key: PaymentKey) -> Option<Versioned> {
        at_once(self.memory.load(key)).ok().flatten()
    }

    /// Everything on the store's disk, in one order.
    pub fn whole_disk(&self) -> Vec<(PaymentKey, Entry)> {
        let filter = tollhouse::ledger::Filter { limit: usize::MAX, ..Default::default() };
        let page = at_once(self.memory.list(&filter)).unwrap_or_default();
        page.into_iter().map(|(key, found)| (key, found.entry)).collect()
    }
}

/// A clock of one machine: the world's time, and how far it is ahead.
#[derive(Clone)]
pub struct Watch {
    pub world: Arc<World>,
    pub ahead: Duration,
}

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        self.world.now().after(self.ahead)
    }
}

pub fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of something that never waits.
pub fn at_once<T>(ready: impl Future<Output = T>) -> T {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("memory does not wait"),
    }
}

/// The beginning of a key: enough to tell the payments of one run apart.
pub fn short(key: &PaymentKey) -> String {
    key.to_string()[..6].to_owned()
}
