//! What every store promises, once for each store, and what the file promises besides.

mod claims;
mod on_disk;
mod searches;
mod spending;
mod swaps;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use tempfile::TempDir;
use tollhouse::ledger::{Delivery, Entry, Memory, Postgres, PostgresUrl, Purpose, Sqlite, State, Store};
use tollhouse::payment::PaymentKey;
use tollhouse::primitives::Timestamp;
use tollhouse::testing;
use tollhouse::testing::sales::{receipt, sale};

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const HOLD: Duration = Duration::from_secs(60);

/// A ledger as two processes see it; where only one can, both are the same.
struct House {
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
    _folder: Option<TempDir>,
}

impl House {
    fn memory() -> Self {
        let one: Arc<dyn Store> = Arc::new(Memory::new());
        Self { other: one.clone(), one, _folder: None }
    }

    fn file() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let one = open(&folder.path().join("ledger.db"));
        Self { other: one.clone(), one, _folder: Some(folder) }
    }

    fn two_processes() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("ledger.db");
        Self { one: open(&path), other: open(&path), _folder: Some(folder) }
    }

    async fn two_machines() -> Self {
        let schema = testing::Postgres::shared().schema().await;
        let url = PostgresUrl::parse(&schema.url, Path::new(".")).expect("the URL is right");
        let open = async || Arc::new(Postgres::open(&url, Purpose::Real).await.expect("the ledger opens"));
        Self { one: open().await, other: open().await, _folder: None }
    }
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(path, Purpose::Real).expect("the ledger opens"))
}

/// Every promise, kept by every store.
macro_rules! contract {
    ($($topic:ident: $promise:ident),* $(,)?) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$topic::$promise(super::House::memory()).await }
        )* }
        mod file { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$topic::$promise(super::House::file()).await }
        )* }
        mod two_processes { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$topic::$promise(super::House::two_processes()).await }
        )* }
        mod two_machines { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$topic::$promise(super::House::two_machines().await).await }
        )* }
    };
}

contract![
    swaps: a_swap_applies_only_to_what_it_expects,
    swaps: of_many_swaps_with_one_expectation_one_applies,
    swaps: every_state_is_read_as_it_was_written,
    swaps: a_secret_is_shared_and_stays,
    swaps: s34_a_cell_is_written_only_over_what_its_writer_saw,
    swaps: s34_of_many_swaps_of_a_cell_one_applies,
    swaps: writes_take_effect_in_their_order,
    claims: s2_one_payment_admits_one_of_sixty_four_claimants,
    claims: s5_a_fact_is_claimed_by_one_payment,
    claims: s5_a_swap_that_claims_in_vain_writes_nothing,
    claims: s5_of_many_who_claim_the_same_facts_one_does,
    claims: s5_in_whatever_order_a_batch_is_filed_what_is_proven_counts_and_one_word_at_most,
    claims: s5_of_a_batch_that_is_filed_at_once_what_is_proven_counts_and_one_word_at_most,
    claims: s5_a_claim_of_an_earlier_version_stands_against_words_and_not_against_proof,
    searches: the_longest_overdue_comes_first_and_settlements_stand_apart,
    searches: s67_nothing_is_forgotten_before_its_authorization_lapsed,
    searches: s67_what_is_open_is_never_forgotten,
    searches: i4_what_a_payer_left_open_for_a_request_is_found,
    searches: a_listing_is_filtered_and_newest_first,
    searches: a_census_counts_every_state_and_weighs_what_is_open,
    spending: no_payer_spends_more_in_a_day_however_many_payments_come_at_once,
    spending: what_nobody_was_charged_for_is_not_spent,
    spending: what_is_spent_is_the_sum_over_the_entries_that_count,
];

fn key(number: u64) -> PaymentKey {
    sale(number).payment.key()
}

fn reserved(number: u64) -> Entry {
    let state = State::Reserved { until: NOW.after(HOLD) };
    Entry {
        sale: Arc::new(sale(number)),
        state,
        releases: 0,
        redemptions: 0,
        day: None,
        declined: None,
        created: NOW,
        updated: NOW,
    }
}

fn settling(check_at: Timestamp, transaction: Option<B256>) -> State {
    State::Settling { since: NOW, facilitator: "cdp".into(), transaction, check_at, checks: 0, left: false }
}

fn settled(number: u64, delivery: Delivery) -> Entry {
    let receipt = receipt(&sale(number), NOW);
    let state =
        State::Settled { receipt: receipt.into(), facilitator: "cdp".into(), collect_by: NOW.after(HOLD), delivery };
    Entry { state, ..reserved(number) }
}
