//! What it is told, asked and trusted with.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tollhouse::facilitator::{
    Auth, Config, Facilitator, Kind, Misconfigured, Pool, Remote, SettleError, Trust, VerifyError,
};
use tollhouse::payment::{Dialect, SettleMode};
use tollhouse::primitives::{Caip2, Secret, SystemClock, Timestamp, preset};
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::vectors::{eip3009_base_sepolia, unsigned};
use tollhouse::testing::{ManualClock, ScriptedFacilitator};

use super::{refusal, remote, settle, success_but};

#[tokio::test]
async fn s53_it_is_told_our_terms_and_never_a_quote() {
    let facilitator = ScriptedFacilitator::start().await;
    settle(&remote(&facilitator.config("remote")), &eip3009_base_sepolia()).await.expect("honest");
    let call = facilitator.calls().remove(0);
    assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/settle"));
    assert_eq!(call.headers["content-type"], "application/json");
    assert!(call.headers.get("authorization").is_none());
    assert_eq!(call.body["x402Version"], 2);
    assert_eq!(call.body["paymentPayload"]["accepted"], call.body["paymentRequirements"]);
    assert_eq!(call.body["paymentRequirements"]["extra"], json!({ "name": "USDC", "version": "2" }));
}

#[tokio::test]
async fn each_call_carries_credentials_and_a_cdp_token_is_never_used_twice() {
    let facilitator = ScriptedFacilitator::start().await;
    let with = |auth: Auth| {
        let kind = Kind::Remote { url: facilitator.url(), auth, trust: Trust::Facilitator };
        remote(&Config { kind, ..facilitator.config("remote") })
    };
    let bearer = with(Auth::Bearer(Secret::new("token".into())));
    // The throw-away key of vector `cdp-facilitator-jwt`.
    let secret = "xVIu2/kIkF4rzd4LWmXMK0hSifxGVNScDtvL3E4SeuVd3Oxuxjrp2iKrx0wk+hZlZjR+1B6I3y7HaV6RyA3BRg==";
    let cdp = with(Auth::Cdp { key_id: Secret::new("key".into()), secret: Secret::new(secret.into()) });
    for remote in [&bearer, &cdp, &cdp] {
        remote.verify(&eip3009_base_sepolia()).await.expect("honest");
    }
    let sent: Vec<_> = facilitator.calls().iter().map(|call| call.headers["authorization"].clone()).collect();
    assert_eq!(sent[0], "Bearer token");
    assert!(sent[1].to_str().is_ok_and(|value| value.starts_with("Bearer ey") && value.matches('.').count() == 2));
    assert_ne!(sent[1], sent[2]);
}

#[tokio::test]
async fn what_it_supports_is_learned_in_the_background() {
    let facilitator = ScriptedFacilitator::start().await;
    let kind = json!({ "x402Version": 1, "scheme": "exact", "network": "base-sepolia" });
    facilitator.on_supported([Behaviour::Answer(json!({ "kinds": [kind] }))]);
    let remote = Arc::new(remote(&facilitator.config("remote")));
    let sepolia = eip3009_base_sepolia();
    let mut base = sepolia.offer.clone();
    base.network = Arc::new(preset("base").expect("a preset").network());
    assert!(remote.accepts(&base, Dialect::V2), "until it has answered, the file's word counts");

    let learning = remote.clone();
    let refresh = tokio::spawn(async move { learning.refresh().await });
    while remote.accepts(&base, Dialect::V2) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    refresh.abort();

    assert!(remote.accepts(&sepolia.offer, Dialect::V2));
    settle(&remote, &sepolia).await.expect("honest");
    let spoken = facilitator.calls().pop().expect("a settlement").body;
    assert_eq!(spoken["x402Version"], 1, "a v2 payment is translated for one that speaks only v1");
    assert_eq!(spoken["paymentRequirements"]["network"], "base-sepolia");
}

#[tokio::test]
async fn play_money_is_never_sent_out() {
    let facilitator = ScriptedFacilitator::start().await;
    let mut offer = eip3009_base_sepolia().offer;
    offer.sandbox = true;
    assert!(!remote(&facilitator.config("remote")).accepts(&offer, Dialect::V2));
}

#[tokio::test]
async fn s61_urls_that_must_not_be_called_are_refused_at_once() {
    let facilitator = ScriptedFacilitator::start().await;
    let refused = |url: &str| {
        let url = url.parse().expect("a URL");
        let kind = Kind::Remote { url, auth: Auth::None, trust: Trust::Facilitator };
        Remote::new(&Config { kind, ..facilitator.config("remote") }, None, Arc::new(SystemClock)).map(|_| ())
    };
    assert!(matches!(refused("http://facilitator.example/"), Err(Misconfigured::Insecure)));
    assert!(matches!(refused("http://10.0.0.7/"), Err(Misconfigured::Insecure)));
    assert!(matches!(refused("ftp://127.0.0.1/"), Err(Misconfigured::Insecure)));
    assert!(matches!(refused("https://169.254.169.254/"), Err(Misconfigured::Address)));
    assert!(matches!(refused("https://user:secret@facilitator.example/"), Err(Misconfigured::NotABase)));
    assert!(matches!(refused("https://facilitator.example/?key=secret"), Err(Misconfigured::NotABase)));
}

