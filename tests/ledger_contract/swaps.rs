//! What is written is what was expected to be, in its order, and is read as it was written.

use std::collections::HashSet;

use alloy::primitives::B256;
use tokio::task::JoinSet;
use tollhouse::ledger::{Answer, CellSwap, Delivery, Entry, Filter, State, Swap, Undone, Versioned};
use tollhouse::primitives::Timestamp;
use tollhouse::testing::sales::write;

use super::{House, NOW, key, reserved, settled, settling, undone};

pub async fn a_swap_applies_only_to_what_it_expects(House { one, other, .. }: House) {
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

pub async fn of_many_swaps_with_one_expectation_one_applies(House { one, other, .. }: House) {
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

pub async fn every_state_is_read_as_it_was_written(House { one, other, .. }: House) {
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
        undone(1, Undone::Missed { since: NOW, check_at: NOW, checks: 1, sent: 2, transaction: None }),
        undone(1, Undone::Lost),
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

pub async fn a_secret_is_shared_and_stays(House { one, other, .. }: House) {
    let mut asked = JoinSet::new();
    for number in 0..16 {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        asked.spawn(async move { *store.secret("quotes").await.unwrap().expose() });
    }
    let secrets: HashSet<[u8; 32]> = asked.join_all().await.into_iter().collect();
    assert_eq!(secrets.len(), 1);
    assert_ne!(*one.secret("other").await.unwrap().expose(), *other.secret("quotes").await.unwrap().expose());
}

pub async fn s34_a_cell_is_written_only_over_what_its_writer_saw(House { one, other, .. }: House) {
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

pub async fn s34_of_many_swaps_of_a_cell_one_applies(House { one, other, .. }: House) {
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

pub async fn writes_take_effect_in_their_order(House { one, .. }: House) {
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
