//! What opens a breaker, what closes it, and who is let through between.

use alloy::primitives::Address;
use proptest::prelude::*;

use super::*;

const CONFIG: BreakerConfig = BreakerConfig { open_after: 5, half_open_after: Duration::from_secs(30) };
const START: Timestamp = Timestamp::from_secs(1_000);

fn payment(number: u8) -> PaymentKey {
    PaymentKey::from_bytes([number; 32])
}

fn payer(number: u8) -> Payer {
    Payer(Address::repeat_byte(number))
}

fn after(seconds: u64) -> Timestamp {
    START.after(Duration::from_secs(seconds))
}

/// One whole call by a payment and payer of this number.
fn call(breaker: &Breaker, call: Call, number: u8, end: End, now: Timestamp) -> Option<BreakerState> {
    breaker.enter(payment(number), now).ok()?;
    breaker.note(call, payment(number), payer(number), end, now).map(|change| change.to)
}

fn opened_by(call: Call) -> Breaker {
    let breaker = Breaker::new(CONFIG);
    for number in 0..5 {
        self::call(&breaker, call, number, End::Silent, START);
    }
    assert_eq!(breaker.standing(START), BreakerState::Open);
    breaker
}

#[test]
fn s65_silence_in_a_row_opens_it_and_an_answer_between_does_not() {
    for asked in [Call::Verify, Call::Settle] {
        let breaker = Breaker::new(CONFIG);
        for number in 0..4 {
            assert_eq!(call(&breaker, asked, number, End::Silent, START), None);
        }
        assert_eq!(call(&breaker, asked, 4, End::Answered, START), None);
        for number in 5..9 {
            assert_eq!(call(&breaker, asked, number, End::Silent, START), None);
            assert!(!breaker.is_shut(START));
        }
        assert_eq!(call(&breaker, asked, 9, End::Silent, START), Some(BreakerState::Open));
        assert!(breaker.is_shut(START));
    }
}

#[test]
fn a_verify_that_works_does_not_hide_a_settle_that_does_not() {
    let breaker = Breaker::new(CONFIG);
    for number in 0..4 {
        call(&breaker, Call::Verify, number, End::Passed, START);
        assert_eq!(call(&breaker, Call::Settle, number, End::Silent, START), None);
    }
    call(&breaker, Call::Verify, 4, End::Passed, START);
    assert_eq!(call(&breaker, Call::Settle, 4, End::Silent, START), Some(BreakerState::Open));
}

#[test]
fn half_of_the_latest_calls_open_it_though_others_are_answered() {
    let breaker = Breaker::new(CONFIG);
    for number in 0..9 {
        let end = if number % 2 == 0 { End::Answered } else { End::Silent };
        assert_eq!(call(&breaker, Call::Settle, number, end, START), None);
    }
    assert_eq!(call(&breaker, Call::Settle, 9, End::Silent, START), Some(BreakerState::Open));
}

#[test]
fn declines_never_open_it() {
    let breaker = Breaker::new(CONFIG);
    for number in 0..100 {
        assert_eq!(call(&breaker, Call::Verify, number, End::Answered, START), None);
        assert_eq!(call(&breaker, Call::Settle, number, End::Answered, START), None);
    }
    assert_eq!(breaker.standing(START), BreakerState::Closed);
}

#[test]
fn no_payer_alone_opens_it_by_bringing_doubt_about() {
    let breaker = Breaker::new(CONFIG);
    for number in 0..100 {
        let doubted = breaker.note(Call::Settle, payment(number), payer(1), End::Doubted, START);
        assert_eq!(doubted, None);
    }
    for number in 2..10 {
        assert_eq!(call(&breaker, Call::Settle, number, End::Doubted, START), None);
    }
    assert_eq!(call(&breaker, Call::Settle, 10, End::Doubted, START), Some(BreakerState::Open), "ten payers do");
}

#[test]
fn one_payment_at_a_time_tries_it_when_the_time_has_come() {
    let breaker = opened_by(Call::Verify);
    assert_eq!(breaker.enter(payment(10), after(29)), Err(Shut));
    assert!(breaker.is_shut(after(29)) && !breaker.is_shut(after(30)), "offers go out again");
    assert!(breaker.enter(payment(10), after(30)).is_ok_and(|change| change.is_some()));
    assert_eq!(breaker.enter(payment(11), after(30)), Err(Shut));
    assert_eq!(breaker.enter(payment(10), after(31)), Ok(None), "its settlement is let through too");
    let failed = breaker.note(Call::Verify, payment(10), payer(10), End::Silent, after(31));
    assert_eq!(failed.map(|change| change.to), Some(BreakerState::Open));
    assert_eq!(breaker.enter(payment(11), after(60)), Err(Shut), "the time begins anew");
    assert!(breaker.enter(payment(11), after(61)).is_ok());
    let passed = breaker.note(Call::Verify, payment(11), payer(11), End::Passed, after(61));
    assert_eq!(passed.map(|change| change.to), Some(BreakerState::Closed));
    assert_eq!(breaker.enter(payment(12), after(61)), Ok(None));
}

