//! Log lines: human on a terminal, JSON otherwise; one line per request.

use std::io::IsTerminal;

use arc_swap::ArcSwap;
use ring::hmac;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::filter::{Directives, asked, may_be_written};
use super::{Config, Format, PayerInLog};
use crate::facilitator::{BreakerState, Notice};
use crate::gate::Event;
use crate::gate::event::{Answered, Turn};
use crate::primitives::{Payer, Secret};

/// Sends log lines to standard error. `directives` (`--log`, `TOLLHOUSE_LOG`) go before the level of the file; neither
/// turns on what could repeat a credential (S63). Does nothing when a subscriber is installed already.
pub fn init(config: &Config, directives: Option<&Directives>) {
    let human = match config.format {
        Format::Human => true,
        Format::Json => false,
        Format::Auto => std::io::stderr().is_terminal(),
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if human {
        lines.with_target(false).with_ansi(colour).boxed()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    let filtered = tracing_subscriber::registry().with(lines).with(asked(config.level, directives));
    // A test process has one already; its lines go there.
    drop(filtered.with(filter_fn(may_be_written)).try_init());
}

/// Names payers so that the same one is recognisable and the address is not: a MAC under a key of the ledger.
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// Pseudonyms under this key.
    pub fn new(secret: &Secret<[u8; 32]>) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
    }

    fn of(&self, payer: Payer) -> String {
        alloy::primitives::hex::encode(&hmac::sign(&self.0, payer.0.as_slice()).as_ref()[..6])
    }
}

/// Writes events as lines.
pub(super) struct Lines {
    config: ArcSwap<Config>,
    pseudonyms: Pseudonyms,
}

impl Lines {
    pub(super) fn new(config: Config, pseudonyms: Pseudonyms) -> Self {
        Self { config: ArcSwap::from_pointee(config), pseudonyms }
    }

    pub(super) fn reconfigure(&self, config: Config) {
        self.config.store(config.into());
    }

    fn payer(&self, payer: Payer) -> String {
        match self.config.load().payer {
            PayerInLog::Hash => self.pseudonyms.of(payer),
            PayerInLog::Full => payer.to_string(),
            PayerInLog::None => String::new(),
        }
    }

