//! `Remote` before a scripted facilitator.

use std::sync::Arc;

use async_trait::async_trait;
use tollhouse::facilitator::{Facilitator, Remote};
use tollhouse::payment::Payment;
use tollhouse::primitives::SystemClock;
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::{ScriptedFacilitator, vectors};

use crate::{Cut, Stage};

pub struct RemoteStage {
    remote: Arc<Remote>,
    world: Option<ScriptedFacilitator>,
}

impl RemoteStage {
    fn world(&self) -> &ScriptedFacilitator {
        self.world.as_ref().expect("it has not been cut")
    }
}

#[async_trait]
impl Stage for RemoteStage {
    async fn set() -> Self {
        let world = ScriptedFacilitator::start().await;
        let remote = Remote::new(&world.config("remote"), None, Arc::new(SystemClock)).expect("a good configuration");
        Self { remote: Arc::new(remote), world: Some(world) }
    }

    fn facilitator(&self) -> Arc<dyn Facilitator> {
        self.remote.clone()
    }

    fn payable(&self) -> Payment {
        vectors::eip3009_base_sepolia()
    }

    async fn unpayable(&self) -> Payment {
        for path in ["/verify", "/settle"] {
            self.world().always(path, Behaviour::Decline("insufficient_funds"));
        }
        vectors::unsigned(1)
    }

    async fn moved(&self, _payment: &Payment) -> usize {
        self.world().settlements()
    }

    /// The next answer is lost, and whoever asks meanwhile hears of trouble.
    async fn lost(&mut self) -> Payment {
        self.world().on_settle([Behaviour::HonestThenReset, Behaviour::HonestThenReset]);
        self.payable()
    }

    /// The script is played out; from here on every answer arrives.
    async fn find(&mut self) {}

    async fn cut(&mut self) -> Cut {
        if let Some(world) = self.world.take() {
            world.stop().await;
        }
        Cut::Counterpart
    }
}
