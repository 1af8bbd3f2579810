//! What is found in a ledger, and what is forgotten.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use tollhouse::ledger::entry::{MARGIN, RECORD};
use tollhouse::ledger::{Census, Chore, Claimed, Declined, Delivery, Entry, Filter, Sale, State, Swap, Versioned};
use tollhouse::payment::{Authorization, PaymentKey};
use tollhouse::primitives::{AtomicAmount, Payer, Timestamp};
use tollhouse::testing::sales::{sale, write};

use super::{HOLD, House, NOW, key, reserved, settled, settling};

pub async fn the_longest_overdue_comes_first_and_settlements_stand_apart(House { one, other, .. }: House) {
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
    let declined = [
        (11, State::Released, minute(2)),
        (12, State::Exhausted, minute(1)),
        (13, State::Released, minute(9)),
        (14, State::Reserved { until: minute(3) }, minute(1)),
        (15, State::Reserved { until: minute(4) }, minute(1)),
    ];
    for (number, state, check_at) in declined {
        let declined = Some(Declined { facilitator: "cdp".into(), check_at, checks: 0 });
        one.swap(write(key(number), None, &Entry { state, declined, ..reserved(number) }, &[])).await.unwrap();
    }
    let due = async |chore, now, limit| -> Vec<PaymentKey> {
        other.overdue(chore, now, limit).await.unwrap().into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(due(Chore::Settlements, minute(3), 9).await, [key(2), key(1)]);
    assert_eq!(due(Chore::Settlements, minute(3), 1).await, [key(2)]);
    assert_eq!(due(Chore::Settlements, NOW, 9).await, []);
    assert_eq!(due(Chore::Deliveries, minute(3), 9).await, [key(4)]);
    assert_eq!(
        due(Chore::Declined, minute(3), 9).await,
        [key(12), key(11), key(14)],
        "held ones when they lapse (S16)"
    );
    assert_eq!(due(Chore::Declined, minute(3), 1).await, [key(12)]);
}

pub async fn s67_nothing_is_forgotten_before_its_authorization_lapsed(House { one, other, .. }: House) {
    let lapse = Timestamp::from_secs(sale(0).payment.authorization.valid_before());
    one.swap(write(key(1), None, &Entry { state: State::Released, ..reserved(1) }, &[])).await.unwrap();
    one.swap(write(key(2), None, &Entry { state: State::Exhausted, ..reserved(2) }, &[])).await.unwrap();
    let paid = Entry { updated: lapse, ..settled(3, Delivery::Partial) };
    one.swap(write(key(3), None, &paid, &[Claimed::alone(vec![3])])).await.unwrap();
    let declined = Some(Declined { facilitator: "cdp".into(), check_at: lapse, checks: 0 });
    let watched = Entry { state: State::Exhausted, declined, ..reserved(6) };
    one.swap(write(key(6), None, &watched, &[])).await.unwrap();
    let endless = Arc::new(valid_for_ever(4));
    let entry = Entry { sale: endless.clone(), state: State::Released, ..reserved(4) };
    one.swap(write(endless.payment.key(), None, &entry, &[])).await.unwrap();

    assert_eq!(other.prune(lapse.after(MARGIN)).await.unwrap(), 0);
    let just_after = lapse.after(MARGIN).after(Duration::from_millis(1));
    assert_eq!(other.prune(just_after).await.unwrap(), 2);
    assert_eq!(one.load(key(1)).await.unwrap(), None);
    assert!(one.load(key(6)).await.unwrap().is_some(), "somebody is still to look at the chain (S16)");

    assert_eq!(one.prune(lapse.after(RECORD)).await.unwrap(), 0, "the record of a paid request is kept");
    assert_eq!(one.prune(just_after.after(RECORD)).await.unwrap(), 1);
    assert_eq!(one.load(key(3)).await.unwrap(), None);
    let again =
        one.swap(write(key(5), None, &settled(5, Delivery::Pending), &[Claimed::alone(vec![3])])).await.unwrap();
    assert_eq!(again, Swap::Applied(1), "what it claimed is forgotten with it");
    assert!(one.load(endless.payment.key()).await.unwrap().is_some(), "an authorization without an end is kept");
}

pub async fn s67_what_is_open_is_never_forgotten(House { one, .. }: House) {
    let open =
        [settling(NOW, None), settled(1, Delivery::Pending).state, settled(1, Delivery::Leased { until: NOW }).state];
    for (number, state) in (1..).zip(open) {
        one.swap(write(key(number), None, &Entry { state, ..reserved(number) }, &[])).await.unwrap();
    }
    assert_eq!(one.prune(Timestamp::from_millis(u64::MAX)).await.unwrap(), 0);
}

pub async fn i4_what_a_payer_left_open_for_a_request_is_found(House { one, other, .. }: House) {
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

pub async fn a_listing_is_filtered_and_newest_first(House { one, other, .. }: House) {
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

pub async fn a_census_counts_every_state_and_weighs_what_is_open(House { one, other, .. }: House) {
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

fn valid_for_ever(number: u64) -> Sale {
    let mut sold = sale(number);
    let Authorization::Eip3009(signed) = &mut sold.payment.authorization else { panic!("it is an EIP-3009 payment") };
    signed.valid_before = U256::MAX;
    sold
}
