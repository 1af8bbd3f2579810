//! What every store promises, once for each store, and what the file promises besides.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollhouse::gate::claims_of;
use tollhouse::ledger::entry::{MARGIN, RECORD};
use tollhouse::ledger::{
    Answer, Archive, CellSwap, Census, Chore, Claim, Claimed, Day, Delivery, Entry, Filter, Ledger, Limits, Memory,
    OpenError, Postgres, PostgresUrl, Purpose, Sale, Spending, Sqlite, State, Store, Swap, Use, Versioned, Write,
};
use tollhouse::payment::{Authorization, PaymentKey, Receipt, Replay, TransactionHash};
use tollhouse::primitives::{AtomicAmount, Dollars, Payer, Timestamp};
use tollhouse::testing::sales::{receipt, sale, write};
use tollhouse::testing::{self, ManualClock};

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

macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$promise(super::House::memory()).await }
        )* }
        mod file { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$promise(super::House::file()).await }
        )* }
        mod two_processes { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$promise(super::House::two_processes()).await }
        )* }
        mod two_machines { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() { super::$promise(super::House::two_machines().await).await }
        )* }
    };
}

contract![
    a_swap_applies_only_to_what_it_expects,
    of_many_swaps_with_one_expectation_one_applies,
    s2_one_payment_admits_one_of_sixty_four_claimants,
    s5_a_fact_is_claimed_by_one_payment,
    s5_a_swap_that_claims_in_vain_writes_nothing,
    s5_of_many_who_claim_the_same_facts_one_does,
    s5_in_whatever_order_a_batch_is_filed_what_is_proven_counts_and_one_word_at_most,
    s5_of_a_batch_that_is_filed_at_once_what_is_proven_counts_and_one_word_at_most,
    s5_a_claim_of_an_earlier_version_stands_against_words_and_not_against_proof,
    every_state_is_read_as_it_was_written,
    the_longest_overdue_comes_first_and_settlements_stand_apart,
    s67_nothing_is_forgotten_before_its_authorization_lapsed,
    s67_what_is_open_is_never_forgotten,
    i4_what_a_payer_left_open_for_a_request_is_found,
    a_listing_is_filtered_and_newest_first,
    a_census_counts_every_state_and_weighs_what_is_open,
    a_secret_is_shared_and_stays,
    s34_a_cell_is_written_only_over_what_its_writer_saw,
    s34_of_many_swaps_of_a_cell_one_applies,
    writes_take_effect_in_their_order,
    no_payer_spends_more_in_a_day_however_many_payments_come_at_once,
    what_nobody_was_charged_for_is_not_spent,
    what_is_spent_is_the_sum_over_the_entries_that_count,
];

async fn a_swap_applies_only_to_what_it_expects(House { one, other, .. }: House) {
    let (key, first) = (key(1), reserved(1));
    assert_eq!(one.load(key).await.unwrap(), None);
    assert_eq!(one.swap(write(key, Some(1), &first, &[])).await.unwrap(), Swap::Stale(None));
    assert_eq!(one.swap(write(key, None, &first, &[])).await.unwrap(), Swap::Applied(1));
    let standing = Versioned { entry: first.clone(), version: 1 };
    assert_eq!(other.load(key).await.unwrap(), Some(standing.clone()));

    let second = Entry { state: State::Released, ..first };
    assert_eq!(other.swap(write(key, None, &second, &[])).await.unwrap(), Swap::Stale(Some(standing)));
    assert_eq!(other.swap(write(key, Some(1), &second, &[])).await.unwrap(), Swap::Applied(2));
    let standing = Versioned { entry: second.clone(), version: 2 };
    assert_eq!(one.swap(write(key, Some(1), &second, &[])).await.unwrap(), Swap::Stale(Some(standing)));
}

async fn of_many_swaps_with_one_expectation_one_applies(House { one, other, .. }: House) {
    let mut swaps = JoinSet::new();
    for number in 0..64 {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        let mine = Entry { releases: number, ..reserved(1) };
        swaps.spawn(async move { (number, store.swap(write(key(1), None, &mine, &[])).await.unwrap()) });
    }
    let ended = swaps.join_all().await;
    let applied: Vec<u32> = ended.iter().filter(|(_, swap)| *swap == Swap::Applied(1)).map(|(n, _)| *n).collect();
    assert_eq!(applied.len(), 1);
    let winner = Versioned { entry: Entry { releases: applied[0], ..reserved(1) }, version: 1 };
    assert_eq!(ended.iter().filter(|(_, swap)| *swap == Swap::Stale(Some(winner.clone()))).count(), 63);
}

