//! Watches what has settled until it is final, and tells the gate when a block with a payment vanishes (S26).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::facilitator::chain::{Sighting, Watch, Watched};
use crate::gate::event::Turn;
use crate::gate::{Event, Gate, Observer};
use crate::ledger::{Filter, State, Store, Undone};
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
        if let Event::Settled { key, .. } | Event::Reorganised { key, turn: Turn::Restored, .. } = event {
            self.note(*key);
        }
        self.telemetry.observe(event);
    }
}

/// Watches until dropped.
pub(super) async fn watch(lookout: Arc<Lookout>, gate: Arc<Gate>, chains: Chains) {
    let store = Arc::clone(gate.ledger.store());
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
                Ok(sightings) => {
                    for sighting in sightings {
                        tell(&lookout, &gate, sighting).await;
                    }
                }
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
        let State::Settled { receipt, undone, .. } = &entry.state else { continue };
        if *undone == Some(Undone::Lost) {
            continue;
        }
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

/// What the gate cannot write down now is watched anew, and told again.
async fn tell(lookout: &Lookout, gate: &Gate, sighting: Sighting) {
    let (key, told) = match sighting {
        Sighting::Gone(Watched { payment, transaction }) => {
            let key = payment.key();
            (key, gate.undo(key, transaction).await)
        }
        Sighting::Back(Watched { payment, transaction }, block) => {
            let key = payment.key();
            (key, gate.found_again(key, transaction, block).await)
        }
    };
    if let Err(error) = told {
        tracing::warn!(payment = %key, %error, "what the chain shows of a settled payment could not be written down");
        lookout.note(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Claim, Ledger, Limits, Memory};
    use crate::payment::Replay;
    use crate::primitives::{SystemClock, Timestamp};
    use crate::testing::sales::{receipt, sale};

    struct Deaf;

    impl Observer for Deaf {
        fn observe(&self, _event: &Event) {}
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
        let lookout = Lookout::before(Arc::new(Deaf));
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
