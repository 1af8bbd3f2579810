//! `Sandbox` with its magic payers, and time that passes when told to.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use async_trait::async_trait;
use tollhouse::facilitator::Facilitator;
use tollhouse::facilitator::sandbox::{Behaviour, MAGIC_PAYERS, PAYEE, Sandbox, asset, network};
use tollhouse::payment::{Authorization, Dialect, Offer, Payment, Resource, SchemeName, SettleMode};
use tollhouse::primitives::{AtomicAmount, Clock, SystemClock};
use tollhouse::testing::{ManualClock, Wallet};

use crate::{Cut, Stage};

const PRICE: u64 = 10_000;
const UNKNOWN: Duration = Duration::from_secs(10);

pub struct SandboxStage {
    sandbox: Arc<Sandbox>,
    clock: ManualClock,
    payable: Payment,
}

impl SandboxStage {
    fn payment_of(&self, magic: &str) -> Payment {
        let payer = MAGIC_PAYERS.iter().find(|payer| payer.name == magic).expect("the payer is published");
        payment(&Wallet::from_key(payer.key), &self.clock)
    }
}

#[async_trait]
impl Stage for SandboxStage {
    async fn set() -> Self {
        let clock = ManualClock::at(SystemClock.now());
        let behaviour = Behaviour { unknown: UNKNOWN, ..Behaviour::default() };
        let sandbox = Sandbox::new("sandbox".into(), Arc::new(clock.clone()), behaviour);
        let payable = payment(&Wallet::from_seed(1), &clock);
        Self { sandbox: Arc::new(sandbox), clock, payable }
    }

    fn facilitator(&self) -> Arc<dyn Facilitator> {
        self.sandbox.clone()
    }

    fn payable(&self) -> Payment {
        self.payable.clone()
    }

    async fn unpayable(&self) -> Payment {
        self.payment_of("declined")
    }

    /// By what the payee has gained: every payment of this stage has the same price.
    async fn moved(&self, _payment: &Payment) -> usize {
        let opening = Behaviour::default().opening_balance.units();
        let gained = self.sandbox.balance(PAYEE.0).units() - opening;
        let (payments, odd) = gained.div_rem(U256::from(PRICE));
        assert!(odd.is_zero(), "part of a payment moved");
        payments.to()
    }

    async fn lost(&mut self) -> Payment {
        self.payment_of("unknown")
    }

    async fn find(&mut self) {
        self.clock.advance(UNKNOWN);
    }

    /// Its books are all it has.
    async fn cut(&mut self) -> Cut {
        Cut::Nothing
    }
}

fn payment(payer: &Wallet, clock: &ManualClock) -> Payment {
    let offer = Offer {
        scheme: SchemeName::Exact,
        network: Arc::new(network()),
        asset: Arc::new(asset()),
        amount: AtomicAmount::new(U256::from(PRICE)),
        pay_to: PAYEE,
        max_timeout: Duration::from_secs(120),
        settle: SettleMode::OnResponse,
        sandbox: true,
    };
    let authorization = Authorization::Eip3009(payer.accept(Dialect::V2, &offer, clock.now()));
    Payment { offer, authorization, dialect: Dialect::V2, resource: Resource::default() }
}
