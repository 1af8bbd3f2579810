//! The same facilitator behind deadlines and breakers: whoever is behind them keeps the contract, and so does the whole.

use std::sync::Arc;

use async_trait::async_trait;
use tollhouse::facilitator::{BreakerConfig, Config, Facilitator, Guarded, Kind};
use tollhouse::payment::Payment;
use tollhouse::primitives::SystemClock;

use crate::remote::RemoteStage;
use crate::{Cut, Stage};

pub struct GuardedStage {
    guarded: Arc<Guarded>,
    behind: RemoteStage,
}

#[async_trait]
impl Stage for GuardedStage {
    async fn set() -> Self {
        let behind = RemoteStage::set().await;
        let inner = behind.facilitator();
        let config = Config {
            name: "guarded".into(),
            networks: vec![behind.payable().offer.network.id.clone()],
            verify_timeout: inner.settle_timeout(),
            settle_timeout: inner.settle_timeout(),
            kind: Kind::Sandbox,
        };
        let clock = Arc::new(SystemClock);
        let guarded = Guarded::new(inner, &config, BreakerConfig::default(), clock, Arc::new(drop));
        Self { guarded: Arc::new(guarded), behind }
    }

    fn facilitator(&self) -> Arc<dyn Facilitator> {
        self.guarded.clone()
    }

    fn payable(&self) -> Payment {
        self.behind.payable()
    }

    async fn unpayable(&self) -> Payment {
        self.behind.unpayable().await
    }

    async fn moved(&self, payment: &Payment) -> usize {
        self.behind.moved(payment).await
    }

    async fn lost(&mut self) -> Payment {
        self.behind.lost().await
    }

    async fn find(&mut self) {
        self.behind.find().await;
    }

    async fn cut(&mut self) -> Cut {
        self.behind.cut().await
    }
}
