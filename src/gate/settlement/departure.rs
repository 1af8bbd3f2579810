//! A client that leaves while its payment is being settled (I4).
//!
//! It is likely to sign again, and its next request may come to another replica. So whoever settles the payment puts on
//! record that nobody waits for it any more.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::gate::attendance::Attending;
use crate::ledger::InSettlement;
use crate::primitives::at_once;

/// How often somebody looks whether the client is still there, at the price of a system call. A client that signs again
/// asks for the price first, which over the internet takes about as long. One that is nearer and faster than that comes
/// before it is on record that it left, and counts as a second buyer where another replica serves it.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for what was asked about this settlement, and notes it when the client leaves meanwhile, or has left before.
pub(super) async fn noting_departure<T>(
    begun: &InSettlement,
    attending: &Attending,
    asked: impl Future<Output = T>,
) -> T {
    let mut asked = pin!(asked);
    if let Some(answer) = at_once(&mut asked).await {
        return answer;
    }
    while !attending.has_left() {
        if let Ok(answer) = timeout(LOOK, asked.as_mut()).await {
            return answer;
        }
    }
    begun.client_left();
    asked.await
}
