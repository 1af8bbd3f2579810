//! Who may submit, and which nonces are missing.

use alloy::primitives::B256;

use super::*;

const ME: Holder = Holder(B128::repeat_byte(1));
const OTHER: Holder = Holder(B128::repeat_byte(2));

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000 + seconds)
}

fn flight(nonce: u64) -> Flight {
    let attempt = Attempt { hash: B256::repeat_byte(7), fees: Fees::Legacy { price: 1 }, at: at(0) };
    Flight {
        nonce,
        payment: Some(PaymentKey::from_bytes([7; 32])),
        good_until: 2_000,
        attempts: vec![attempt],
        raw: Raw(Bytes::from_static(b"signed")),
        empty: false,
    }
}

#[test]
fn s34_one_process_has_the_key_until_its_lease_lapses() {
    let mut book = Book::default();
    assert_eq!(book.standing(ME, at(0)), Standing::Open);
    book.lease_to(ME, at(0));

    assert_eq!((book.standing(ME, at(1)), book.standing(OTHER, at(1))), (Standing::Ours, Standing::Theirs));
    assert_eq!(book.standing(ME, at(10)), Standing::Open, "time to renew it");
    assert_eq!((book.standing(OTHER, at(14)), book.standing(OTHER, at(15))), (Standing::Theirs, Standing::Open));
    book.lease_to(OTHER, at(15));
    assert_eq!(book.standing(ME, at(16)), Standing::Theirs);
}

#[test]
fn s34_whoever_waits_gets_the_key_next() {
    let mut book = Book::default();
    book.lease_to(ME, at(0));
    assert!(book.wish_for(OTHER, at(0)));
    assert!(!book.wish_for(OTHER, at(1)), "a wish need not be written again and again");
    assert!(!book.should_yield(ME, at(0)) && book.should_yield(ME, at(2)));
    assert_eq!(book.standing(ME, at(2)), Standing::Ours, "a wish takes nothing away");

    book.let_go(ME);

    assert_eq!((book.standing(ME, at(2)), book.standing(OTHER, at(2))), (Standing::Theirs, Standing::Open));
    assert_eq!(book.standing(ME, at(4)), Standing::Open, "whoever wished has gone");
    book.lease_to(OTHER, at(2));
    assert!(!book.should_yield(OTHER, at(5)), "its own wish is fulfilled");
}

#[test]
fn s34_a_nonce_that_was_not_sent_is_used_again_or_is_a_gap() {
    let mut book = Book { next: 5, ..Book::default() };
    book.put(flight(5));
    book.withdraw(5);
    assert_eq!((book.next, book.gaps(5).count()), (5, 0));

    book.put(flight(5));
    book.put(flight(6));
    book.withdraw(5);
    assert_eq!(book.next, 7);
    assert_eq!(book.gaps(5).collect::<Vec<_>>(), [5]);
    assert_eq!(book.gaps(6).count(), 0, "a block holds it");
}

#[test]
fn a_book_is_read_as_it_was_written_and_a_strange_one_not_at_all() {
    let mut book = Book::default();
    book.lease_to(ME, at(0));
    book.wish_for(OTHER, at(0));
    book.put(flight(3));
    let text = book.text().expect("it can be written");
    assert_eq!(Book::read(&text).expect("it can be read"), book);

    let text = String::from_utf8(text).expect("it is text");
    for strange in [text.replace("\"format\":1", "\"format\":2"), text.replace("\"next\"", "\"nxt\""), "{}".into()] {
        assert!(Book::read(strange.as_bytes()).is_err(), "{strange}");
    }
}

#[test]
fn s34_a_write_by_others_is_told_from_a_wish() {
    let mut book = Book::default();
    book.lease_to(ME, at(0));
    let mut wished = book.clone();
    wished.wish_for(OTHER, at(0));
    assert!(book.differs_only_in_wish(&wished));
    wished.next += 1;
    assert!(!book.differs_only_in_wish(&wished));
}

#[test]
fn i8_a_signed_transaction_does_not_print() {
    assert!(!format!("{:?}", flight(1)).contains("signed"));
}
