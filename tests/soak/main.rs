//! Everything at once for minutes, with something breaking every few seconds, against the real binary.
//!
//! Two minutes belong to the tests; `make soak MINUTES=10` takes as long as one likes. What is asked of it: nothing that has a price
//! is seen unpaid, every payment that moved is in the ledger and none beside it, memory and file descriptors stay where they are,
//! and at the end the process stops when it is told to.

mod backend;
mod faults;
mod gauges;
mod report;
mod traffic;
mod world;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use gauges::Gauges;
use report::Report;
use world::World;

/// How long, unless `MINUTES` says otherwise.
const MINUTES: u64 = 2;
/// What a payment may leave in memory: a line of what is over, and room that tables keep.
const BYTES_A_PAYMENT: u64 = 600;
/// What may come and go with the moment.
const LEEWAY: u64 = 24 << 20;
/// File descriptors that may be in use when nobody is there any more, beyond those at the start.
const SPARE_DESCRIPTORS: u64 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_loses_nothing_and_stays_as_large_as_it_was() {
    let minutes = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(MINUTES);
    let length = Duration::from_secs(60 * minutes);
    let world = World::new().await;
    let idle = Gauges::of(world.process.id());

    let until = Instant::now() + length;
    let traffic = traffic::start(&world, until);
    let watching = tokio::spawn(gauges::watch(world.process.id(), until));
    let broken = faults::break_things(&world, until).await;
    let tally = traffic.end().await;
    let watched = watching.await.expect("it only reads");

    let settled = world.settle_down().await;
    let after = Gauges::of(world.process.id());
    let report = Report { length, tally, broken, settled, idle, watched, after };
    println!("{report}");

    assert_eq!(report.tally.unpaid_bodies, 0, "something that has a price was seen unpaid");
    let moved: HashSet<_> = world.facilitator.transactions().into_iter().collect();
    assert!(report.tally.receipts.is_subset(&moved), "a receipt named money that did not move");
    assert_eq!(report.settled.open, 0, "a payment is still unknown");
    assert_eq!(report.settled.in_ledger, report.settled.moved, "the ledger and the money disagree");
    assert!(report.tally.every_kind_was_served(), "some kind of traffic was never served");
    let allowed = LEEWAY + BYTES_A_PAYMENT * report.settled.moved;
    assert!(report.growth() <= allowed, "memory grew by {} bytes, {allowed} are allowed", report.growth());
    assert!(report.after.descriptors <= report.idle.descriptors + SPARE_DESCRIPTORS, "descriptors were not given back");
    world.assert_chain_of_evidence();
    world.stop();
}
