//! Its answers, from the honest to the impossible, and those that never come.

use std::time::Duration;

use serde_json::{Value, json};
use tollhouse::facilitator::{Auth, Config, Facilitator, Kind, Outcome, Trust, VerifyError};
use tollhouse::testing::ScriptedFacilitator;
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::vectors::eip3009_base_sepolia;

use super::{End, HASH, STRANGER, end, hash, refusal, remote, settle, success, success_but, unresolved, with_status};

#[tokio::test]
async fn s13_s14_s15_every_bad_answer_to_settle_means_what_it_proves() {
    let page = || "<html><body>Welcome</body></html>".to_owned();
    let twice = success().to_string().replacen('{', r#"{"success":true,"#, 1);
    let refused = json!({ "success": false, "errorReason": "insufficient_funds", "transaction": "", "network": "" });
    let rows: Vec<(&str, Behaviour, End)> = vec![
        ("S15 success without a transaction", success_but("transaction", ""), End::Alarm(false)),
        ("S15 success with a foreign transaction", success_but("transaction", "5wHu1qwD7q4fLkgo"), End::Alarm(false)),
        ("S15 success with the zero hash", success_but("transaction", format!("0x{:064}", 0)), End::Alarm(false)),
        ("S15 success on another network", success_but("network", "eip155:8453"), End::Alarm(true)),
        ("S15 success without a network", success_but("network", Value::Null), End::Alarm(true)),
        ("S15 success for another payer", success_but("payer", STRANGER), End::Alarm(true)),
        ("S15 success as a string", success_but("success", "true"), End::Unknown(false)),
        ("S15 success with HTTP 400", with_status(400, &success()), End::Alarm(true)),
        ("S15 refusal with HTTP 200", refusal("insufficient_funds", ""), End::Declined),
        ("S15 refusal with HTTP 400", with_status(400, &refused), End::Declined),
        ("S13 refusal with HTTP 500", with_status(500, &refused), End::Unknown(false)),
        ("S13 refusal of the signature", refusal("invalid_exact_evm_signature", ""), End::Declined),
        ("S13 refusal beside a transaction", refusal("insufficient_funds", HASH), End::Unknown(true)),
        ("S13 nonce already used", refusal("invalid_exact_evm_nonce_already_used", ""), End::Unknown(false)),
        ("S13 transaction failed", refusal("invalid_exact_evm_transaction_failed", HASH), End::Unknown(true)),
        ("S13 duplicate settlement", refusal("duplicate_settlement", ""), End::Unknown(false)),
        ("S13 unlisted code", refusal("the_dog_ate_it", ""), End::Unknown(false)),
        ("S13 no code", Behaviour::Answer(json!({ "success": false })), End::Unknown(false)),
        ("S13 502 from a proxy", Behaviour::Status(502, "text/html", page()), End::Unknown(false)),
        ("S13 429", Behaviour::Status(429, "text/plain", "slow down".into()), End::Unknown(false)),
        ("S13 reset after sending", Behaviour::ResetAfterReading, End::Unknown(false)),
        ("S13 reset while sending", Behaviour::ResetBeforeReading, End::Unknown(false)),
        ("S13 reset after the money moved", Behaviour::HonestThenReset, End::Unknown(false)),
        ("S14 HTML with 200", Behaviour::Status(200, "text/html", page()), End::Unknown(false)),
        ("S14 nothing with 204", Behaviour::Status(204, "application/json", String::new()), End::Unknown(false)),
        ("S14 nothing with 200", Behaviour::Status(200, "application/json", String::new()), End::Unknown(false)),
        ("S14 truncated", Behaviour::Truncated, End::Unknown(false)),
        ("S14 a field twice", Behaviour::Status(200, "application/json", twice), End::Unknown(false)),
        ("S14 an array", Behaviour::Answer(json!([success()])), End::Unknown(false)),
        ("S61 six megabytes", Behaviour::Huge, End::Unknown(false)),
        ("S61 redirect", Behaviour::Redirect("/supported".into()), End::Unknown(false)),
        // The content type is no evidence; the SDK ignores it too.
        ("another content type", Behaviour::Status(200, "text/plain", success().to_string()), End::Settled),
        ("the v1 spelling of the network", success_but("network", "base-sepolia"), End::Settled),
    ];
    for (row, behaviour, expected) in rows {
        let facilitator = ScriptedFacilitator::start().await;
        facilitator.on_settle([behaviour]);
        let result = settle(&remote(&facilitator.config("remote")), &eip3009_base_sepolia()).await;
        assert_eq!(end(&result), expected, "{row}: {result:?}");
        assert_eq!(facilitator.calls().len(), 1, "{row}: settle is asked once and nothing else is asked");
    }
}

#[tokio::test]
async fn s65_a_bad_answer_to_verify_is_unavailable_and_only_a_refusal_declines() {
    let page = || "<html></html>".to_owned();
    let refused = |reason: &str| json!({ "isValid": false, "invalidReason": reason });
    let declined = Some;
    let unavailable = None;
    let rows: Vec<(&str, Behaviour, Option<&str>)> = vec![
        ("refused", Behaviour::Decline("insufficient_funds"), declined("insufficient_funds")),
        ("refused with 400", with_status(400, &refused("payment_expired")), declined("payment_expired")),
        ("refused without a reason", Behaviour::Answer(json!({ "isValid": false })), declined("declined")),
        ("I8 refused with an escape", Behaviour::Answer(refused("no\u{1b}[31m")), declined("declined")),
        ("S15 valid for another payer", Behaviour::Answer(json!({ "isValid": true, "payer": STRANGER })), unavailable),
        ("S15 valid as a string", Behaviour::Answer(json!({ "isValid": "true" })), unavailable),
        ("S65 its own trouble", Behaviour::Decline("unexpected_verify_error"), unavailable),
        ("S65 502", Behaviour::Status(502, "text/html", page()), unavailable),
        ("S65 refused with 500", with_status(500, &refused("insufficient_funds")), unavailable),
        ("S14 HTML with 200", Behaviour::Status(200, "text/html", page()), unavailable),
        ("S14 204", Behaviour::Status(204, "application/json", String::new()), unavailable),
        ("S14 the answer to another question", Behaviour::Answer(success()), unavailable),
        ("S61 redirect", Behaviour::Redirect("/supported".into()), unavailable),
    ];
    for (row, behaviour, expected) in rows {
        let facilitator = ScriptedFacilitator::start().await;
        facilitator.on_verify([behaviour]);
        match remote(&facilitator.config("remote")).verify(&eip3009_base_sepolia()).await {
            Err(VerifyError::Declined(decline)) => assert_eq!(Some(decline.code.as_str()), expected, "{row}"),
            Err(VerifyError::Unavailable(cause)) => assert_eq!(expected, None, "{row}: {cause}"),
            Ok(()) => panic!("{row}: was taken for valid"),
        }
        assert_eq!(facilitator.calls().len(), 1, "{row}: an answer is an answer");
    }
}

#[tokio::test]
async fn verify_is_asked_once_more_when_the_connection_fails() {
    for trouble in [Behaviour::ResetAfterReading, Behaviour::ResetBeforeReading, Behaviour::Truncated] {
        let facilitator = ScriptedFacilitator::start().await;
        let remote = remote(&facilitator.config("remote"));
        facilitator.on_verify([trouble.clone()]);
        remote.verify(&eip3009_base_sepolia()).await.expect("the second answer is honest");
        facilitator.on_verify([trouble.clone(), trouble]);
        let verdict = remote.verify(&eip3009_base_sepolia()).await;
        assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{verdict:?}");
        assert_eq!(facilitator.count("/verify"), 4);
    }
}

#[tokio::test]
async fn s13_an_answer_that_does_not_come_in_time_is_unknown() {
    let never = Duration::from_secs(3600);
    for behaviour in [Behaviour::Drip(Duration::from_millis(50)), Behaviour::HonestAfter(never), Behaviour::Hang] {
        let facilitator = ScriptedFacilitator::start().await;
        facilitator.always("/settle", behaviour.clone()).always("/verify", behaviour.clone());
        let timeout = Duration::from_millis(200);
        let remote =
            remote(&Config { verify_timeout: timeout, settle_timeout: timeout, ..facilitator.config("remote") });
        let result = settle(&remote, &eip3009_base_sepolia()).await;
        assert_eq!(end(&result), End::Unknown(false), "{behaviour:?}: {result:?}");
        let verdict = remote.verify(&eip3009_base_sepolia()).await;
        assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{behaviour:?}: {verdict:?}");
        assert!(facilitator.count("/verify") <= 1, "a deadline that has passed leaves no second try");
    }
}

#[tokio::test]
async fn s13_a_refused_connection_is_certain_not_to_have_settled() {
    let facilitator = ScriptedFacilitator::start().await;
    let remote = remote(&facilitator.config("remote"));
    facilitator.stop().await;
    assert_eq!(end(&settle(&remote, &eip3009_base_sepolia()).await), End::NotSent);
}

#[tokio::test]
async fn s13_a_failed_handshake_is_certain_not_to_have_settled() {
    // It speaks no TLS, so the connection fails before a byte of the request has been sent.
    let facilitator = ScriptedFacilitator::start().await;
    let url = facilitator.url().as_str().replace("http:", "https:").parse().expect("a URL");
    let kind = Kind::Remote { url, auth: Auth::None, trust: Trust::Facilitator };
    let remote = remote(&Config { kind, ..facilitator.config("remote") });
    assert_eq!(end(&settle(&remote, &eip3009_base_sepolia()).await), End::NotSent);
    assert!(facilitator.calls().is_empty());
}

#[tokio::test]
async fn s13_a_handshake_that_does_not_end_is_given_up_before_the_settlement_is() {
    // Connections are accepted by the kernel, and nobody ever says a word on them.
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("https://{}", mute.local_addr().expect("it is bound")).parse().expect("a URL");
    let kind = Kind::Remote { url, auth: Auth::None, trust: Trust::Facilitator };
    let facilitator = ScriptedFacilitator::start().await;
    let timeout = Duration::from_secs(2);
    let config = Config { kind, settle_timeout: timeout, ..facilitator.config("remote") };
    assert_eq!(end(&settle(&remote(&config), &eip3009_base_sepolia()).await), End::NotSent);
}

#[tokio::test]
async fn s65_whether_it_is_up_is_what_the_last_call_showed() {
    let facilitator = ScriptedFacilitator::start().await;
    let remote = remote(&facilitator.config("remote"));
    let payment = eip3009_base_sepolia();
    assert!(remote.is_up(), "nothing speaks against it yet");

    facilitator
        .on_verify([Behaviour::Status(500, "text/html", "<html>".into()), Behaviour::Decline("invalid_payload")]);
    assert!(remote.verify(&payment).await.is_err());
    assert!(!remote.is_up(), "it answers with trouble of its own");
    assert!(remote.verify(&payment).await.is_err());
    assert!(remote.is_up(), "a refusal is an answer");

    facilitator.stop().await;
    assert!(settle(&remote, &payment).await.is_err());
    assert!(!remote.is_up(), "nobody is there");
}

#[tokio::test]
async fn s13_pending_is_answered_with_the_same_bytes_once() {
    let pending = || refusal("settlement_pending", HASH);
    let rows = [
        ("settles", Behaviour::Answer(success()), End::Settled),
        ("is still pending", pending(), End::Unknown(true)),
        ("is declined, beside a transaction that was sent", refusal("insufficient_funds", ""), End::Unknown(true)),
        ("is lost", Behaviour::ResetAfterReading, End::Unknown(true)),
        ("lies", success_but("payer", STRANGER), End::Alarm(true)),
    ];
    for (row, second, expected) in rows {
        let facilitator = ScriptedFacilitator::start().await;
        facilitator.on_settle([pending(), second]);
        let result = settle(&remote(&facilitator.config("remote")), &eip3009_base_sepolia()).await;
        assert_eq!(end(&result), expected, "{row}: {result:?}");
        let calls = facilitator.calls();
        assert_eq!(calls.len(), 2, "{row}");
        assert_eq!(calls[0].body, calls[1].body, "{row}");
    }
}

#[tokio::test]
async fn s16_only_success_ends_an_unknown_settlement() {
    let rows = [
        ("success", Behaviour::Answer(success()), true),
        ("no funds: perhaps because our own settlement took them", refusal("insufficient_funds", ""), false),
        ("expired", refusal("invalid_exact_evm_payload_authorization_valid_before", ""), false),
        ("used", refusal("invalid_exact_evm_nonce_already_used", ""), false),
        ("pending", refusal("settlement_pending", ""), false),
        ("S14 HTML with 200", Behaviour::Status(200, "text/html", "<html>".into()), false),
        ("S14 six megabytes", Behaviour::Huge, false),
        ("S14 truncated", Behaviour::Truncated, false),
        ("S15 another payer", success_but("payer", STRANGER), false),
        ("reset", Behaviour::ResetAfterReading, false),
    ];
    for (row, behaviour, settled) in rows {
        let facilitator = ScriptedFacilitator::start().await;
        facilitator.on_settle([behaviour]);
        let remote = remote(&facilitator.config("remote"));
        match remote.outcome(&unresolved(&eip3009_base_sepolia(), Some(hash()))).await {
            Outcome::Settled(receipt) => assert!(settled && receipt.transaction == hash(), "{row}"),
            Outcome::Unknown { transaction, .. } => assert!(!settled && transaction == Some(hash()), "{row}"),
            Outcome::NotSettled(_) => panic!("{row}: a remote facilitator cannot prove that nothing moved"),
        }
        assert_eq!(facilitator.count("/settle"), 1, "{row}");
    }
}
