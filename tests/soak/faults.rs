//! What breaks, in turn.

use std::time::{Duration, Instant};

use tollhouse::testing::facilitator::Behaviour;

use crate::world::World;

/// How long all is well between two faults.
const CALM: Duration = Duration::from_secs(8);
/// How long a fault lasts.
const BROKEN: Duration = Duration::from_secs(2);

const FAULTS: [&str; 7] = [
    "money moves and the answer is lost",
    "the facilitator is out of order",
    "the facilitator refuses",
    "the facilitator is slow",
    "the backend hangs up",
    "a wrong file is saved",
    "prices change",
];

/// Breaks one thing after the other until then. Returns how often each was broken.
pub async fn break_things(world: &World, until: Instant) -> Vec<(&'static str, u32)> {
    let mut broken = FAULTS.map(|fault| (fault, 0));
    for turn in (0..FAULTS.len()).cycle() {
        tokio::time::sleep(CALM).await;
        if Instant::now() + BROKEN >= until {
            break;
        }
        bring_about(world, FAULTS[turn]).await;
        broken[turn].1 += 1;
    }
    tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
    broken.into()
}

async fn bring_about(world: &World, fault: &str) {
    let facilitator = |path: &'static str, behaviour| {
        world.facilitator.always(path, behaviour);
    };
    match fault {
        "money moves and the answer is lost" => facilitator("/settle", Behaviour::HonestThenReset),
        "the facilitator is out of order" => {
            for path in ["/verify", "/settle"] {
                facilitator(path, Behaviour::Status(503, "text/plain", "out of order".into()));
            }
        }
        "the facilitator refuses" => facilitator("/verify", Behaviour::Decline("insufficient_funds")),
        "the facilitator is slow" => facilitator("/settle", Behaviour::HonestAfter(BROKEN)),
        "the backend hangs up" => world.backend.set_broken(true),
        "a wrong file is saved" => world.save("routes: {GET /paid: 0.01}"),
        "prices change" => world.save(&world.text("$0.02")),
        other => panic!("nobody knows how to bring about that {other}"),
    }
    tokio::time::sleep(BROKEN).await;
    for path in ["/verify", "/settle"] {
        facilitator(path, Behaviour::Honest);
    }
    world.backend.set_broken(false);
    world.save(&world.text("$0.01"));
}