async fn s2_one_payment_admits_one_of_sixty_four_claimants(House { one, other, .. }: House) {
    let ledgers = [one, other].map(|store| Ledger::new(store, Arc::new(ManualClock::at(NOW)), Limits::default()));
    let mut claims = JoinSet::new();
    for number in 0..64 {
        let ledger = ledgers[number % 2].clone();
        claims.spawn(async move { ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await.unwrap() });
    }
    let claims = claims.join_all().await;
    assert_eq!(claims.iter().filter(|claim| matches!(claim, Claim::Granted(_))).count(), 1);
    assert_eq!(claims.iter().filter(|claim| matches!(claim, Claim::InFlight { .. })).count(), 63);
}

async fn s5_a_fact_is_claimed_by_one_payment(House { one, other, .. }: House) {
    let fact = [Claimed::alone(vec![7; 32])];
    assert_eq!(one.swap(write(key(1), None, &settled(1, Delivery::Pending), &fact)).await.unwrap(), Swap::Applied(1));
    assert_eq!(
        other.swap(write(key(2), None, &settled(2, Delivery::Pending), &fact)).await.unwrap(),
        Swap::Claimed(key(1)),
        "one transaction settled two payments"
    );
    let again = settled(1, Delivery::Partial);
    assert_eq!(
        one.swap(write(key(1), Some(1), &again, &fact)).await.unwrap(),
        Swap::Applied(2),
        "its own fact is no obstacle"
    );
}

async fn s5_a_swap_that_claims_in_vain_writes_nothing(House { one, .. }: House) {
    let (taken, free) = (Claimed::alone(vec![1]), Claimed::alone(vec![2]));
    let entry = settled(1, Delivery::Pending);
    one.swap(write(key(1), None, &entry, std::slice::from_ref(&taken))).await.unwrap();
    let swap = one.swap(write(key(2), None, &settled(2, Delivery::Pending), &[free.clone(), taken])).await.unwrap();
    assert_eq!(swap, Swap::Claimed(key(1)));
    assert_eq!(one.load(key(2)).await.unwrap(), None);
    let swap = one.swap(write(key(3), None, &settled(3, Delivery::Pending), &[free])).await.unwrap();
    assert_eq!(swap, Swap::Applied(1), "a fact was claimed by a payment that was refused");
}

async fn s5_of_many_who_claim_the_same_facts_one_does(House { one, other, .. }: House) {
    let mut claims = JoinSet::new();
    for number in 1..=32 {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        let mut facts = [Claimed::alone(vec![1]), Claimed::alone(vec![2]), Claimed::alone(vec![3])];
        // Whoever took them in the order they come in would wait for one another crosswise.
        facts.rotate_left(number as usize % 3);
        claims.spawn(async move {
            let entry = settled(number, Delivery::Pending);
            (key(number), store.swap(write(key(number), None, &entry, &facts)).await.unwrap())
        });
    }
    let ended = claims.join_all().await;
    let won: Vec<_> = ended.iter().filter(|(_, swap)| *swap == Swap::Applied(1)).map(|(key, _)| *key).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(ended.iter().filter(|(_, swap)| *swap == Swap::Claimed(won[0])).count(), 31);
    assert_eq!(one.census(NOW).await.unwrap().entries.into_values().sum::<u64>(), 1);
}

async fn file(store: &dyn Store, number: u64, proven: bool) -> Swap {
    file_in(store, B256::repeat_byte(7), number, proven).await
}

/// Files a payment as settled in this transaction: shown there by our node, or merely said to be.
async fn file_in(store: &dyn Store, transaction: TransactionHash, number: u64, proven: bool) -> Swap {
    let word = Receipt { transaction, ..receipt(&sale(number), NOW) };
    let receipt = if proven { word.in_block(9) } else { word };
    let claims = claims_of(&sale(number).payment, &receipt);
    store.swap(write(key(number), None, &settled(number, Delivery::Pending), &claims)).await.unwrap()
}

async fn s5_in_whatever_order_a_batch_is_filed_what_is_proven_counts_and_one_word_at_most(house: House) {
    const SIZE: u64 = 4;
    for pattern in 0..1_u64 << SIZE {
        // Each pattern has a transaction and payments of its own.
        let House { one, other, .. } = &house;
        for place in 0..SIZE {
            let (number, proven) = (pattern * SIZE + place, pattern >> place & 1 == 1);
            let store = if place % 2 == 0 { one } else { other };
            let swap = file_in(&**store, B256::from(U256::from(pattern + 1)), number, proven).await;
            match proven {
                true => assert_eq!(swap, Swap::Applied(1), "{pattern:04b}: proof at {place} did not count"),
                false if place == 0 => assert_eq!(swap, Swap::Applied(1), "{pattern:04b}: nobody contradicts it"),
                // Whoever was first holds the transaction, by word or by proof.
                false => assert_eq!(swap, Swap::Claimed(key(pattern * SIZE)), "{pattern:04b}: a word at {place}"),
            }
        }
    }
}

