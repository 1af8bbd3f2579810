//! How many questions about payers who were not seen with money lately a facilitator is asked (S32).
//!
//! By network, like breakers: accounts with play money on a test network neither count as known on another nor use up
//! its ration.

use alloy::primitives::U256;

use super::declines::says_too_little;
use crate::facilitator::strangers::{Asked, Asking, Ration, Strangers, Turned};
use crate::facilitator::{Decline, SettleError, Shed, VerifyError};
use crate::payment::Payment;
use crate::primitives::{Caip2, Timestamp, TransferMethod};

/// A shop that opens may well see a few hundred new buyers in a second, and more in the first one; a flood has
/// thousands. Before it forwards, `before_forward` waits for the settlement, which takes up to 5 s: so long may 500 a
/// second be open. A *verify* takes 100 ms to 1 s.
const RATION: Ration = Ration { at_once: 2_500, per_second: 500, burst: 1_000 };

/// The payers of each network.
pub(super) struct Newcomers(Vec<(Caip2, Strangers)>);

/// A question is kept back.
#[derive(Debug)]
pub(super) enum KeptBack {
    /// It was answered a moment ago.
    Declined(Decline),
    /// There are too many.
    Shed(Shed),
}

impl From<KeptBack> for VerifyError {
    fn from(kept: KeptBack) -> Self {
        match kept {
            KeptBack::Declined(decline) => Self::Declined(decline),
            KeptBack::Shed(shed) => Self::Unavailable(shed.into()),
        }
    }
}

impl From<KeptBack> for SettleError {
    fn from(kept: KeptBack) -> Self {
        match kept {
            KeptBack::Declined(decline) => Self::Declined(decline),
            KeptBack::Shed(shed) => Self::NotSent(shed.into()),
        }
    }
}

impl KeptBack {
    fn of(turned: Turned, payment: &Payment) -> Self {
        let code = match payment.authorization.method() {
            TransferMethod::Eip3009 => "insufficient_funds",
            TransferMethod::Permit2 => "permit2_insufficient_balance",
        };
        match turned {
            Turned::Empty => Self::Declined(Decline { code: code.to_owned() }),
            Turned::Busy => Self::Shed(Shed(turned.into())),
        }
    }
}

impl Newcomers {
    /// On these networks.
    pub(super) fn on(networks: &[Caip2]) -> Self {
        Self(networks.iter().map(|network| (network.clone(), Strangers::sharing(RATION))).collect())
    }

    /// Whether the facilitator may be asked about this payment now.
    pub(super) fn pass(&self, payment: &Payment, now: Timestamp) -> Result<Option<Asking>, KeptBack> {
        let passed = self.of(payment).map(|strangers| strangers.pass(Asked::about(payment), now));
        passed.transpose().map_err(|turned| KeptBack::of(turned, payment))
    }

    /// Whether `pass` would turn this away, without taking anything.
    pub(super) fn turns_away(&self, payment: &Payment, now: Timestamp) -> Option<KeptBack> {
        let turned = self.of(payment)?.turns_away(Asked::about(payment), now)?;
        Some(KeptBack::of(turned, payment))
    }

    /// Counts a question that is asked in any case.
    pub(super) fn count_in(&self, payment: &Payment, now: Timestamp) -> Option<Asking> {
        Some(self.of(payment)?.count_in(payment.payer().0, now))
    }

    /// Takes in what the facilitator said: that the payer can pay, or why not. `Err(None)` says nothing of the payer.
    pub(super) fn heard<T>(&self, payment: &Payment, said: Result<T, Option<&Decline>>, now: Timestamp) {
        let (Some(strangers), Asked { payer, token, value }) = (self.of(payment), Asked::about(payment)) else {
            return;
        };
        match said {
            Ok(_) => strangers.welcome(payer, now),
            Err(Some(Decline { code })) if says_too_little(code) => {
                strangers.saw_balance(payer, token, value.saturating_sub(U256::ONE), now);
            }
            Err(Some(_)) => strangers.unwelcome(payer),
            Err(None) => {}
        }
    }

    fn of(&self, payment: &Payment) -> Option<&Strangers> {
        let network = &payment.offer.network.id;
        self.0.iter().find(|(own, _)| own == network).map(|(_, strangers)| strangers)
    }
}
