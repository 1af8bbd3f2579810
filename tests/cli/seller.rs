//! `tollhouse pay` against sellers that behave in every way a seller may.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollhouse::facilitator::sandbox::PAYEE;

use crate::support::{Ended, break_off, read_request, respond, run};

const TRANSACTION: &str = "0x5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// What a seller does with the next request.
#[derive(Clone)]
enum Reply {
    /// Answers: status and fields, body.
    Answer(String, String),
    /// Reads it and hangs up.
    HangUp,
    /// Begins to answer and hangs up: status and fields.
    BreakOff(String),
}

/// Answers in this order; the last goes on for ever.
struct Seller {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Seller {
    fn with(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<_> = replies.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = read_request(&stream) else { continue };
                let mut heard = ears.lock().expect("nobody panics while holding it");
                let reply = &replies[heard.len().min(replies.len() - 1)];
                heard.push(request);
                match reply {
                    Reply::Answer(head, body) => respond(&stream, head, body),
                    Reply::BreakOff(head) => break_off(&stream, head),
                    Reply::HangUp => {}
                }
            }
        });
        Self { address, heard }
    }

    /// Buys for a dollar at most, and waits this long at most.
    fn pay(&self, wait: &str, more: &[&str]) -> Ended {
        let url = format!("http://{}/v1/weather", self.address);
        run(["pay", &url, "--max", "$1", "--wait", wait, "--format", "json"].iter().chain(more))
    }

    /// The payments that it was presented.
    fn payments(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("nobody panics while holding it");
        let payment = |request: &String| {
            let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with("x-payment:"))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        heard.iter().filter_map(payment).collect()
    }
}

/// A 402 that asks a cent of play money.
fn challenge() -> Reply {
    asking(PAYEE.to_string(), true, |_| {})
}

/// A 402 in the words of v1, whose offer can be edited.
fn asking(pay_to: String, sandbox: bool, edit: impl FnOnce(&mut Value)) -> Reply {
    let mut offer = json!({
        "scheme": "exact",
        "network": "base-sepolia",
        "maxAmountRequired": "10000",
        "resource": "http://localhost/v1/weather",
        "description": "",
        "mimeType": "application/json",
        "payTo": pay_to,
        "maxTimeoutSeconds": 60,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "extra": { "name": "USDC", "version": "2", "sandbox": sandbox },
    });
    edit(&mut offer);
    let body = json!({ "x402Version": 1, "error": "not enough", "accepts": [offer] });
    answer("402 Payment Required", &body.to_string())
}

fn answer(head: &str, body: &str) -> Reply {
    Reply::Answer(head.to_owned(), body.to_owned())
}

fn settlement(success: bool, reason: Option<&str>) -> String {
    let settlement = json!({
        "success": success,
        "errorReason": reason,
        "transaction": if success { TRANSACTION } else { "" },
        "network": "base-sepolia",
    });
    format!("X-PAYMENT-RESPONSE: {}", STANDARD.encode(settlement.to_string()))
}

fn served() -> Reply {
    answer(&format!("200 OK\r\n{}", settlement(true, None)), "sunny\n")
}

fn pending() -> Reply {
    let head =
        format!("503 Service Unavailable\r\nRetry-After: 0\r\n{}", settlement(false, Some("settlement_pending")));
    answer(&head, "")
}

#[test]
fn a_charge_that_is_known_is_not_told_as_one_that_may_come() {
    let head = format!("200 OK\r\n{}", settlement(true, None));
    let seller = Seller::with([challenge(), Reply::BreakOff(head)]);
    let reason = seller.pay("0", &[]).exits(4).json()["reason"].to_string();
    assert!(reason.contains("broke off") && reason.contains(&format!("was charged in {TRANSACTION}")), "{reason}");
    assert!(!reason.contains("can be charged"), "{reason}");

    let seller = Seller::with([challenge(), Reply::HangUp]);
    let reason = seller.pay("0", &["-X", "POST"]).exits(4).json()["reason"].to_string();
    assert!(reason.contains("can be charged until"), "{reason}");
}

