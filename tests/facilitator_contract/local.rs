//! `Local` on a chain of our own, with Circle's own token.

#[expect(dead_code, reason = "the tests of `Local` alone need more of it")]
#[path = "../facilitator_local/world.rs"]
mod world;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use alloy::signers::local::PrivateKeySigner;
use async_trait::async_trait;
use tollhouse::facilitator::Facilitator;
use tollhouse::facilitator::chain::Chain;
use tollhouse::facilitator::local::{Local, Setup};
use tollhouse::payment::Payment;
use tollhouse::primitives::{Caip2, Payee, SystemClock, Timestamp};
use tollhouse::testing::anvil::{Anvil, CHAIN_ID};
use tollhouse::testing::relay::{Fault, Relay};

use crate::{Cut, Stage};
use world::{PAYEE, World, now, payer, payment_of, permit2_payment_of};

/// Long enough to prepare and send on a busy machine; the test of a lost answer waits it out.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

pub type LocalStage = OnChain<false>;

/// With whatever kind of authorization its payers sign.
pub struct OnChain<const PERMIT2: bool> {
    anvil: Option<Anvil>,
    setup: Setup,
    local: Arc<Local>,
    payable: Payment,
    losing: Option<Relay>,
}

impl<const PERMIT2: bool> OnChain<PERMIT2> {
    fn anvil(&self) -> &Anvil {
        self.anvil.as_ref().expect("it has not been cut")
    }
}

#[async_trait]
impl<const PERMIT2: bool> Stage for OnChain<PERMIT2> {
    async fn set() -> Self {
        let world = World::new().await;
        let mut payable = world.payment(1).await;
        if PERMIT2 {
            world.anvil.deploy_permit2().await;
            world.anvil.approve_permit2(payable.payer().0, U256::MAX).await;
            payable = permit2_payment_of(&payer(), 1, until());
        }
        let World { anvil, setup, local, .. } = world;
        Self { anvil: Some(anvil), setup, local, payable, losing: None }
    }

    fn facilitator(&self) -> Arc<dyn Facilitator> {
        self.local.clone()
    }

    fn payable(&self) -> Payment {
        self.payable.clone()
    }

    async fn unpayable(&self) -> Payment {
        let nobody = PrivateKeySigner::random();
        if PERMIT2 { permit2_payment_of(&nobody, 2, until()) } else { payment_of(&nobody, 2) }
    }

    async fn moved(&self, payment: &Payment) -> usize {
        self.anvil().transfers(payment.payer().0, PAYEE).await.len()
    }

    /// The same key at a node that takes transactions and never says what became of them.
    async fn lost(&mut self) -> Payment {
        let losing = Relay::failing(self.anvil(), "eth_getTransactionReceipt", Fault::LoseTheAnswer).await;
        let clock = Arc::new(SystemClock);
        let chain = Chain::connect(Caip2::evm(CHAIN_ID), &[losing.url()], clock.clone()).expect("the address is fine");
        let setup = Setup { chain: Arc::new(chain), settle_timeout: SETTLE_TIMEOUT, ..self.setup.clone() };
        self.local = Arc::new(Local::new(setup, &[Payee(PAYEE)], clock).expect("the key is fine"));
        self.losing = Some(losing);
        self.payable()
    }

    async fn find(&mut self) {
        self.losing.as_ref().expect("something was lost").heal();
    }

    async fn cut(&mut self) -> Cut {
        self.anvil = None;
        Cut::Counterpart
    }
}

fn until() -> Timestamp {
    now().after(Duration::from_secs(600))
}