#[tokio::test]
async fn i8_neither_errors_nor_debug_output_show_a_secret_or_a_signature() {
    let facilitator = ScriptedFacilitator::start().await;
    let auth = Auth::Bearer(Secret::new("hunter2".into()));
    let kind = Kind::Remote { url: facilitator.url(), auth, trust: Trust::Facilitator };
    let config = Config { kind, ..facilitator.config("remote") };
    let remote = remote(&config);
    let signature = format!("0x{}", "5ec2e7".repeat(22));
    let script = [
        refusal(&signature, ""),
        Behaviour::Answer(json!({ "success": signature })),
        Behaviour::Status(500, "text/plain", signature.clone()),
        success_but("payer", signature.as_str()),
        success_but("transaction", signature.as_str()),
        Behaviour::ResetAfterReading,
    ];
    for behaviour in script {
        facilitator.on_settle([behaviour]);
        let error = settle(&remote, &eip3009_base_sepolia()).await.expect_err("none of these is a success");
        let told = format!("{error:?} {remote:?} {config:?}");
        assert!(!told.contains("hunter2") && !told.contains("5ec2e7"), "{told}");
    }
}

#[tokio::test]
async fn a_removed_facilitator_gets_no_payments_but_can_still_be_asked() {
    let facilitator = ScriptedFacilitator::start().await;
    let named = |name: &str| -> Arc<dyn Facilitator> { Arc::new(remote(&facilitator.config(name))) };
    let offer = eip3009_base_sepolia().offer;
    let pool = Pool::new(vec![named("first"), named("second")]);
    let preferred = || {
        let candidates = pool.candidates(&offer, Dialect::V2);
        candidates.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(preferred(), ["first", "second"]);

    pool.replace(vec![named("second")]);
    assert_eq!(preferred(), ["second"]);
    assert!(pool.can_settle(&offer));
    assert!(pool.named("first").is_some() && pool.named("second").is_some() && pool.named("third").is_none());

    pool.replace(vec![]);
    assert!(!pool.can_settle(&offer));
    for reload in 0..40 {
        pool.replace(vec![named(&format!("reload-{reload}"))]);
    }
    assert!(pool.named("reload-38").is_some());
    assert!(pool.named("first").is_none(), "what is kept is bounded (I7)");
}

#[tokio::test]
async fn s32_whom_a_facilitator_calls_empty_it_is_not_asked_about_for_a_moment() {
    let facilitator = ScriptedFacilitator::start().await;
    let clock = ManualClock::at(Timestamp::from_secs(1_767_225_600));
    let config = Config { networks: vec![network("base-sepolia"), network("base")], ..facilitator.config("remote") };
    let remote = Remote::new(&config, None, Arc::new(clock.clone())).expect("a good configuration");
    let payment = eip3009_base_sepolia();
    let mut elsewhere = payment.clone();
    elsewhere.offer.network = Arc::new(preset("base").expect("a preset").network());

    facilitator.on_verify([Behaviour::Decline("invalid_exact_evm_insufficient_balance")]);
    assert!(matches!(remote.verify(&payment).await, Err(VerifyError::Declined(_))));
    let Err(VerifyError::Declined(again)) = remote.verify(&unsigned(2)).await else { panic!("it is empty") };
    assert_eq!((again.code.as_str(), facilitator.count("/verify")), ("insufficient_funds", 1));
    assert!(matches!(remote.foresee(&payment), Some(VerifyError::Declined(_))));
    assert!(remote.foresee(&elsewhere).is_none(), "on another network it may have more");
    assert!(remote.prepare(&payment).await.is_ok(), "what was served is settled: its price may have come meanwhile");
    elsewhere.offer = payment.offer.clone();
    elsewhere.offer.settle = SettleMode::BeforeForward;
    assert!(matches!(remote.prepare(&elsewhere).await, Err(SettleError::Declined(_))));

    clock.advance(Duration::from_secs(5));
    assert!(remote.foresee(&payment).is_none());
    assert!(remote.verify(&payment).await.is_ok());
    assert_eq!(facilitator.count("/verify"), 2);
}

#[tokio::test]
async fn s32_no_other_refusal_is_kept() {
    let facilitator = ScriptedFacilitator::start().await;
    let remote = remote(&facilitator.config("remote"));
    for code in ["invalid_exact_evm_signature", "kyt_risk_detected", "unexpected_verify_error"] {
        facilitator.on_verify([Behaviour::Decline(code)]);
        assert!(remote.verify(&unsigned(1)).await.is_err());
        assert!(remote.foresee(&unsigned(2)).is_none(), "{code}");
    }
    assert_eq!(facilitator.count("/verify"), 3);
}

fn network(name: &str) -> Caip2 {
    preset(name).expect("a preset").network().id
}
