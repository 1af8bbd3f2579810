//! Who holds how much play money, and which payments have moved it.

use std::collections::{HashMap, VecDeque};

use alloy::primitives::Address;

use super::{Behaviour, DECLINED, Decline};
use crate::payment::Eip3009;
use crate::primitives::{AtomicAmount, Nonce, Timestamp};

/// The authorization can no longer be settled.
pub(super) const LAPSED: &str = "invalid_exact_evm_payload_authorization_valid_before";
const ALREADY_USED: &str = "invalid_exact_evm_nonce_already_used";
const INSUFFICIENT_BALANCE: &str = "invalid_exact_evm_insufficient_balance";
const FULL: &str = "sandbox_full";

/// The books. Every method leaves them balanced.
pub(super) struct Books {
    opening_balance: AtomicAmount,
    max_accounts: usize,
    max_settled: usize,
    accounts: HashMap<Address, AtomicAmount>,
    /// There is one network and one token, so payer and nonce are what is unique (EIP-3009).
    settled: HashMap<(Address, Nonce), Entry>,
    /// The same keys in the order they were settled, so that the oldest can be forgotten.
    order: VecDeque<(Address, Nonce)>,
    /// Payments settled after this moment are all remembered.
    forgotten: Timestamp,
}

#[derive(Clone, Copy)]
struct Entry {
    at: Timestamp,
    told_at: Timestamp,
}

/// What the books say of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    /// It moved the money just now.
    Now,
    /// It had moved the money already; nothing more was moved.
    Before {
        /// When it did.
        at: Timestamp,
        /// When anybody may know.
        told_at: Timestamp,
    },
}

impl Books {
    pub(super) fn new(behaviour: &Behaviour) -> Self {
        Self {
            opening_balance: behaviour.opening_balance,
            max_accounts: behaviour.max_accounts,
            max_settled: behaviour.max_settled,
            accounts: HashMap::new(),
            settled: HashMap::new(),
            order: VecDeque::new(),
            forgotten: Timestamp::EPOCH,
        }
    }

    /// What an account holds. One that was never seen holds the opening balance.
    pub(super) fn balance(&self, account: Address) -> AtomicAmount {
        match self.accounts.get(&account) {
            Some(held) => *held,
            None if account == DECLINED => AtomicAmount::ZERO,
            None => self.opening_balance,
        }
    }

    /// Whether the payment has moved money.
    pub(super) fn find(&self, signed: &Eip3009) -> Option<Posted> {
        let Entry { at, told_at } = *self.settled.get(&(signed.from, signed.nonce))?;
        Some(Posted::Before { at, told_at })
    }

    /// Whether a payment that was reserved at this moment and is not in the books has moved nothing. When it may
    /// have been forgotten, nobody can tell.
    pub(super) fn remembers(&self, reserved_at: Timestamp) -> bool {
        reserved_at > self.forgotten
    }

    /// Whether the payment would move the money now.
    pub(super) fn would_post(&self, signed: &Eip3009) -> Result<(), Decline> {
        if self.find(signed).is_some() {
            return Err(decline(ALREADY_USED));
        }
        self.debit(signed).map(|_| ())
    }

    /// Moves the money, unless this payment has moved it already.
    pub(super) fn post(&mut self, signed: &Eip3009, now: Timestamp, told_at: Timestamp) -> Result<Posted, Decline> {
        if let Some(before) = self.find(signed) {
            return Ok(before);
        }
        if lapsed(signed, now) {
            return Err(decline(LAPSED));
        }
        let left = self.debit(signed)?;
        self.accounts.insert(signed.from, left);
        // All play money together fits 256 bits many times over; saturation is never reached.
        let credited = self.balance(signed.to).units().saturating_add(signed.value.units());
        self.accounts.insert(signed.to, AtomicAmount::new(credited));
        self.remember((signed.from, signed.nonce), Entry { at: now, told_at });
        Ok(Posted::Now)
    }

    /// What the payer would have left.
    fn debit(&self, signed: &Eip3009) -> Result<AtomicAmount, Decline> {
        let is_new = |account: &Address| !self.accounts.contains_key(account);
        let room = self.max_accounts.saturating_sub(self.accounts.len());
        if room < 2 && [signed.from, signed.to].iter().filter(|account| is_new(account)).count() > room {
            return Err(decline(FULL));
        }
        let left = self.balance(signed.from).units().checked_sub(signed.value.units());
        left.map(AtomicAmount::new).ok_or_else(|| decline(INSUFFICIENT_BALANCE))
    }

    /// Forgets the oldest payment when there are too many. The ledger still refuses to sell for it again.
    fn remember(&mut self, key: (Address, Nonce), entry: Entry) {
        if self.order.len() >= self.max_settled
            && let Some(oldest) = self.order.pop_front()
            && let Some(entry) = self.settled.remove(&oldest)
        {
            self.forgotten = entry.at;
        }
        self.settled.insert(key, entry);
        self.order.push_back(key);
    }
}

/// Whether the authorization is past its last second; `validBefore` is exclusive (EIP-3009).
pub(super) fn lapsed(signed: &Eip3009, now: Timestamp) -> bool {
    signed.valid_before <= alloy::primitives::U256::from(now.as_secs())
}

fn decline(code: &str) -> Decline {
    Decline { code: code.to_owned() }
}