#[test]
fn i4_a_buyer_who_has_to_wait_presents_the_same_payment_again() {
    let in_flight =
        answer("409 Conflict\r\nRetry-After: 0", r#"{"detail":"the same payment is being served right now"}"#);
    let failed = answer(&format!("502 Bad Gateway\r\nRetry-After: 0\r\n{}", settlement(true, None)), "");
    let seller = Seller::with([challenge(), in_flight, pending(), Reply::HangUp, failed, served()]);

    let paid = seller.pay("60", &[]).exits(0).json();

    assert_eq!(
        (&paid["outcome"], &paid["body"], &paid["transaction"]),
        (&"paid".into(), &"sunny\n".into(), &TRANSACTION.into())
    );
    let payments = seller.payments();
    assert_eq!(payments.len(), 5);
    assert!(payments.iter().all(|payment| *payment == payments[0]), "one signature, however often it is presented");
}

#[test]
fn s13_a_buyer_who_gives_up_says_that_nobody_knows() {
    let in_flight = answer("409 Conflict\r\nRetry-After: 0", "");
    let late = answer("503 Service Unavailable\r\nRetry-After: 18446744073709551615", "");
    let broken = answer("500 Internal Server Error", "");
    let charged = answer(&format!("409 Conflict\r\n{}", settlement(true, None)), "");
    for last in [pending(), in_flight, late, broken, charged, Reply::HangUp] {
        let seller = Seller::with([challenge(), last]);
        let unknown = seller.pay("1", &[]).exits(4).json();
        assert_eq!(unknown["outcome"], "unknown", "{unknown}");
        assert!(unknown["reason"].as_str().is_some_and(|reason| reason.contains("do not pay again")), "{unknown}");
    }
}

#[test]
fn a_refusal_after_a_doubtful_try_counts_only_with_proof() {
    let seller = Seller::with([challenge(), pending(), challenge()]);
    assert_eq!(seller.pay("60", &[]).exits(4).json()["outcome"], "unknown");

    let failed = settlement(false, Some("insufficient_funds"));
    let seller = Seller::with([challenge(), pending(), answer(&format!("402 Payment Required\r\n{failed}"), "")]);
    assert_eq!(seller.pay("60", &[]).exits(1).json()["outcome"], "declined");
}

#[test]
fn a_second_402_is_a_no_and_not_an_invitation() {
    let seller = Seller::with([challenge()]);
    let declined = seller.pay("60", &[]).exits(1).json();
    assert_eq!(
        (&declined["outcome"], &declined["reason"]),
        (&"declined".into(), &"declined: 402 Payment Required: not enough".into())
    );
    assert_eq!(seller.payments().len(), 1);
}

#[test]
fn a_request_that_changes_something_is_not_sent_again_unasked() {
    let seller = Seller::with([challenge(), Reply::HangUp]);
    seller.pay("60", &["-d", "{}"]).exits(4);
    assert_eq!(seller.payments().len(), 1);
}

#[test]
fn what_is_served_without_a_receipt_is_served() {
    let foreign = answer(&format!("200 OK\r\n{}", settlement(true, None).replace(':', ": x")), "sunny\n");
    for last in [answer("200 OK", "sunny\n"), foreign] {
        let seller = Seller::with([challenge(), last]);
        let served = seller.pay("60", &[]).exits(0).json();
        assert_eq!((&served["outcome"], &served["transaction"]), (&"served".into(), &Value::Null));
    }
}

#[test]
fn money_that_is_not_play_money_needs_a_key_of_ones_own() {
    let own = "0x1111111111111111111111111111111111111111".to_owned();
    let offers = [
        asking(own.clone(), false, |_| {}),
        // What a seller calls it counts for nothing.
        asking(own, true, |_| {}),
        asking(PAYEE.to_string(), true, |offer| {
            offer["network"] = "base".into();
            offer["asset"] = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".into();
        }),
    ];
    for offer in offers {
        let seller = Seller::with([offer]);
        let refused = seller.pay("60", &[]).exits(1).json();
        assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("--key-file")), "{refused}");
        assert!(seller.payments().is_empty());
    }
}

#[test]
fn offers_that_cannot_be_weighed_are_not_paid() {
    let edits: [fn(&mut Value); 4] = [
        |offer| offer["asset"] = "0x2222222222222222222222222222222222222222".into(),
        |offer| offer["maxTimeoutSeconds"] = 31_536_000_u64.into(),
        |offer| offer["scheme"] = "upto".into(),
        |offer| offer["maxAmountRequired"] = "1000001".into(),
    ];
    for edit in edits {
        let seller = Seller::with([asking(PAYEE.to_string(), true, edit)]);
        assert_eq!(seller.pay("60", &[]).exits(1).json()["outcome"], "unwilling");
        assert!(seller.payments().is_empty());
    }
    for nonsense in
        [answer("402 Payment Required", "pay me"), answer("402 Payment Required\r\nPAYMENT-REQUIRED: e30=", "")]
    {
        Seller::with([nonsense]).pay("60", &[]).exits(1);
    }
}

#[test]
fn s61_a_redirect_is_told_and_not_followed() {
    let elsewhere = Seller::with([answer("200 OK", "elsewhere")]);
    let seller = Seller::with([answer(&format!("302 Found\r\nLocation: http://{}/", elsewhere.address), "")]);
    let told = seller.pay("60", &[]).exits(1).json();
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains(&elsewhere.address.to_string())), "{told}");
    assert!(elsewhere.heard.lock().expect("nobody panics while holding it").is_empty());
}

#[test]
fn a_seller_who_cannot_be_asked_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    drop(listener);
    let lost = run(["pay", &url, "--max", "$1"]).exits(3);
    assert!(lost.stderr.contains("nothing was paid"), "{}", lost.stderr);
    Seller::with([answer("503 Service Unavailable", "")]).pay("60", &[]).exits(3);
}

#[test]
fn the_request_is_the_one_that_was_asked_for() {
    let seller = Seller::with([challenge(), served()]);
    seller.pay("60", &["-X", "PUT", "-H", "Accept: text/plain", "-d", "{\"a\":1}"]).exits(0);
    let heard = seller.heard.lock().expect("nobody panics while holding it").clone();
    assert_eq!(heard.len(), 2);
    for request in heard {
        let request = request.to_ascii_lowercase();
        for part in
            ["put /v1/weather http/1.1", "accept: text/plain", "content-type: application/json", "\r\n\r\n{\"a\":1}"]
        {
            assert!(request.contains(part), "{part} is missing from {request}");
        }
    }
}
