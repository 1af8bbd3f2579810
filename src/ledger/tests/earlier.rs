//! What whoever signs again gets, while an earlier payment of theirs for the same request is open.

use super::*;

#[tokio::test]
async fn s75_without_a_quote_only_a_fresh_signature_collects_an_answer_and_then_it_is_paid_back() {
    let desk = Desk::new();
    let v1 = |number| Sale { quote: None, ..sale(number) };
    for number in [1, 2] {
        let mut delivering = desk.delivering(&v1(number)).await;
        delivering.mark_forwarded();
        drop(delivering);
        assert_eq!(desk.state(&v1(number)).await, "undelivered");
        assert!(matches!(desk.claim(&v1(number)).await, Claim::Spent { receipt: Some(_) }));
        // Left alone, it would be the answer to the next signature.
        if number == 1 {
            desk.clock.advance(Limits::default().redeem_for);
            desk.ledger.round().await.unwrap();
            assert_eq!(desk.state(&v1(1)).await, "refund_due");
        }
    }
    let Some(Claim::Redeem(collected)) = desk.claim_earlier(&v1(3)).await else { panic!("it is owed") };
    assert_eq!(collected.key(), v1(2).payment.key());
    assert!(desk.claim_earlier(&v1(3)).await.is_none(), "it is being delivered: another request is another purchase");
    collected.end(Delivered::Done(None));
    desk.ledger.flush().await;
    assert!(desk.claim_earlier(&v1(3)).await.is_none());
    assert!(matches!(desk.claim(&v1(3)).await, Claim::Granted(_)), "it was never used");
}

#[tokio::test]
async fn i4_whoever_signs_again_after_a_crash_is_not_charged_while_the_first_may_be_settling() {
    let desk = Desk::new();
    let settling = desk.in_settlement(&sale(1)).await;
    assert!(desk.claim_earlier(&sale(2)).await.is_none(), "somebody waits for it");
    desk.clock.advance(Duration::from_secs(1));
    let desk = desk.restarted();
    assert!(matches!(desk.claim_earlier(&sale(2)).await, Some(Claim::Unresolved { .. })));
    drop(settling);
}

#[tokio::test]
async fn i4_whoever_left_and_signs_again_elsewhere_is_not_charged() {
    let desk = Desk::new();
    let elsewhere = desk.restarted();
    let settling = desk.in_settlement(&sale(1)).await;
    assert!(elsewhere.claim_earlier(&sale(2)).await.is_none(), "somebody waits for it");
    let standing = || async { desk.ledger.store.load(sale(1).payment.key()).await.unwrap().expect("it is remembered") };
    let before = standing().await;
    for _ in 0..2 {
        settling.client_left();
        assert_eq!(desk.state(&sale(1)).await, "settling");
    }
    let after = standing().await;
    assert_eq!((after.version, after.entry.due()), (before.version + 1, before.entry.due()), "written once");
    assert!(matches!(elsewhere.claim_earlier(&sale(2)).await, Some(Claim::Unresolved { .. })));
    assert!(matches!(elsewhere.claim(&sale(1)).await, Claim::InFlight { .. }), "the payment itself is in flight");

    let receipt = receipt(&sale(1), desk.clock.now());
    let delivering = settling.settled(receipt, &[], true).await.expect("it is still ours to end");
    delivering.expect("a request delivers it").end(Delivered::Nothing { untouched: false });
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
    assert!(matches!(elsewhere.claim_earlier(&sale(2)).await, Some(Claim::Redeem(_))));
}

#[tokio::test]
async fn i4_a_client_that_leaves_takes_no_settlement_out_of_anybodys_hands() {
    let desk = Desk::new();
    let settling = desk.in_settlement(&sale(1)).await;
    settling.client_left();
    desk.ledger.flush().await;
    settling.declined("refused", None).await.expect("nobody has looked");
    assert_eq!(desk.state(&sale(1)).await, "released");

    let settling = desk.in_settlement(&sale(2)).await;
    desk.clock.advance(Duration::from_secs(30));
    let due = desk.ledger.overdue_settlements(1).await.unwrap().remove(0);
    let looking = desk.ledger.look(due, desk.clock.now().after(Duration::from_secs(9))).await.unwrap();
    settling.client_left();
    desk.ledger.flush().await;
    assert!(
        matches!(settling.declined("refused", None).await, Err(FileError::Overtaken)),
        "somebody may have asked again"
    );
    let filed = desk.ledger.file(looking.expect("it is due"), receipt(&sale(2), desk.clock.now()), &[]).await;
    assert!(filed.unwrap().is_some(), "and is not disturbed");
}

#[tokio::test]
async fn i4_whoever_signs_again_while_nobody_knows_is_not_charged_for_an_hour() {
    let desk = Desk::new();
    let settling = desk.in_settlement(&sale(1)).await;
    assert!(desk.claim_earlier(&sale(2)).await.is_none(), "two requests at once are two purchases");
    settling.unknown(None, desk.clock.now().after(Duration::from_secs(1))).await.unwrap();
    for _ in 0..2 {
        let Some(Claim::Unresolved { entry }) = desk.claim_earlier(&sale(2)).await else { panic!("nobody knows") };
        assert_eq!(entry.sale.payment.key(), sale(1).payment.key());
    }
    let elsewhere = Sale { request: keccak256("GET /v1/forecast"), ..sale(2) };
    let mut stranger = sale(2);
    let Authorization::Eip3009(signed) = &mut stranger.payment.authorization else {
        panic!("it is an EIP-3009 payment")
    };
    signed.from = Address::repeat_byte(0xcc);
    let mut other_network = sale(2);
    let preset = crate::primitives::preset("base").unwrap();
    other_network.payment.offer.network = Arc::new(preset.network());
    for fresh in [elsewhere, stranger, other_network, sale(1)] {
        assert!(desk.claim_earlier(&fresh).await.is_none());
    }
    desk.clock.advance(Limits::default().redeem_for);
    assert!(desk.claim_earlier(&sale(2)).await.is_none(), "it does not bar its payer for ever");
}

#[tokio::test]
async fn i1_of_many_fresh_signatures_one_collects_what_is_owed() {
    let desk = Desk::new();
    drop(desk.delivering(&sale(1)).await);
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
    assert!(
        desk.ledger.claim_earlier(&Arc::new(sale(11)).into(), Replay::Refuse).await.unwrap().is_none(),
        "the route sells it once"
    );
    let mut collecting = Vec::new();
    for number in 2..10 {
        collecting.extend(desk.claim_earlier(&sale(number)).await);
    }
    assert!(matches!(&collecting[..], [Claim::Redeem(_)]), "{collecting:?}");
    // A payment that the ledger knows has a story of its own.
    drop(collecting);
    desk.ledger.flush().await;
    drop(desk.lease(&sale(12)).await);
    desk.ledger.flush().await;
    assert!(desk.claim_earlier(&sale(12)).await.is_none());
    assert!(matches!(desk.claim_earlier(&sale(13)).await, Some(Claim::Redeem(_))));
}