#[test]
fn what_was_opened_by_settlements_is_closed_by_one() {
    let breaker = opened_by(Call::Settle);
    assert!(breaker.enter(payment(10), after(30)).is_ok());
    assert_eq!(breaker.note(Call::Verify, payment(10), payer(10), End::Passed, after(30)), None);
    assert_eq!(breaker.enter(payment(11), after(31)), Err(Shut), "the first has not settled yet");
    let settled = breaker.note(Call::Settle, payment(10), payer(10), End::Answered, after(32));
    assert_eq!(settled.map(|change| change.to), Some(BreakerState::Closed));
}

#[test]
fn a_try_that_tells_nothing_makes_room_for_the_next() {
    let cases = [(Call::Verify, End::Abandoned), (Call::Verify, End::Answered), (Call::Settle, End::Doubted)];
    for (asked, end) in cases {
        let breaker = opened_by(Call::Settle);
        assert!(breaker.enter(payment(10), after(30)).is_ok());
        assert_eq!(breaker.note(asked, payment(10), payer(10), end, after(30)), None);
        assert_eq!(breaker.standing(after(30)), BreakerState::HalfOpen);
        assert!(breaker.enter(payment(11), after(30)).is_ok(), "{asked:?} {end:?}");
    }
    // One whose backend never answers is not waited for either.
    let breaker = opened_by(Call::Settle);
    assert!(breaker.enter(payment(10), after(30)).is_ok());
    assert_eq!(breaker.enter(payment(11), after(59)), Err(Shut));
    assert!(breaker.enter(payment(11), after(60)).is_ok());
}

#[test]
fn calls_from_before_it_opened_neither_close_nor_prolong_it() {
    let breaker = opened_by(Call::Settle);
    for end in [End::Answered, End::Silent, End::Doubted] {
        assert_eq!(breaker.note(Call::Settle, payment(9), payer(9), end, after(20)), None);
    }
    assert_eq!(breaker.standing(after(29)), BreakerState::Open);
    assert_eq!(breaker.standing(after(30)), BreakerState::HalfOpen);
}

#[test]
fn s13_questions_about_open_settlements_are_spaced_out_and_never_denied_for_good() {
    let breaker = Breaker::new(CONFIG);
    assert!((0..10).all(|_| breaker.may_look(START)), "a facilitator that is well is asked whatever is due");
    let breaker = opened_by(Call::Settle);
    let looks = (0..60).filter(|second| breaker.may_look(after(*second))).count();
    assert_eq!(looks, 12);
    assert_eq!(breaker.has_told().map(|change| change.to), Some(BreakerState::Closed));
    assert!((0..10).all(|_| breaker.may_look(after(60))));
}

proptest! {
    /// Whatever happens in whatever order: while it is not closed, at most one payment is on its way, and once the
    /// time has come somebody is let through.
    #[test]
    fn i7_at_most_one_payment_tries_and_one_always_may(
        steps in proptest::collection::vec((0..8_u8, 0..7_u8, 0..40_u64), 1..200)
    ) {
        let breaker = Breaker::new(CONFIG);
        let mut now = START;
        let mut trying: Option<(u8, Timestamp)> = None;
        for (number, what, wait) in steps {
            now = now.after(Duration::from_secs(wait));
            let was_closed = breaker.standing(now) == BreakerState::Closed;
            let entered = breaker.enter(payment(number), now).is_ok();
            if !was_closed && entered {
                if let Some((other, since)) = trying.filter(|(other, _)| *other != number) {
                    prop_assert!(now.since(since) >= CONFIG.half_open_after, "{other} was still trying");
                }
                if trying.is_none_or(|(other, _)| other != number) {
                    trying = Some((number, now));
                }
            }
            if !was_closed && !entered {
                let opens = now.after(CONFIG.half_open_after);
                prop_assert!(!breaker.is_shut(opens), "it is never shut for longer than it says");
            }
            if entered {
                let (asked, end) = match what {
                    0 => (Call::Verify, End::Passed),
                    1 => (Call::Verify, End::Silent),
                    2 => (Call::Verify, End::Abandoned),
                    3 => (Call::Settle, End::Answered),
                    4 => (Call::Settle, End::Silent),
                    5 => (Call::Settle, End::Doubted),
                    _ => continue,
                };
                breaker.note(asked, payment(number), payer(number), end, now);
                let goes_on = (asked, end) == (Call::Verify, End::Passed);
                if trying.is_some_and(|(other, _)| other == number) && !goes_on {
                    trying = None;
                }
                if breaker.standing(now) == BreakerState::Closed {
                    trying = None;
                }
            }
        }
    }
}