    /// Strings are given as strings, never preformatted: the subscriber escapes control characters in them (S63).
    pub(super) fn write(&self, event: &Event) {
        match event {
            Event::Answered(answered) => self.access(answered),
            Event::Offered { .. } | Event::Refused { .. } => {}
            Event::Screened { route, reason, payer } => {
                let payer = payer.map(|payer| self.payer(payer)).unwrap_or_default();
                tracing::info!(route = &*route.0, reason, payer, "screened");
            }
            Event::Reserved { route, key } => tracing::debug!(%key, route = &*route.0, "reserved"),
            Event::Released { route, key, exhausted } => {
                tracing::debug!(%key, route = &*route.0, exhausted, "released");
            }
            Event::Settling { route, key, facilitator } => {
                tracing::debug!(%key, route = &*route.0, facilitator = &**facilitator, "settling");
            }
            Event::Settled { route, key, payer, amount, asset, network, transaction, reconciled, .. } => {
                tracing::info!(
                    %key,
                    route = &*route.0,
                    price = asset.display(*amount),
                    payer = self.payer(*payer),
                    network = network.as_str(),
                    %transaction,
                    reconciled,
                    "settled"
                );
            }
            Event::Declined { route, key, code } => {
                tracing::info!(%key, route = &*route.0, code = code.as_str(), "declined");
            }
            Event::Unknown { route, key, transaction, cause } => {
                let transaction = transaction.map(|hash| hash.to_string()).unwrap_or_default();
                tracing::warn!(%key, route = &*route.0, transaction, cause = cause.as_str(), "settlement unknown");
            }
            Event::Delivered { route, key, outcome } => tracing::debug!(%key, route = &*route.0, outcome, "delivered"),
            Event::SignedAgain { route, key } => {
                tracing::info!(%key, route = &*route.0, "signed again: not charged, an earlier payment is open");
            }
            Event::Reorganised { route, key, payer, turn, transaction } => {
                let (payer, transaction) = (self.payer(*payer), transaction.map(tracing::field::display));
                match turn {
                    Turn::Undone | Turn::Lost => {
                        tracing::warn!(%key, route = &*route.0, payer, transaction, "{}", turn.word());
                    }
                    Turn::SentAgain | Turn::Restored => {
                        tracing::info!(%key, route = &*route.0, payer, transaction, "{}", turn.word());
                    }
                }
            }
            Event::Redeemed { route, key } => tracing::info!(%key, route = &*route.0, "redeemed"),
            Event::Facilitator(Notice::Asked { facilitator, call, outcome, took }) => {
                tracing::debug!(facilitator = &**facilitator, call, outcome, milliseconds = millis(*took), "asked");
            }
            Event::WalletAsked { network, outcome } => {
                tracing::debug!(network = network.as_str(), outcome, "contract wallet");
            }
            Event::Facilitator(Notice::Breaker { facilitator, network, state, why }) => {
                let (facilitator, network, why) = (&**facilitator, network.as_str(), why.as_str());
                match state {
                    BreakerState::Open => tracing::error!(facilitator, network, why, "breaker open"),
                    BreakerState::HalfOpen => tracing::info!(facilitator, network, why, "breaker half open"),
                    BreakerState::Closed => tracing::warn!(facilitator, network, why, "breaker closed"),
                }
            }
            Event::Paused { scope, pause } => {
                let (by, why, since) = (pause.by.as_str(), pause.why.as_str(), pause.since.as_secs());
                tracing::warn!(route = scope.as_str(), by, why, since, "paused");
            }
            Event::Resumed { scope, by } => {
                let (by, why) = by.as_ref().map_or(("", ""), |pause| (&*pause.by, &*pause.why));
                tracing::warn!(route = scope.as_str(), by, why, "resumed");
            }
            Event::Alarm { key, what } => {
                let key = key.map(|key| key.to_string()).unwrap_or_default();
                tracing::error!(key, what = what.as_str(), "alarm");
            }
        }
    }

    fn access(&self, answered: &Answered) {
        let config = self.config.load();
        if !config.access {
            return;
        }
        let route = answered.route.as_ref().map_or("", |route| &*route.0);
        let query = answered.query.as_deref().filter(|_| config.keep_query).unwrap_or_default();
        let client = answered.client.map(|client| client.to_string()).unwrap_or_default();
        let milliseconds = millis(answered.took);
        let phases = answered.phases.iter().map(|(phase, took)| format!("{phase}={:.2}", millis(*took)));
        let phases = phases.collect::<Vec<_>>().join(" ");
        let paid = answered.payment.as_ref();
        tracing::info!(
            method = answered.method.as_str(),
            path = answered.path.as_str(),
            query = (!query.is_empty()).then_some(query),
            status = answered.status,
            route,
            outcome = answered.outcome,
            price = paid.map(|paid| paid.asset.display(paid.amount)),
            payer = paid.map(|paid| self.payer(paid.payer)),
            key = paid.map(|paid| paid.key.to_string()),
            bytes = answered.bytes,
            client,
            milliseconds,
            phases,
            error = answered.error.as_deref(),
            "request"
        );
    }
}

/// Milliseconds with two places.
fn millis(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::Address;

    #[test]
    fn a_payer_is_recognisable_and_not_named() {
        let names = Pseudonyms::new(&Secret::new([7; 32]));
        let (ann, bob) = (Payer(Address::repeat_byte(1)), Payer(Address::repeat_byte(2)));
        assert_eq!(names.of(ann), names.of(ann));
        assert_ne!(names.of(ann), names.of(bob));
        assert!(!ann.to_string().to_lowercase().contains(&names.of(ann)));
    }
}