async fn s5_of_a_batch_that_is_filed_at_once_what_is_proven_counts_and_one_word_at_most(
    House { one, other, .. }: House,
) {
    let mut filing = JoinSet::new();
    for number in 0..32 {
        let store = if number % 4 < 2 { one.clone() } else { other.clone() };
        filing.spawn(async move { (number % 2 == 0, file(&*store, number, number % 2 == 0).await) });
    }
    let filed = filing.join_all().await;
    assert_eq!(filed.iter().filter(|(proven, swap)| *proven && *swap == Swap::Applied(1)).count(), 16);
    let words = filed.iter().filter(|(proven, swap)| !*proven && *swap == Swap::Applied(1)).count();
    assert!(words <= 1, "{words} payments count by word");
    assert!(matches!(file(&*one, 100, false).await, Swap::Claimed(_)), "a word counts beside proof");
    assert_eq!(file(&*other, 101, true).await, Swap::Applied(1));
}

async fn s5_a_claim_of_an_earlier_version_stands_against_words_and_not_against_proof(House { one, other, .. }: House) {
    // As 0.1 wrote it for every settlement, proven or not.
    let transaction = B256::repeat_byte(7);
    let fact = [b"transaction\0eip155:84532\0", transaction.as_slice()].concat();
    let entry = settled(1, Delivery::Pending);
    one.swap(write(key(1), None, &entry, &[Claimed::alone(fact)])).await.unwrap();
    assert_eq!(file(&*other, 2, false).await, Swap::Claimed(key(1)));
    assert_eq!(file(&*other, 3, true).await, Swap::Applied(1));
    assert_eq!(file(&*one, 4, false).await, Swap::Claimed(key(1)));
}

async fn every_state_is_read_as_it_was_written(House { one, other, .. }: House) {
    let answer = Answer {
        status: 200,
        fields: vec![("x-odd".into(), vec![0xff, 0x00, b'"'])],
        body: bytes::Bytes::from_static(b"\x00\xffbody"),
        request_body: B256::repeat_byte(9),
        until: NOW,
    };
    let states = [
        State::Reserved { until: NOW },
        State::Released,
        State::Exhausted,
        settling(NOW, Some(B256::repeat_byte(3))),
        settling(NOW, None),
        settled(1, Delivery::Pending).state,
        settled(1, Delivery::Leased { until: NOW }).state,
        settled(1, Delivery::Partial).state,
        settled(1, Delivery::Done { answer: None }).state,
        settled(1, Delivery::Done { answer: Some(answer.into()) }).state,
        settled(1, Delivery::RefundDue).state,
    ];
    for (number, state) in (1..).zip(states) {
        let entry = Entry { state, releases: 2, redemptions: 1, ..reserved(number) };
        one.swap(write(key(number), None, &entry, &[])).await.unwrap();
        let found = other.load(key(number)).await.unwrap().expect("it was written");
        assert_eq!(found, Versioned { entry: entry.clone(), version: 1 });
        let listed =
            other.list(&Filter { state: Some(entry.state.name().into()), limit: 9, ..Filter::default() }).await;
        assert!(listed.unwrap().iter().any(|(_, listed)| listed.entry == entry), "{}", entry.state.name());
        assert!(State::NAMES.contains(&entry.state.name()));
    }
}

