//! One schedule from its first request to the verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tollhouse::ledger::{Delivery, Entry, Limits, State};

use crate::backend::PIECES;
use crate::client::{Buyer, send};
use crate::judge::{is_quiet, verdict};
use crate::passage::{Heard, Request};
use crate::plan::Plan;
use crate::process::keep_running;
use crate::town::town;
use crate::world::{World, lock, short};

/// How a schedule ended.
pub struct Run {
    /// What does not hold. Empty when all is well.
    pub found: Vec<String>,
    /// The story, when it was asked for.
    pub trace: Vec<String>,
}

/// Runs a schedule. The same plan gives the same run, on any machine.
pub fn run(plan: Plan, traced: bool) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(async {
        let world = World::new(plan, traced);
        let found = live(&world).await;
        let trace = world.trace();
        // Processes know the world and the world knows its processes: somebody has to let go.
        lock(&world.processes).clear();
        *lock(&world.notes) = Default::default();
        Run { found, trace }
    })
}

async fn live(world: &Arc<World>) -> Vec<String> {
    let replicas = world.plan.replicas;
    let mut machines = JoinSet::new();
    for replica in 0..replicas {
        machines.spawn(keep_running(Arc::clone(world), replica));
    }
    tokio::task::yield_now().await;
    if world.plan.price_changes {
        let world = Arc::clone(world);
        machines.spawn(async move { change_prices(&world).await });
    }
    let mut buyers = JoinSet::new();
    for number in 0..world.plan.clients {
        buyers.spawn(Buyer::new(world, number).shop());
    }
    let trouble = world.between(20_000, 120_000);
    let shopping = async { while buyers.join_next().await.is_some() {} };
    tokio::pin!(shopping);
    let over = tokio::time::timeout(trouble, shopping.as_mut()).await.is_ok();
    world.heal();
    if !over {
        shopping.await;
    }
    settle_down(world).await;
    let orders = lock(&world.orders).clone();
    for order in orders {
        audit(world, order).await;
    }
    settle_down(world).await;
    verdict(world)
}

/// The operator edits the file, and every process reads it.
async fn change_prices(world: &Arc<World>) {
    tokio::time::sleep(world.between(1_000, 40_000)).await;
    world.tell(|| "the price changes".to_owned());
    world.posted.store(1, Ordering::Relaxed);
    let living: Vec<_> = lock(&world.processes).iter().flatten().cloned().collect();
    for process in living {
        process.gate.board.post(town().tariff(1), process.gate.clock.now());
    }
}

/// Waits until nobody has anything left to find out: an authorization lives for two minutes, and the longest pause
/// between two looks is one.
async fn settle_down(world: &World) {
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if is_quiet(world) && lock(&world.processes).iter().all(Option::is_some) {
            return;
        }
    }
}

/// Presents a payment once more, patiently, in a world that works: I3 is a promise to the buyer.
async fn audit(world: &Arc<World>, order: Request) {
    let Some(key) = order.key else { return };
    let order = Request { posted: world.posted.load(Ordering::Relaxed), ..order };
    let contested = lock(&world.notes).of(key).contested;
    let owed = !contested && world.on_disk(key).is_some_and(|found| is_owed(world, &order, &found.entry));
    let mut heard = send(world, "the auditor", order.clone(), false).await;
    // Somebody who stood still may have come to fetch it at this very moment, and be told to leave it.
    for _ in 0..3 {
        if !heard.as_ref().is_some_and(is_told_to_wait) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        heard = send(world, "the auditor", order.clone(), false).await;
    }
    let got = heard.as_ref().is_some_and(|heard| heard.status == 200 && heard.pieces == PIECES);
    // Copies that stood still and whose clients have left may have used up the turns (S24); then it is refunded.
    let over = || world.on_disk(key).is_some_and(|found| is_used_up(&found.entry));
    if owed && !got && !over() {
        let status = heard.map(|heard| heard.status);
        lock(&world.notes)
            .accuse([format!("{}: I3: paid, not delivered, and redeeming it gave {status:?}", short(&key))]);
    }
}

/// Whether the same request may be answered otherwise in a moment.
fn is_told_to_wait(heard: &Heard) -> bool {
    heard.fields.contains_key(http::header::RETRY_AFTER)
}

/// Whether it was fetched as often as it may be, in vain, and is marked as owed.
fn is_used_up(entry: &Entry) -> bool {
    let refund = matches!(&entry.state, State::Settled { delivery: Delivery::RefundDue, .. });
    refund && entry.redemptions == Limits::default().max_redemptions
}

/// Whether this request must get the answer that was paid for. Another one with the same payment need not.
fn is_owed(world: &World, order: &Request, entry: &Entry) -> bool {
    let State::Settled { delivery: Delivery::Pending, collect_by, .. } = &entry.state else { return false };
    let target = format!("{}?{}", order.path, order.query.as_deref().unwrap_or_default());
    let in_time = world.now().after(Duration::from_secs(15)) < *collect_by;
    in_time
        && entry.redemptions < Limits::default().max_redemptions
        && entry.sale.quote.is_some()
        && entry.sale.payment.resource.url.ends_with(&target)
}
