//! Who is not sold to (S35): accounts on lists, clients from ranges, countries.
//!
//! Everything here is a look in memory at what the request itself says, so it comes first: before a signature is
//! recovered, before the ledger is asked, before anything is reserved. A signed account and a claimed one are the same
//! to it: whoever claims another's account is refused for the signature, and gains nothing by being refused sooner.

mod countries;
mod list;
mod ranges;

use std::net::IpAddr;
use std::sync::LazyLock;

use crate::payment::{Credential, Dialect, Offer};
use crate::primitives::{Address, Timestamp};

use super::super::{Refusal, Visit};

pub use countries::{Countries, Country};
pub use list::{AddressList, ListError, MOST_ADDRESSES};
pub use ranges::{RangeError, Ranges};

/// Who is not sold to. Part of what a request lives under, like its price, so that one file is in force for both.
#[derive(Debug, Clone, Default)]
pub struct Screening {
    /// Accounts that neither pay nor are paid here.
    pub lists: Vec<AddressList>,
    /// What a list means that is older than it may be.
    pub when_stale: WhenStale,
    /// Where clients may not be.
    pub countries: Option<Countries>,
    /// Which addresses clients may have.
    pub clients: Clients,
}

/// What becomes of priced routes while a list is older than it may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenStale {
    /// They take no payment: nobody knows who should be on it by now.
    #[default]
    Deny,
    /// They go on, and the metrics say so.
    Warn,
}

/// Ranges of client addresses, as the connection shows them.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    /// Only these are sold to; `None` for everybody.
    pub allow: Option<Ranges>,
    /// These never are.
    pub deny: Ranges,
}

/// What stands against a sale. Each is a reason code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screened {
    /// The payer is on a list.
    Payer,
    /// Whoever would be paid is on a list.
    Payee,
    /// The client's address is in a range that is refused, or in none that is allowed.
    Client,
    /// The client is in a country that is refused.
    Country,
    /// Nobody who would be believed says where the client is.
    CountryUnknown,
}

impl Screened {
    /// The reason code: in the answer, the log and the metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Payer => "payer_screened",
            Self::Payee => "payee_screened",
            Self::Client => "client_screened",
            Self::Country => "country_screened",
            Self::CountryUnknown => "country_unknown",
        }
    }
}

impl Clients {
    /// A client whose address nobody knows is in no range that is allowed, and may be in one that is refused.
    fn refuse(&self, client: Option<IpAddr>) -> bool {
        match client {
            Some(client) => {
                self.deny.contains(client) || self.allow.as_ref().is_some_and(|allow| !allow.contains(client))
            }
            None => self.allow.is_some() || !self.deny.is_empty(),
        }
    }
}

impl Screening {
    /// Nobody is kept out.
    pub fn none() -> &'static Self {
        static NONE: LazyLock<Screening> = LazyLock::new(Screening::default);
        &NONE
    }

    /// Why nothing is sold to whoever sent this request, with or without a payment.
    pub(in crate::gate) fn turn_away(&self, visit: &Visit<'_>, now: Timestamp) -> Option<Refusal> {
        if let Some(screened) = self.place(visit) {
            return Some(Refusal::Screened(None, screened));
        }
        if self.when_stale == WhenStale::Deny && self.lists.iter().any(|list| list.is_stale(now)) {
            return Some(Refusal::ListStale);
        }
        // Where somebody else could be paid, that is what is offered.
        let mut offers = visit.toll.offers.iter().peekable();
        let nobody = offers.peek().is_some() && offers.all(|offer| !self.may_pay(offer));
        nobody.then_some(Refusal::Screened(None, Screened::Payee))
    }

    /// Why this payment is not taken from whom it says it is, or by whom it says it pays.
    pub(in crate::gate) fn turn_back(&self, credential: &Credential) -> Option<Refusal> {
        let payer = credential.authorization.payer();
        self.names(payer.0).then_some(Refusal::Screened(Some(credential.dialect), Screened::Payer))
    }

    /// Why a payment is not taken for this offer.
    pub(in crate::gate) fn spoil(&self, offer: &Offer, dialect: Dialect) -> Option<Refusal> {
        (!self.may_pay(offer)).then_some(Refusal::Screened(Some(dialect), Screened::Payee))
    }

    /// Whether whoever this offer pays may be paid.
    pub(in crate::gate) fn may_pay(&self, offer: &Offer) -> bool {
        !self.names(offer.pay_to.0)
    }

    fn place(&self, visit: &Visit<'_>) -> Option<Screened> {
        if self.clients.refuse(visit.client) {
            return Some(Screened::Client);
        }
        let countries = self.countries.as_ref()?;
        match countries.of(visit.peer, visit.fields) {
            None => Some(Screened::CountryUnknown),
            Some(country) => countries.deny.contains(&country).then_some(Screened::Country),
        }
    }

    /// Whether an account is on a list, be the list stale or not.
    fn names(&self, account: Address) -> bool {
        self.lists.iter().any(|list| list.names(account))
    }
}

#[cfg(test)]
mod tests;
