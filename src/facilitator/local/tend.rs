//! Looks after what was sent: a nonce that is taken has to end up in a block, or everything behind it waits (S34).
//!
//! * What no node knows is sent again, as long as it can still settle.
//! * What is stuck is sent again under the same nonce and a higher fee, a bounded number of times and up to the
//!   operator's ceiling.
//! * What can no longer settle is replaced by a transaction to ourselves that moves nothing: it would revert, for more
//!   gas.
//! * A nonce under which nothing was ever sent, though later ones were, is filled the same way.
//!
//! Every attempt is written down before it is sent, so whoever looks for a payment looks at all of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Bytes, U64};
use serde_json::json;

use super::Local;
use super::book::{Attempt, Book, Flight, MOST_ATTEMPTS, Raw, Standing};
use super::broadcast::{Broadcast, broadcast};
use super::desk::Turn;
use super::plan::MAX_GAS;
use super::transaction::{Call, Fees, gas_limit};
use crate::facilitator::BoxError;
use crate::facilitator::chain::RpcError;
use crate::primitives::Timestamp;

/// How often the desk is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// How long a look may take: a node that hangs must not keep payments from their turn.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long a transaction may be in no block before something is done about it, and again after that.
const STUCK: Duration = Duration::from_secs(15);
/// How long a nonce has to be missing before it is filled: a node may be behind (S27).
const GAP: Duration = Duration::from_secs(10);
/// How many flights are mended in one look (I7).
const AT_ONCE: usize = 8;
/// How many times its first price a transaction may reach where the operator set no ceiling.
const MOST_RAISES: u128 = 4;

/// What has to be remembered from one look to the next.
#[derive(Default)]
pub(super) struct Tending(Mutex<Looks>);

#[derive(Default)]
struct Looks {
    /// The lowest missing nonce, and since when it is missing.
    gap: Option<(u64, Timestamp)>,
    /// When a flight was mended last, by nonce.
    mended: HashMap<u64, Timestamp>,
}

impl Tending {
    /// Nonces that have been missing for long enough.
    fn old_gaps(&self, book: &Book, mined: u64, now: Timestamp) -> Vec<u64> {
        let looks = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lowest) = book.gaps(mined).next() else {
            looks.gap = None;
            return Vec::new();
        };
        match looks.gap {
            Some((nonce, since)) if nonce == lowest && now.since(since) >= GAP => {
                book.gaps(mined).take(AT_ONCE).collect()
            }
            Some((nonce, _)) if nonce == lowest => Vec::new(),
            _ => {
                looks.gap = Some((lowest, now));
                Vec::new()
            }
        }
    }

    /// Flights that are in no block for too long. Each is handed out once in a while.
    fn stuck(&self, book: &Book, mined: u64, now: Timestamp) -> Vec<u64> {
        let looks = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.mended.retain(|nonce, _| book.under(*nonce).is_some());
        let is_due = |flight: &&Flight| {
            let last = looks.mended.get(&flight.nonce).copied().unwrap_or(Timestamp::EPOCH).max(flight.latest().at);
            flight.nonce >= mined && now.since(last) >= STUCK
        };
        let due: Vec<u64> = book.flights.iter().filter(is_due).take(AT_ONCE).map(|flight| flight.nonce).collect();
        looks.mended.extend(due.iter().map(|nonce| (*nonce, now)));
        due
    }
}

impl Local {
    /// One look at what gas costs, at what the key holds, and at everything that was sent with it: that is left to another
    /// process while it is the submitter. One that fails keeps none of the others from happening.
    ///
    /// # Errors
    /// When the notes or the chain do not answer.
    pub async fn tend(&self) -> Result<(), BoxError> {
        tokio::time::timeout(DEADLINE, async {
            let (gas, balance, flights) =
                tokio::join!(self.look_at_gas(), self.look_after_balance(), self.look_after_flights());
            flights.and(balance).and(gas)
        })
        .await?
    }

