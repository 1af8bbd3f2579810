//! What a payer spends in a day (`caps.per_payer_per_day`), exact however many processes write.

use std::ops::Range;
use std::sync::Arc;

use alloy::primitives::Address;
use tokio::task::JoinSet;
use tollhouse::ledger::{Claim, Day, Ledger, Limits, Spending, Swap, Use, Write};
use tollhouse::payment::{Authorization, Replay};
use tollhouse::primitives::{Dollars, Timestamp};
use tollhouse::testing::ManualClock;
use tollhouse::testing::sales::{receipt, sale, write};

use super::{HOLD, House, NOW, key, reserved};

/// Two processes that let a payer spend ten cents a day.
pub fn frugal(house: &House, clock: &ManualClock) -> [Arc<Ledger>; 2] {
    [&house.one, &house.other].map(|store| {
        let ledger = Ledger::new(Arc::clone(store), Arc::new(clock.clone()), Limits::default());
        ledger.allow_per_day(Some(Dollars::from_decimal("0.1").expect("ten cents")));
        ledger
    })
}

/// Claims these payments, each a cent of the same payer, all at once and by turns here and there.
pub async fn claim_all(ledgers: &[Arc<Ledger>; 2], numbers: Range<u64>) -> Vec<Claim> {
    let mut claims = JoinSet::new();
    for number in numbers {
        let ledger = Arc::clone(&ledgers[(number % 2) as usize]);
        claims.spawn(async move { ledger.claim(Arc::new(sale(number)), HOLD, Replay::Redeliver).await.unwrap() });
    }
    claims.join_all().await
}

/// How many were granted; the others hear when there is room again.
pub fn granted(claims: &[Claim], midnight: Timestamp) -> usize {
    let granted = claims.iter().filter(|claim| matches!(claim, Claim::Granted(_))).count();
    let overspent = claims.iter().filter(|claim| matches!(claim, Claim::Overspent { until } if *until == midnight));
    assert_eq!(granted + overspent.count(), claims.len(), "{claims:?}");
    granted
}

pub async fn no_payer_spends_more_in_a_day_however_many_payments_come_at_once(house: House) {
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

pub async fn what_nobody_was_charged_for_is_not_spent(house: House) {
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
    begun.declined("refused", None).await.unwrap();
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
    begun.declined("refused", None).await.unwrap();
    assert_eq!(granted(&claim_all(&ledgers, 50..52).await, Day::of(midnight).end()), 0);
}

pub async fn what_is_spent_is_the_sum_over_the_entries_that_count(house: House) {
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