async fn the_longest_overdue_comes_first_and_settlements_stand_apart(House { one, other, .. }: House) {
    let minute = |minutes: u64| NOW.after(Duration::from_secs(60 * minutes));
    let entries = [
        (1, settling(minute(3), None)),
        (2, settling(minute(1), None)),
        (3, settling(minute(9), None)),
        (4, settled(4, Delivery::Leased { until: minute(2) }).state),
        (5, settled(5, Delivery::RefundDue).state),
        (6, State::Reserved { until: minute(0) }),
    ];
    for (number, state) in entries {
        one.swap(write(key(number), None, &Entry { state, ..reserved(number) }, &[])).await.unwrap();
    }
    let due = async |chore, now, limit| -> Vec<PaymentKey> {
        other.overdue(chore, now, limit).await.unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(due(Chore::Settlements, minute(3), 9).await, [key(2), key(1)]);
    assert_eq!(due(Chore::Settlements, minute(3), 1).await, [key(2)]);
    assert_eq!(due(Chore::Settlements, NOW, 9).await, []);
    assert_eq!(due(Chore::Deliveries, minute(3), 9).await, [key(4)]);
}

async fn s67_nothing_is_forgotten_before_its_authorization_lapsed(House { one, other, .. }: House) {
    let lapse = Timestamp::from_secs(sale(0).payment.authorization.valid_before());
    one.swap(write(key(1), None, &Entry { state: State::Released, ..reserved(1) }, &[])).await.unwrap();
    one.swap(write(key(2), None, &Entry { state: State::Exhausted, ..reserved(2) }, &[])).await.unwrap();
    let paid = Entry { updated: lapse, ..settled(3, Delivery::Partial) };
    one.swap(write(key(3), None, &paid, &[Claimed::alone(vec![3])])).await.unwrap();
    let endless = Arc::new(valid_for_ever(4));
    let entry = Entry { sale: endless.clone(), state: State::Released, ..reserved(4) };
    one.swap(write(endless.payment.key(), None, &entry, &[])).await.unwrap();

    assert_eq!(other.prune(lapse.after(MARGIN)).await.unwrap(), 0);
    let just_after = lapse.after(MARGIN).after(Duration::from_millis(1));
    assert_eq!(other.prune(just_after).await.unwrap(), 2);
    assert_eq!(one.load(key(1)).await.unwrap(), None);

    assert_eq!(one.prune(lapse.after(RECORD)).await.unwrap(), 0, "the record of a paid request is kept");
    assert_eq!(one.prune(just_after.after(RECORD)).await.unwrap(), 1);
    assert_eq!(one.load(key(3)).await.unwrap(), None);
    let again =
        one.swap(write(key(5), None, &settled(5, Delivery::Pending), &[Claimed::alone(vec![3])])).await.unwrap();
    assert_eq!(again, Swap::Applied(1), "what it claimed is forgotten with it");
    assert!(one.load(endless.payment.key()).await.unwrap().is_some(), "an authorization without an end is kept");
}

async fn s67_what_is_open_is_never_forgotten(House { one, .. }: House) {
    let open =
        [settling(NOW, None), settled(1, Delivery::Pending).state, settled(1, Delivery::Leased { until: NOW }).state];
    for (number, state) in (1..).zip(open) {
        one.swap(write(key(number), None, &Entry { state, ..reserved(number) }, &[])).await.unwrap();
    }
    assert_eq!(one.prune(Timestamp::from_millis(u64::MAX)).await.unwrap(), 0);
}

async fn i4_what_a_payer_left_open_for_a_request_is_found(House { one, other, .. }: House) {
    let elsewhere = || {
        let sold = Arc::new(Sale { request: B256::repeat_byte(1), ..sale(8) });
        Entry { sale: sold, ..settled(8, Delivery::Pending) }
    };
    let mut stranger = sale(9);
    let Authorization::Eip3009(signed) = &mut stranger.payment.authorization else {
        panic!("it is an EIP-3009 payment")
    };
    signed.from = Address::repeat_byte(0xcc);
    let stranger = Entry { sale: Arc::new(stranger), ..settled(9, Delivery::Pending) };
    let open = [
        reserved(1),
        Entry { state: settling(NOW, None), created: NOW.after(HOLD), ..reserved(2) },
        settled(3, Delivery::Pending),
        settled(4, Delivery::Leased { until: NOW }),
        settled(5, Delivery::Partial),
        settled(6, Delivery::RefundDue),
        Entry { state: State::Released, ..reserved(7) },
        elsewhere(),
        stranger,
    ];
    for (number, entry) in (1..).zip(&open) {
        one.swap(write(key(number), None, entry, &[])).await.unwrap();
    }
    let (payer, request) = (sale(1).payment.payer(), sale(1).request);
    let found = other.left_open(payer, request).await.unwrap();
    let standing = |at: usize| Versioned { entry: open[at].clone(), version: 1 };
    assert_eq!(found, [(key(3), standing(2)), (key(2), standing(1))], "the oldest first");

    // What is collected is open no more.
    other.swap(write(key(3), Some(1), &settled(3, Delivery::Done { answer: None }), &[])).await.unwrap();
    assert_eq!(one.left_open(payer, request).await.unwrap().len(), 1);
    assert_eq!(one.left_open(Payer(Address::ZERO), request).await.unwrap(), []);
}

/// Two processes that let a payer spend ten cents a day.
fn frugal(house: &House, clock: &ManualClock) -> [Arc<Ledger>; 2] {
    [&house.one, &house.other].map(|store| {
        let ledger = Ledger::new(Arc::clone(store), Arc::new(clock.clone()), Limits::default());
        ledger.allow_per_day(Some(Dollars::from_decimal("0.1").expect("ten cents")));
        ledger
    })
}

/// Claims these payments, each a cent of the same payer, all at once and by turns here and there.
async fn claim_all(ledgers: &[Arc<Ledger>; 2], numbers: Range<u64>) -> Vec<Claim> {
    let mut claims = JoinSet::new();
    for number in numbers {
        let ledger = Arc::clone(&ledgers[(number % 2) as usize]);
        claims.spawn(async move { ledger.claim(Arc::new(sale(number)), HOLD, Replay::Redeliver).await.unwrap() });
    }
    claims.join_all().await
}

/// How many were granted; the others hear when there is room again.
fn granted(claims: &[Claim], midnight: Timestamp) -> usize {
    let granted = claims.iter().filter(|claim| matches!(claim, Claim::Granted(_))).count();
    let overspent = claims.iter().filter(|claim| matches!(claim, Claim::Overspent { until } if *until == midnight));
    assert_eq!(granted + overspent.count(), claims.len(), "{claims:?}");
    granted
}

async fn no_payer_spends_more_in_a_day_however_many_payments_come_at_once(house: House) {
    let clock = ManualClock::at(NOW);
    let ledgers = frugal(&house, &clock);
    let midnight = Day::of(NOW).end();
    let first = claim_all(&ledgers, 0..64).await;
    assert_eq!(granted(&first, midnight), 10);
    let count = house.one.census(NOW).await.unwrap().entries.into_values().sum::<u64>();
    assert_eq!(count, 10, "what there is no room for leaves nothing behind");

    // Somebody else has room of their own.
    let mut stranger = sale(70);
    let Authorization::Eip3009(signed) = &mut stranger.payment.authorization else {
        panic!("it is an EIP-3009 payment")
    };
    signed.from = Address::repeat_byte(0xcc);
    let claim = ledgers[0].claim(Arc::new(stranger), HOLD, Replay::Redeliver).await.unwrap();
    assert!(matches!(claim, Claim::Granted(_)), "{claim:?}");

    // The same payment is no second one.
    let again = claim_all(&ledgers, 0..64).await;
    assert_eq!(again.iter().filter(|claim| matches!(claim, Claim::InFlight { .. })).count(), 10);

    clock.set(midnight);
    assert_eq!(granted(&claim_all(&ledgers, 100..164).await, Day::of(midnight).end()), 10);
    house.one.prune(midnight).await.unwrap();
    assert_eq!(
        granted(&claim_all(&ledgers, 200..204).await, Day::of(midnight).end()),
        0,
        "a day was forgotten too soon"
    );
}

async fn what_nobody_was_charged_for_is_not_spent(house: House) {
    let clock = ManualClock::at(NOW);
    let ledgers = frugal(&house, &clock);
    let midnight = Day::of(NOW).end();
    let mut leases: Vec<_> = Vec::new();
    for claim in claim_all(&ledgers, 0..10).await {
        let Claim::Granted(lease) = claim else { panic!("there is room for ten: {claim:?}") };
        leases.push(lease);
    }
    // One is let go, one is declined, one is settled, one is unknown: room for two.
    leases.pop().unwrap().release().await;
    let begun = leases.pop().unwrap().begin("cdp", None, NOW).await.unwrap();
    begun.declined("refused").await.unwrap();
    let begun = leases.pop().unwrap().begin("cdp", None, NOW).await.unwrap();
    let proof = receipt(begun.sale(), NOW);
    begun.settled(proof, &[], false).await.unwrap();
    let begun = leases.pop().unwrap().begin("cdp", None, NOW).await.unwrap();
    begun.unknown(None, NOW).await.unwrap();
    assert_eq!(granted(&claim_all(&ledgers, 10..20).await, midnight), 2);

    // Declined after midnight, it frees the day that it counted for, and not the new one.
    clock.set(midnight);
    let begun = leases.pop().unwrap().begin("cdp", None, midnight).await.unwrap();
    let late = claim_all(&ledgers, 30..40).await;
    assert_eq!(granted(&late, Day::of(midnight).end()), 10);
    begun.declined("refused").await.unwrap();
    assert_eq!(granted(&claim_all(&ledgers, 50..52).await, Day::of(midnight).end()), 0);
}

async fn what_is_spent_is_the_sum_over_the_entries_that_count(house: House) {
    let day = Day::of(NOW);
    let (payer, other) = (sale(1).payment.payer(), day.before());
    let used = |day, amount, most| Some(Use { day, amount, most });
    let step = |number: u64, expected, freed, used| {
        let (one, entry) = (Arc::clone(&house.one), reserved(number));
        async move {
            let spending = Some(Spending { payer, freed, used });
            one.swap(Write { spending, ..write(key(number), expected, &entry, &[]) }).await.unwrap()
        }
    };
    assert_eq!(step(1, None, None, used(day, 7, 10)).await, Swap::Applied(1));
    assert_eq!(step(2, None, None, used(day, 4, 10)).await, Swap::Overspent);
    assert_eq!(house.other.load(key(2)).await.unwrap(), None);
    assert_eq!(step(2, None, None, used(day, 3, 10)).await, Swap::Applied(1), "to the last millionth");
    assert_eq!(step(3, None, None, used(day, 11, 10)).await, Swap::Overspent, "what is more than all has never room");
    assert!(matches!(step(1, Some(9), Some((day, 7)), None).await, Swap::Stale(Some(_))));
    assert_eq!(step(3, None, None, used(day, 1, 10)).await, Swap::Overspent, "a write in vain frees nothing");
    assert_eq!(step(1, Some(1), Some((day, 7)), used(other, 7, 10)).await, Swap::Applied(2));
    assert_eq!(step(3, None, None, used(other, 4, 10)).await, Swap::Overspent, "it counts for the other day now");
    assert_eq!(step(3, None, None, used(day, 7, 10)).await, Swap::Applied(1));
    // A limit that was lowered has no room, and one at the end of the numbers overflows nothing.
    assert_eq!(step(4, None, None, used(day, 1, 5)).await, Swap::Overspent);
    let most = i64::MAX as u64;
    assert_eq!(step(4, None, None, used(day, most, most)).await, Swap::Overspent);
}

async fn a_listing_is_filtered_and_newest_first(House { one, other, .. }: House) {
    for number in 1..=4 {
        let mut sold = sale(number);
        sold.route = if number % 2 == 0 { "GET /even".into() } else { "GET /odd".into() };
        let Authorization::Eip3009(signed) = &mut sold.payment.authorization else {
            panic!("it is an EIP-3009 payment")
        };
        signed.from = Address::repeat_byte(if number < 3 { 1 } else { 2 });
        let created = NOW.after(Duration::from_secs(number));
        let state = if number == 4 { State::Released } else { State::Reserved { until: NOW } };
        let entry = Entry { created, state, sale: Arc::new(sold), ..reserved(number) };
        one.swap(write(key(number), None, &entry, &[])).await.unwrap();
    }
    let list = async |filter: Filter| -> Vec<PaymentKey> {
        other.list(&filter).await.unwrap().into_iter().map(|(key, _)| key).collect()
    };
    let all = Filter { limit: 9, ..Filter::default() };
    assert_eq!(list(all.clone()).await, [4, 3, 2, 1].map(key));
    assert_eq!(list(Filter { limit: 2, ..all.clone() }).await, [4, 3].map(key));
    assert_eq!(list(Filter { route: Some("GET /odd".into()), ..all.clone() }).await, [3, 1].map(key));
    assert_eq!(list(Filter { state: Some("released".into()), ..all.clone() }).await, [4].map(key));
    let payer = Some(Payer(Address::repeat_byte(1)));
    assert_eq!(list(Filter { payer, route: Some("GET /even".into()), ..all }).await, [2].map(key));

    let at = |seconds| NOW.after(Duration::from_secs(seconds));
    let (from, to) = (Some(at(2)), Some(at(4)));
    assert_eq!(list(Filter { from, to, limit: 9, ..Filter::default() }).await, [3, 2].map(key));
    let behind = Some((at(3), key(3)));
    assert_eq!(list(Filter { behind, limit: 9, ..Filter::default() }).await, [2, 1].map(key));
    let behind = Some((at(3), PaymentKey::from_bytes([0; 32])));
    assert_eq!(list(Filter { behind, limit: 9, ..Filter::default() }).await, [3, 2, 1].map(key), "ties go by key");
}

async fn a_census_counts_every_state_and_weighs_what_is_open(House { one, other, .. }: House) {
    assert_eq!(other.census(NOW).await.unwrap(), Census::default());
    let states = [settling(NOW, None), settling(NOW, None), State::Released, settled(1, Delivery::Partial).state];
    for (number, state) in (1..).zip(states) {
        one.swap(write(key(number), None, &Entry { state, ..reserved(number) }, &[])).await.unwrap();
    }
    let census = other.census(NOW.after(HOLD)).await.unwrap();
    let counts = [("partial", 1), ("released", 1), ("settling", 2)];
    assert_eq!(census.entries, counts.map(|(state, count)| (state.to_owned(), count)).into());
    assert_eq!(census.oldest_settling, HOLD);
    let two_cents = AtomicAmount::new(U256::from(20_000));
    assert_eq!(census.at_risk.into_values().collect::<Vec<_>>(), [two_cents]);
}

async fn a_secret_is_shared_and_stays(House { one, other, .. }: House) {
    let mut asked = JoinSet::new();
    for number in 0..16 {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        asked.spawn(async move { *store.secret("quotes").await.unwrap().expose() });
    }
    let secrets: HashSet<[u8; 32]> = asked.join_all().await.into_iter().collect();
    assert_eq!(secrets.len(), 1);
    assert_ne!(*one.secret("other").await.unwrap().expose(), *other.secret("quotes").await.unwrap().expose());
}

async fn s34_a_cell_is_written_only_over_what_its_writer_saw(House { one, other, .. }: House) {
    assert_eq!(one.cell("submitter").await.unwrap(), None);
    assert_eq!(one.swap_cell("submitter", Some(1), b"me").await.unwrap(), CellSwap::Stale(None));
    assert_eq!(one.swap_cell("submitter", None, b"me").await.unwrap(), CellSwap::Applied(1));
    assert_eq!(other.cell("submitter").await.unwrap(), Some((1, b"me".to_vec())));
    let standing = CellSwap::Stale(Some((1, b"me".to_vec())));
    assert_eq!(other.swap_cell("submitter", None, b"you").await.unwrap(), standing);
    assert_eq!(other.swap_cell("submitter", Some(1), b"").await.unwrap(), CellSwap::Applied(2));
    assert_eq!(one.cell("submitter").await.unwrap(), Some((2, Vec::new())), "an empty value is a value");
    assert_eq!(one.cell("nonce").await.unwrap(), None, "cells are apart");
    assert_eq!(one.prune(Timestamp::from_millis(u64::MAX)).await.unwrap(), 0);
    assert!(one.cell("submitter").await.unwrap().is_some(), "cells are never forgotten");
}

async fn s34_of_many_swaps_of_a_cell_one_applies(House { one, other, .. }: House) {
    for expected in [None, Some(1), Some(2)] {
        let mut swaps = JoinSet::new();
        for number in 0..32_u8 {
            let store = if number % 2 == 0 { one.clone() } else { other.clone() };
            swaps.spawn(async move { (number, store.swap_cell("nonce", expected, &[number]).await.unwrap()) });
        }
        let ended = swaps.join_all().await;
        let next = expected.unwrap_or_default() + 1;
        let won: Vec<u8> =
            ended.iter().filter(|(_, swap)| *swap == CellSwap::Applied(next)).map(|(number, _)| *number).collect();
        assert_eq!(won.len(), 1);
        let standing = CellSwap::Stale(Some((next, won)));
        assert_eq!(ended.iter().filter(|(_, swap)| *swap == standing).count(), 31);
    }
}

async fn writes_take_effect_in_their_order(House { one, .. }: House) {
    let mut writers = JoinSet::new();
    for number in 1..=16 {
        let store = one.clone();
        writers.spawn(async move {
            for version in 0..8 {
                let entry = Entry { releases: version, ..reserved(number) };
                let expected = (version > 0).then_some(u64::from(version));
                let swap = store.swap(write(key(number), expected, &entry, &[])).await.unwrap();
                assert_eq!(swap, Swap::Applied(u64::from(version) + 1));
                let found = store.load(key(number)).await.unwrap().expect("it was written");
                assert_eq!(found.entry.releases, version, "a write was acknowledged before it could be read");
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn s21_a_restarted_process_finds_what_the_last_one_left() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let clock = ManualClock::at(NOW);
    let check_at = NOW.after(Duration::from_secs(30));
    let secret = {
        let ledger = Ledger::new(open(&path), Arc::new(clock.clone()), Limits::default());
        let Claim::Granted(lease) = ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await.unwrap() else {
            panic!("a new payment was refused")
        };
        drop(lease.begin("cdp", None, check_at).await.unwrap());
        *ledger.store().secret("quotes").await.unwrap().expose()
    };
    let ledger = Ledger::new(open(&path), Arc::new(clock.clone()), Limits::default());
    assert_eq!(*ledger.store().secret("quotes").await.unwrap().expose(), secret);
    assert!(ledger.overdue_settlements(9).await.unwrap().is_empty(), "its facilitator may still answer");
    clock.set(check_at);
    let unsettled = ledger.overdue_settlements(9).await.unwrap();
    assert_eq!(unsettled.iter().map(|unsettled| unsettled.key).collect::<Vec<_>>(), [key(1)]);
    let claim = ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await.unwrap();
    assert!(matches!(claim, Claim::Unresolved { .. }), "{claim:?}");
}

#[test]
fn a_file_that_is_not_a_ledger_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    for (name, content) in [("short.txt", b"listen: :8402\n".to_vec()), ("long.txt", vec![b'x'; 10_000])] {
        let path = folder.path().join(name);
        std::fs::write(&path, &content).unwrap();
        let error = Sqlite::open(&path, Purpose::Real).expect_err("it is a text");
        assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    let path = folder.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE users (name TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Sqlite::open(&path, Purpose::Real), Err(OpenError::Foreign(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before, "somebody's database was touched");
}

#[test]
fn a_ledger_of_a_later_version_is_refused() {
    let (_folder, path) = ledger_file();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&path, Purpose::Real).expect_err("we cannot read it");
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("ledger.db"), "{error}");
}

#[tokio::test]
async fn a_ledger_of_an_earlier_version_is_brought_up_to_date() {
    let (_folder, path) = ledger_file();
    open(&path).swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    let number = |pragma| rusqlite::Connection::open(&path)?.pragma_query_value(None, pragma, |row| row.get(0));
    let current: i64 = number("user_version").unwrap();
    // As the first version left it.
    let file = rusqlite::Connection::open(&path).unwrap();
    let back = "DROP TABLE spent; DROP INDEX entries_left_open; DROP TABLE cells; DROP TABLE chain; DROP TABLE evidence; ALTER TABLE entries DROP COLUMN evidence";
    file.execute_batch(back).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    std::fs::remove_file(path.with_file_name("ledger.db-head")).unwrap();
    drop(file);

    let seen = Sqlite::inspect(&path).expect("an older ledger can be looked at");
    assert!(seen.load(key(1)).await.unwrap().is_some());
    assert!(seen.chains().await.is_err(), "it has no evidence yet");
    drop(seen);
    let error = Sqlite::open(&path, Purpose::Sandbox).expect_err("it holds real payments");
    assert!(matches!(error, OpenError::WrongPurpose { .. }), "{error:?}");
    assert_eq!(number("user_version").unwrap(), 1, "a file that is not for us was changed");

    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| open(&path));
        }
    });
    let store = open(&path);
    assert_eq!(number("user_version").unwrap(), current);
    assert_eq!(store.load(key(1)).await.unwrap(), Some(Versioned { entry: reserved(1), version: 1 }));
    assert_eq!(store.swap_cell("nonce", None, b"7").await.unwrap(), CellSwap::Applied(1));
    let ledgers = frugal(&House { one: store.clone(), other: store, _folder: None }, &ManualClock::at(NOW));
    assert_eq!(granted(&claim_all(&ledgers, 2..14).await, Day::of(NOW).end()), 10);
}

#[test]
fn play_money_and_money_never_meet_in_one_file() {
    let (_folder, path) = ledger_file();
    let error = Sqlite::open(&path, Purpose::Sandbox).expect_err("it holds real payments");
    assert!(matches!(error, OpenError::WrongPurpose { .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("ledger.db: this ledger is for real payments, not for sandbox ones"),
        "{error}"
    );
    assert!(Sqlite::open(&path, Purpose::Real).is_ok());
}

#[tokio::test]
async fn a_ledger_can_be_inspected_while_it_is_used_and_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    assert!(Sqlite::inspect(&path).is_err() && !path.exists(), "looking made a ledger");
    let store = Sqlite::open(&path, Purpose::Sandbox).unwrap();
    store.swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    let seen = Sqlite::inspect(&path).unwrap();
    assert_eq!(seen.load(key(1)).await.unwrap(), store.load(key(1)).await.unwrap());
    assert!(seen.swap(write(key(2), None, &reserved(2), &[])).await.is_err());
    for (name, content) in [("gateway.yaml", "listen: :8402\n"), ("empty.db", "")] {
        let other = folder.path().join(name);
        std::fs::write(&other, content).unwrap();
        assert!(matches!(Sqlite::inspect(&other), Err(OpenError::Foreign(_))), "{name}");
    }
}

#[test]
fn a_missing_folder_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing/ledger.db");
    let error = Sqlite::open(&path, Purpose::Real).expect_err("there is no folder");
    assert!(matches!(&error, OpenError::NoFolder { folder, .. } if folder.ends_with("missing")), "{error:?}");
}

#[tokio::test]
async fn s60_the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let store = open(&folder.path().join("ledger.db"));
    store.swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.path().display());
    }
}