    async fn look_at_gas(&self) -> Result<(), BoxError> {
        if self.dues.is_due(self.clock.now()) {
            self.dues.note(self.market(None).await?, self.clock.now());
        }
        Ok(())
    }

    async fn look_after_balance(&self) -> Result<(), BoxError> {
        if self.purse.is_due(self.clock.now()) {
            let balance = self.chain.coin_balance(self.address()).await?;
            self.note_balance(balance, self.market(None).await?);
        }
        Ok(())
    }

    async fn look_after_flights(&self) -> Result<(), BoxError> {
        let book = self.desk.look().await?;
        if self.desk.standing(&book) == Standing::Theirs {
            return Ok(());
        }
        if book.flights.is_empty() {
            self.desk.rest().await;
            return Ok(());
        }
        let now = self.clock.now();
        let mined = self.chain.count(self.address(), "latest").await?;
        self.note_landed(&book, mined, now).await?;
        let (stuck, gaps) = (self.tending.stuck(&book, mined, now), self.tending.old_gaps(&book, mined, now));
        let nothing_to_do = stuck.is_empty() && gaps.is_empty() && !self.desk.has_landed();
        if nothing_to_do && self.desk.standing(&book) == Standing::Ours {
            self.desk.rest().await;
            return Ok(());
        }
        // Taking the turn renews the lease, too.
        let mut turn = self.desk.turn_to_mend().await?;
        if self.desk.has_landed() {
            self.desk.write(&mut turn, |_| ()).await?;
        }
        for nonce in gaps {
            self.fill(&mut turn, nonce).await?;
        }
        for nonce in stuck {
            self.mend(&mut turn, nonce).await?;
        }
        self.desk.finish(turn).await;
        Ok(())
    }

    /// Finds out which flights are in a block. One whose nonce is used up by a transaction we do not know was
    /// replaced by somebody who has the key; what it would have settled is left to reconciliation.
    async fn note_landed(&self, book: &Book, mined: u64, now: Timestamp) -> Result<(), BoxError> {
        for flight in book.flights.iter().filter(|flight| flight.nonce < mined) {
            let mut landed = false;
            for hash in flight.hashes() {
                landed = landed || self.chain.is_mined(hash).await?;
            }
            // A node that is behind another may count a nonce and not know the receipt yet.
            if !landed && now.since(flight.latest().at) >= STUCK {
                tracing::error!(
                    facilitator = %self.name, nonce = flight.nonce,
                    "a transaction that is not ours used a nonce of the gas key; does anything else hold the key?"
                );
                landed = true;
            }
            if landed {
                self.desk.landed(flight.nonce);
            }
        }
        Ok(())
    }

    /// Does what can be done about a flight that is in no block.
    async fn mend(&self, turn: &mut Turn, nonce: u64) -> Result<(), BoxError> {
        let Some(flight) = turn.book().under(nonce).cloned() else { return Ok(()) };
        let call = Call::of_raw(&flight.raw.0)?;
        let latest = *flight.latest();
        let pointless = !flight.empty && !self.can_settle(&flight, &call).await?;
        if !pointless && !self.chain.knows(latest.hash).await? {
            tracing::warn!(facilitator = %self.name, nonce, transaction = %latest.hash, "a transaction was lost; sending it again");
            broadcast(&self.chain, latest.hash, &flight.raw.0).await;
            return Ok(());
        }
        let Some(fees) = self.raised(&flight).await? else {
            tracing::error!(
                facilitator = %self.name, nonce, transaction = %latest.hash, fee = latest.fees.most(),
                "a transaction is stuck, and may not be paid more for; see max_gas_price"
            );
            broadcast(&self.chain, latest.hash, &flight.raw.0).await;
            return Ok(());
        };
        let call = if pointless { self.nothing(fees).await? } else { Call { fees, ..call } };
        tracing::warn!(
            facilitator = %self.name, nonce, fee = fees.most(), pointless,
            "a transaction is stuck; replacing it under the same nonce"
        );
        self.attempt(turn, flight.clone(), call, flight.empty || pointless).await
    }

