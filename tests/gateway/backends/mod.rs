//! Several backends behind one name: which of them is asked, what becomes of those in trouble, and what each is told.

mod choice;
mod terms;
mod trouble;

use std::sync::Arc;

use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::{Backend, Gateway};

use crate::world::{File, World};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";
const ROUTES: &str = "GET /weather: $0.01\nPOST /reports: $0.01\nPUT /notes: free\nPOST /notes: free\nGET /free: free";

/// A gateway before these targets, on these terms.
async fn gateway(world: &World, targets: &[&str], terms: impl FnOnce(&mut File)) -> Gateway {
    let mut file = File::selling(ROUTES);
    terms(&mut file);
    let text = file.text(&world.facilitator, &targets.join("\", \""));
    Gateway::start(&text, Arc::new(world.clock.clone())).await
}

async fn free(gateway: &Gateway) -> Reply {
    gateway.ask(&Request::get("/free")).await
}

/// The value of a line of the metrics about this target.
fn up(gateway: &Gateway, target: &str) -> Option<u8> {
    let line = format!("tollhouse_backend_up{{upstream=\"app\",target=\"{target}\"}} ");
    gateway.metrics().lines().find_map(|found| found.strip_prefix(&line)?.parse().ok())
}

/// How many requests reached each of them, looks at their health aside.
fn hits(backends: &[&Backend]) -> Vec<usize> {
    let asked = |backend: &&Backend| backend.requests().iter().filter(|hit| hit.target != "/healthz").count();
    backends.iter().map(asked).collect()
}
