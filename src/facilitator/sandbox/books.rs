//! Who holds how much play money, and which payments have moved it.

use std::collections::{HashMap, VecDeque};

use alloy::primitives::{Address, B256};

use super::{Behaviour, DECLINED, Decline};
use crate::payment::Authorization;
use crate::primitives::{AtomicAmount, Timestamp, TransferMethod};

const FULL: &str = "sandbox_full";

/// What an authorization moves, and what makes it one of its kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    from: Address,
    to: Address,
    value: AtomicAmount,
    /// From this second on it can no longer be settled.
    void_from: u64,
    nonce: Used,
}

/// A nonce of a payer. There is one network and one token, so there is no more to tell (EIP-3009); Permit2 counts its own.
type Used = (Address, TransferMethod, B256);

impl From<&Authorization> for Transfer {
    fn from(authorization: &Authorization) -> Self {
        let from = authorization.payer().0;
        let nonce = match authorization {
            Authorization::Eip3009(signed) => signed.nonce.0,
            Authorization::Permit2(signed) => signed.nonce.into(),
        };
        Self {
            from,
            to: authorization.payee().0,
            value: authorization.value(),
            void_from: authorization.valid_before(),
            nonce: (from, authorization.method(), nonce),
        }
    }
}

impl Transfer {
    pub(super) fn payer(&self) -> Address {
        self.from
    }

    /// Whether it is past its last second.
    pub(super) fn has_lapsed(&self, now: Timestamp) -> bool {
        self.void_from <= now.as_secs()
    }

    /// The authorization can no longer be settled.
    pub(super) fn lapsed(&self) -> Decline {
        self.decline("invalid_exact_evm_payload_authorization_valid_before", "permit2_deadline_expired")
    }

    fn already_used(&self) -> Decline {
        self.decline("invalid_exact_evm_nonce_already_used", "permit2_invalid_nonce")
    }

    fn insufficient_balance(&self) -> Decline {
        self.decline("invalid_exact_evm_insufficient_balance", "permit2_insufficient_balance")
    }

    /// The SDKs have a code of each kind.
    fn decline(&self, eip3009: &str, permit2: &str) -> Decline {
        decline(match self.nonce.1 {
            TransferMethod::Eip3009 => eip3009,
            TransferMethod::Permit2 => permit2,
        })
    }
}

/// The books. Every method leaves them balanced.
pub(super) struct Books {
    opening_balance: AtomicAmount,
    max_accounts: usize,
    max_settled: usize,
    accounts: HashMap<Address, AtomicAmount>,
    settled: HashMap<Used, Entry>,
    /// The same keys in the order they were settled, so that the oldest can be forgotten.
    order: VecDeque<Used>,
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
    pub(super) fn find(&self, moved: &Transfer) -> Option<Posted> {
        let Entry { at, told_at } = *self.settled.get(&moved.nonce)?;
        Some(Posted::Before { at, told_at })
    }

    /// Whether a payment that was reserved at this moment and is not in the books has moved nothing. When it may
    /// have been forgotten, nobody can tell.
    pub(super) fn remembers(&self, reserved_at: Timestamp) -> bool {
        reserved_at > self.forgotten
    }

    /// Whether the payment would move the money now.
    pub(super) fn would_post(&self, moved: &Transfer) -> Result<(), Decline> {
        if self.find(moved).is_some() {
            return Err(moved.already_used());
        }
        self.debit(moved).map(|_| ())
    }

    /// Moves the money, unless this payment has moved it already.
    pub(super) fn post(&mut self, moved: &Transfer, now: Timestamp, told_at: Timestamp) -> Result<Posted, Decline> {
        if let Some(before) = self.find(moved) {
            return Ok(before);
        }
        if moved.has_lapsed(now) {
            return Err(moved.lapsed());
        }
        let left = self.debit(moved)?;
        self.accounts.insert(moved.from, left);
        // All play money together fits 256 bits many times over; saturation is never reached.
        let credited = self.balance(moved.to).units().saturating_add(moved.value.units());
        self.accounts.insert(moved.to, AtomicAmount::new(credited));
        self.remember(moved.nonce, Entry { at: now, told_at });
        Ok(Posted::Now)
    }

    /// What the payer would have left.
    fn debit(&self, moved: &Transfer) -> Result<AtomicAmount, Decline> {
        let is_new = |account: &Address| !self.accounts.contains_key(account);
        let room = self.max_accounts.saturating_sub(self.accounts.len());
        if room < 2 && [moved.from, moved.to].iter().filter(|account| is_new(account)).count() > room {
            return Err(decline(FULL));
        }
        let left = self.balance(moved.from).units().checked_sub(moved.value.units());
        left.map(AtomicAmount::new).ok_or_else(|| moved.insufficient_balance())
    }

    /// Forgets the oldest payment when there are too many. The ledger still refuses to sell for it again.
    fn remember(&mut self, key: Used, entry: Entry) {
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

fn decline(code: &str) -> Decline {
    Decline { code: code.to_owned() }
}