    /// Uses up a nonce that nothing was sent under.
    async fn fill(&self, turn: &mut Turn, nonce: u64) -> Result<(), BoxError> {
        if turn.book().under(nonce).is_some() {
            return Ok(());
        }
        tracing::warn!(facilitator = %self.name, nonce, "a nonce is missing; filling it");
        let call = self.nothing(self.fees().await?).await?;
        let flight = Flight {
            nonce,
            payment: None,
            good_until: u64::MAX,
            attempts: Vec::new(),
            raw: Raw(Bytes::new()),
            empty: true,
        };
        self.attempt(turn, flight, call, true).await
    }

    /// Signs another transaction under a flight's nonce, writes it down and sends it.
    async fn attempt(&self, turn: &mut Turn, flight: Flight, call: Call, empty: bool) -> Result<(), BoxError> {
        let nonce = flight.nonce;
        let (is_first, fills_gap) = (flight.attempts.is_empty(), flight.payment.is_none());
        let (hash, raw) = call.sign(self.desk.signer(), nonce).await?;
        let mut flight = Flight { raw: Raw(raw.clone()), empty, ..flight };
        flight.attempts.push(Attempt { hash, fees: call.fees, at: self.clock.now() });
        self.desk.write(turn, |book| book.put(flight)).await?;
        if let Broadcast::NotSent(error) = broadcast(&self.chain, hash, &raw).await {
            tracing::warn!(facilitator = %self.name, transaction = %hash, %error, "a replacement was not taken");
            // A gap that turns out to be none needs no flight. Any other flight is looked at again.
            if is_first && fills_gap {
                self.desk.write(turn, |book| book.forget(nonce)).await?;
            }
        }
        Ok(())
    }

    /// Whether the transaction would still move the payment's money.
    async fn can_settle(&self, flight: &Flight, call: &Call) -> Result<bool, BoxError> {
        if self.chain.now().as_secs() >= flight.good_until {
            return Ok(false);
        }
        let gas = U64::from(call.gas_limit);
        let asked = json!([{ "from": self.address(), "to": call.to, "data": call.input, "gas": gas }, "latest"]);
        match self.chain.read::<Bytes>("eth_call", asked).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_revert() => Ok(false),
            // A wallet that burns its gas brings such words about, and must not keep us from looking after the others.
            Err(RpcError::Refused { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The price of the next attempt, if there may be one.
    async fn raised(&self, flight: &Flight) -> Result<Option<Fees>, BoxError> {
        let Some(first) = flight.attempts.first().filter(|_| flight.attempts.len() < MOST_ATTEMPTS) else {
            return Ok(None);
        };
        let limit = self.max_gas_price.unwrap_or(first.fees.most().saturating_mul(MOST_RAISES));
        Ok(flight.latest().fees.raised(self.market(None).await?, limit))
    }

    /// A transaction to ourselves that moves nothing.
    async fn nothing(&self, fees: Fees) -> Result<Call, BoxError> {
        let own = self.address();
        let asked = json!([{ "from": own, "to": own, "value": "0x0" }, "latest"]);
        let estimate: U64 = self.chain.read("eth_estimateGas", asked).await?;
        let gas_limit = gas_limit(estimate.to(), MAX_GAS)?;
        Ok(Call { chain_id: self.chain.chain_id(), to: own, input: Bytes::new(), gas_limit, fees })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn s34_a_nonce_is_missing_for_a_while_before_it_is_filled() {
        let tending = Tending::default();
        let mut book = Book::default();
        book.next = 3;
        assert!(tending.old_gaps(&book, 1, at(100)).is_empty());
        assert!(tending.old_gaps(&book, 1, at(109)).is_empty());
        assert_eq!(tending.old_gaps(&book, 1, at(110)), [1, 2]);
        assert!(tending.old_gaps(&book, 2, at(111)).is_empty(), "another gap, another wait");
        assert!(tending.old_gaps(&book, 3, at(130)).is_empty());
    }
}