#[test]
fn s68_many_processes_may_open_a_new_ledger_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| Sqlite::open(&path, Purpose::Real).expect("the ledger opens"));
        }
    });
}

fn ledger_file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("ledger.db");
    drop(open(&path));
    (folder, path)
}

fn key(number: u64) -> PaymentKey {
    sale(number).payment.key()
}

fn reserved(number: u64) -> Entry {
    let state = State::Reserved { until: NOW.after(HOLD) };
    Entry { sale: Arc::new(sale(number)), state, releases: 0, redemptions: 0, day: None, created: NOW, updated: NOW }
}

fn settling(check_at: Timestamp, transaction: Option<B256>) -> State {
    State::Settling { since: NOW, facilitator: "cdp".into(), transaction, check_at, checks: 0 }
}

fn settled(number: u64, delivery: Delivery) -> Entry {
    let receipt = receipt(&sale(number), NOW);
    let state =
        State::Settled { receipt: receipt.into(), facilitator: "cdp".into(), collect_by: NOW.after(HOLD), delivery };
    Entry { state, ..reserved(number) }
}

fn valid_for_ever(number: u64) -> Sale {
    let mut sold = sale(number);
    let Authorization::Eip3009(signed) = &mut sold.payment.authorization else { panic!("it is an EIP-3009 payment") };
    signed.valid_before = U256::MAX;
    sold
}
