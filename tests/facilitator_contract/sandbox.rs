//! `Sandbox` with its magic payers, and time that passes when told to.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use async_trait::async_trait;
use tollhouse::facilitator::Facilitator;
use tollhouse::facilitator::sandbox::{Behaviour, MAGIC_PAYERS, PAYEE, Sandbox, asset, network};
use tollhouse::payment::{Dialect, Offer, Payment, Resource, SchemeName, SettleMode};
use tollhouse::primitives::{Asset, AtomicAmount, Clock, SystemClock, TransferMethod};
use tollhouse::testing::{ManualClock, Wallet};

use crate::{Cut, Stage};

const PRICE: u64 = 10_000;
const UNKNOWN: Duration = Duration::from_secs(10);

pub type SandboxStage = Sandboxed<false>;

/// With whatever kind of authorization its payers sign.
pub struct Sandboxed<const PERMIT2: bool> {
    sandbox: Arc<Sandbox>,
    clock: ManualClock,
    payable: Payment,
}

impl<const PERMIT2: bool> Sandboxed<PERMIT2> {
    fn payment_of(&self, magic: &str) -> Payment {
        let payer = MAGIC_PAYERS.iter().find(|payer| payer.name == magic).expect("the payer is published");
        payment(&Wallet::from_key(payer.key), PERMIT2, &self.clock)
    }
}

#[async_trait]
impl<const PERMIT2: bool> Stage for Sandboxed<PERMIT2> {
    async fn set() -> Self {
        let clock = ManualClock::at(SystemClock.now());
        let behaviour = Behaviour { unknown: UNKNOWN, ..Behaviour::default() };
        let sandbox = Sandbox::new("sandbox".into(), Arc::new(clock.clone()), behaviour);
        let payable = payment(&Wallet::from_seed(1), PERMIT2, &clock);
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

fn payment(payer: &Wallet, permit2: bool, clock: &ManualClock) -> Payment {
    let method = if permit2 { TransferMethod::Permit2 } else { TransferMethod::Eip3009 };
    let offer = Offer {
        scheme: SchemeName::Exact,
        network: Arc::new(network()),
        asset: Arc::new(Asset { method, ..asset() }),
        amount: AtomicAmount::new(U256::from(PRICE)),
        pay_to: PAYEE,
        max_timeout: Duration::from_secs(120),
        settle: SettleMode::OnResponse,
        sandbox: true,
    };
    let authorization = payer.authorize(Dialect::V2, &offer, clock.now());
    Payment { offer, authorization, dialect: Dialect::V2, resource: Resource::default() }
}
