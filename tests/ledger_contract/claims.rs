//! Of any number who present one payment, or rest on one fact, one does (S2, S5).

use std::sync::Arc;

use alloy::primitives::{B256, U256};
use tokio::task::JoinSet;
use tollhouse::gate::claims_of;
use tollhouse::ledger::{Claim, Claimed, Delivery, Ledger, Limits, Store, Swap};
use tollhouse::payment::{Receipt, Replay, TransactionHash};
use tollhouse::testing::ManualClock;
use tollhouse::testing::sales::{receipt, sale, write};

use super::{HOLD, House, NOW, key, settled};

pub async fn s2_one_payment_admits_one_of_sixty_four_claimants(House { one, other, .. }: House) {
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

pub async fn s5_a_fact_is_claimed_by_one_payment(House { one, other, .. }: House) {
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

pub async fn s5_a_swap_that_claims_in_vain_writes_nothing(House { one, .. }: House) {
    let (taken, free) = (Claimed::alone(vec![1]), Claimed::alone(vec![2]));
    let entry = settled(1, Delivery::Pending);
    one.swap(write(key(1), None, &entry, std::slice::from_ref(&taken))).await.unwrap();
    let swap = one.swap(write(key(2), None, &settled(2, Delivery::Pending), &[free.clone(), taken])).await.unwrap();
    assert_eq!(swap, Swap::Claimed(key(1)));
    assert_eq!(one.load(key(2)).await.unwrap(), None);
    let swap = one.swap(write(key(3), None, &settled(3, Delivery::Pending), &[free])).await.unwrap();
    assert_eq!(swap, Swap::Applied(1), "a fact was claimed by a payment that was refused");
}

pub async fn s5_of_many_who_claim_the_same_facts_one_does(House { one, other, .. }: House) {
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

pub async fn s5_in_whatever_order_a_batch_is_filed_what_is_proven_counts_and_one_word_at_most(house: House) {
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

pub async fn s5_of_a_batch_that_is_filed_at_once_what_is_proven_counts_and_one_word_at_most(
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

pub async fn s5_a_claim_of_an_earlier_version_stands_against_words_and_not_against_proof(
    House { one, other, .. }: House,
) {
    // As 0.1 wrote it for every settlement, proven or not.
    let transaction = B256::repeat_byte(7);
    let fact = [b"transaction\0eip155:84532\0", transaction.as_slice()].concat();
    let entry = settled(1, Delivery::Pending);
    one.swap(write(key(1), None, &entry, &[Claimed::alone(fact)])).await.unwrap();
    assert_eq!(file(&*other, 2, false).await, Swap::Claimed(key(1)));
    assert_eq!(file(&*other, 3, true).await, Swap::Applied(1));
    assert_eq!(file(&*one, 4, false).await, Swap::Claimed(key(1)));
}
