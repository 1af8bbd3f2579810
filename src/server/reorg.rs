//! Watches what has settled until it is final, and raises the alarm when a block with a payment vanishes (S26).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::facilitator::Holds;
use crate::facilitator::chain::{Sighting, Watch, Watched};
use crate::gate::{Event, Observer};
use crate::ledger::{Filter, State, Store};
use crate::payment::PaymentKey;

use super::facilitators::Chains;

/// How often the chains are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How many payments may wait to be watched (I7).
const MOST_WAITING: usize = 10_000;
/// How many of the latest payments are watched again after a restart. Those that are final are let go at once.
const AFTER_RESTART: usize = 1_000;

/// Hears of settlements on their way to telemetry.
pub(super) struct Lookout {
    telemetry: Arc<dyn Observer>,
    settled: Mutex<VecDeque<PaymentKey>>,
}

impl Lookout {
    pub(super) fn before(telemetry: Arc<dyn Observer>) -> Arc<Self> {
        Arc::new(Self { telemetry, settled: Mutex::default() })
    }

    fn settled(&self) -> MutexGuard<'_, VecDeque<PaymentKey>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, key: PaymentKey) {
        let settled = &mut *self.settled();
        if settled.len() >= MOST_WAITING {
            settled.pop_front();
        }
        settled.push_back(key);
    }
}

impl Observer for Lookout {
    fn observe(&self, event: &Event) {
        if let Event::Settled { key, .. } = event {
            self.note(*key);
        }
        self.telemetry.observe(event);
    }
}

/// Watches until dropped.
pub(super) async fn watch(lookout: Arc<Lookout>, store: Arc<dyn Store>, chains: Chains, holds: Arc<Holds>) {
    let latest = Filter { limit: AFTER_RESTART, ..Filter::default() };
    match store.list(&latest).await {
        Ok(entries) => entries.iter().rev().for_each(|(key, _)| lookout.note(*key)),
        Err(error) => tracing::warn!(%error, "payments that settled before the start are not watched"),
    }
    let mut watches: Vec<Watch> = Vec::new();
    loop {
        take_up(&lookout, &*store, &chains, &mut watches).await;
        for watch in watches.iter_mut().filter(|watch| !watch.is_empty()) {
            match watch.look().await {
                Ok(sightings) => sightings.iter().for_each(|sighting| tell(&lookout, &holds, sighting)),
                Err(error) => {
                    tracing::warn!(network = %watch.chain().network(), %error, "settled payments could not be looked at");
                }
            }
        }
        watches.retain(|watch| !watch.is_empty());
        tokio::time::sleep(EVERY).await;
    }
}

/// Starts to watch what has settled since the last look, where there is a node to watch it on.
async fn take_up(lookout: &Lookout, store: &dyn Store, chains: &Chains, watches: &mut Vec<Watch>) {
    let settled = std::mem::take(&mut *lookout.settled());
    let known = chains.load_full();
    for key in settled {
        let entry = match store.load(key).await {
            Ok(Some(found)) => found.entry,
            Ok(None) => continue,
            Err(_) => {
                lookout.note(key);
                continue;
            }
        };
        let State::Settled { receipt, .. } = &entry.state else { continue };
        let watched = Watched { payment: Arc::new(entry.sale.payment.clone()), transaction: receipt.transaction };
        if let Some(watch) = watches.iter_mut().find(|watch| *watch.chain().network() == receipt.network) {
            watch.add(watched);
        } else if let Some(chain) = known.iter().find(|known| *known.chain.network() == receipt.network) {
            let mut watch = Watch::new(Arc::clone(&chain.chain));
            watch.add(watched);
            watches.push(watch);
        }
    }
}

fn tell(lookout: &Lookout, holds: &Holds, sighting: &Sighting) {
    match sighting {
        Sighting::Gone(Watched { payment, transaction }) => {
            holds.hold(payment.payer());
            let what = format!(
                "REORGED: transaction {transaction} settled {} and is on the chain no more; its payer is on hold",
                payment.offer.price()
            );
            lookout.observe(&Event::Alarm { key: Some(payment.key()), what });
        }
        Sighting::Back(Watched { payment, transaction }) => {
            holds.release(payment.payer());
            tracing::info!(payment = %payment.key(), %transaction, "a payment that was undone is on the chain again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Claim, Ledger, Limits, Memory};
    use crate::payment::Replay;
    use crate::primitives::{SystemClock, Timestamp};
    use crate::testing::sales::{receipt, sale};

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn observe(&self, event: &Event) {
            if let Event::Alarm { what, .. } = event {
                self.0.lock().expect("nobody panics here").push(what.clone());
            }
        }
    }

    #[test]
    fn s26_a_payment_that_is_gone_raises_the_alarm_and_holds_its_payer_until_it_is_back() {
        let heard = Arc::new(Heard::default());
        let lookout = Lookout::before(Arc::clone(&heard) as Arc<dyn Observer>);
        let holds = Holds::default();
        let sale = sale(1);
        let payment = Arc::new(sale.payment.clone());
        let watched =
            Watched { payment: Arc::clone(&payment), transaction: receipt(&sale, Timestamp::EPOCH).transaction };

        tell(&lookout, &holds, &Sighting::Gone(watched.clone()));
        assert!(holds.holds(payment.payer()));
        let alarms = heard.0.lock().expect("nobody panics here").clone();
        assert!(matches!(&alarms[..], [alarm] if alarm.starts_with("REORGED")), "{alarms:?}");

        tell(&lookout, &holds, &Sighting::Back(watched));
        assert!(!holds.holds(payment.payer()));
    }

    #[tokio::test]
    async fn s26_what_has_settled_is_watched_where_there_is_a_node() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let ledger = Ledger::new(Arc::clone(&store), Arc::new(SystemClock), Limits::default());
        let sale = Arc::new(sale(1));
        let Ok(Claim::Granted(lease)) = ledger.claim(sale.clone(), Duration::from_secs(60), Replay::Refuse).await
        else {
            panic!("the ledger is empty");
        };
        let receipt = receipt(&sale, Timestamp::EPOCH);
        let begun = lease.begin("own", None, Timestamp::EPOCH).await.expect("the lease is fresh");
        let _delivering = begun.settled(receipt.clone(), &[], true).await.expect("it can be filed");
        let lookout = Lookout::before(Arc::new(Heard::default()));
        lookout.note(sale.payment.key());

        let mut watches = Vec::new();
        let chains = Chains::default();
        take_up(&lookout, &*store, &chains, &mut watches).await;
        assert!(watches.is_empty(), "there is no node");

        lookout.note(sale.payment.key());
        let node = crate::primitives::Secret::new("http://127.0.0.1:1".to_owned());
        let chain = crate::facilitator::chain::Chain::connect(receipt.network, &[node], Arc::new(SystemClock));
        let chain = Arc::new(chain.expect("the address is fine"));
        chains.store(Arc::new(vec![super::super::facilitators::Watched { named_in: "networks".into(), chain }]));
        take_up(&lookout, &*store, &chains, &mut watches).await;
        assert_eq!(watches.iter().map(Watch::len).collect::<Vec<_>>(), [1]);
    }
}
