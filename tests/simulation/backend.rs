//! The seller's API: it works when it is asked, and fails like one.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::payment::PaymentKey;

use crate::judge;
use crate::plan::Fault;
use crate::world::World;

/// How many pieces a whole answer has.
pub const PIECES: u32 = 3;

/// What a backend does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It has worked, and this is its status and how many pieces it sends before it breaks off.
    Answers { status: u16, pieces: u32 },
    /// It has worked for longer than anybody waits.
    TooSlow,
}

/// Whether it can be connected to.
pub async fn connect(world: &World) -> bool {
    world.step().await;
    !world.strikes(Fault::BackendDown)
}

/// The request is there, and this is what comes of it.
pub async fn work(world: &Arc<World>, key: PaymentKey, prepaid: bool, limit: Duration) -> Work {
    judge::forwarded(world, key, prepaid);
    world.step().await;
    if world.strikes(Fault::BackendSlow) {
        tokio::time::sleep(limit).await;
        return Work::TooSlow;
    }
    let status = if world.strikes(Fault::BackendFails) { 500 } else { 200 };
    let pieces = if world.strikes(Fault::BackendBreaks) { world.below(PIECES.into()) as u32 } else { PIECES };
    Work::Answers { status, pieces }
}
