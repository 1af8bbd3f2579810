//! What goes on beside requests, and notices when it does not any more.
//!
//! None of it ends by itself, so what has ended has panicked. A gateway without its reconciler or its ledger's tender
//! still takes money and nobody finds out what became of it; without a look at the rails nothing can be paused. Such a
//! process is ended rather than called unready: where no orchestrator reads `/readyz` it would sell on, what the panic
//! left half done stays in memory, and a fresh process takes everything up from the ledger.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// Tasks that end with the gateway and not before. Dropping it aborts them.
#[derive(Debug, Default)]
pub(super) struct Background {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A part of the gateway has ended, and cannot go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} has ended unexpectedly")]
pub struct Lost(pub &'static str);

impl Background {
    /// Starts a task. The name says to an operator what would be missing.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.tasks.spawn(task).id(), name);
    }

    /// Returns when one of the tasks has ended. May be dropped and called again.
    pub(super) async fn lost(&mut self) -> Lost {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return std::future::pending().await,
        };
        Lost(self.names.get(&id).copied().unwrap_or("a task"))
    }

    /// Aborts what is left, and waits for its end.
    pub(super) async fn shut_down(mut self) {
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_named() {
        let mut background = Background::default();
        background.spawn("what goes on", std::future::pending());
        background.spawn("what breaks", async { panic!("as somebody asked") });
        assert_eq!(background.lost().await, Lost("what breaks"));
        background.spawn("what ends", async {});
        assert_eq!(background.lost().await, Lost("what ends"));
        background.shut_down().await;
    }
}
