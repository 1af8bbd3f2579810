//! What a remote facilitator can do wrong, and what each of it means for the money.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tollhouse::facilitator::chain::{Never, Unused, Verdict};
use tollhouse::facilitator::{
    Auth, BoxError, Config, Contradiction, Facilitator, Kind, Means, Misconfigured, Outcome, Pool, Prepared, Remote,
    SettleError, Standing, Trust, Unresolved, VerifyError, Witness, Witnessed,
};
use tollhouse::payment::{Dialect, Payment, Receipt, SettleMode, TransactionHash};
use tollhouse::primitives::{Caip2, Clock, Secret, SystemClock, Timestamp, preset};
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::vectors::{eip3009_base_sepolia, unsigned};
use tollhouse::testing::{ManualClock, ScriptedFacilitator};

const HASH: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const STRANGER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

/// How a settlement ended, for tables.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Settled,
    Declined,
    NotSent,
    /// With a transaction, or without.
    Unknown(bool),
    /// Unknown, and the facilitator's word does not add up.
    Alarm(bool),
}

fn end(result: &Result<Receipt, SettleError>) -> End {
    match result {
        Ok(_) => End::Settled,
        Err(SettleError::Declined(_)) => End::Declined,
        Err(SettleError::NotSent(_)) => End::NotSent,
        Err(SettleError::Unknown { transaction, source }) if Contradiction::is_behind(source.as_ref()) => {
            End::Alarm(transaction.is_some())
        }
        Err(SettleError::Unknown { transaction, .. }) => End::Unknown(transaction.is_some()),
    }
}

fn remote(config: &Config) -> Remote {
    Remote::new(config, None, Arc::new(SystemClock)).expect("a good configuration")
}

/// One that asks this node about every success.
fn watched(config: Config, node: Node) -> Remote {
    let Kind::Remote { url, auth, .. } = config.kind else { panic!("scripted facilitators are remote") };
    let config = Config { kind: Kind::Remote { url, auth, trust: Trust::Verify }, ..config };
    Remote::new(&config, Some(Arc::new(node)), Arc::new(SystemClock)).expect("a good configuration")
}

async fn settle(remote: &Remote, payment: &Payment) -> Result<Receipt, SettleError> {
    remote.submit(payment, Prepared { transaction: None, raw: None }).await
}

fn unresolved(payment: &Payment, transaction: Option<TransactionHash>) -> Unresolved {
    let now = SystemClock.now();
    Unresolved { payment: payment.clone(), transaction, reserved_at: now, since: now }
}

fn hash() -> TransactionHash {
    HASH.parse().expect("a hash")
}

fn success() -> Value {
    json!({ "success": true, "transaction": HASH, "network": "eip155:84532", "payer": PAYER })
}

fn success_but(field: &str, value: impl Into<Value>) -> Behaviour {
    let mut answer = success();
    answer[field] = value.into();
    Behaviour::Answer(answer)
}

fn refusal(code: &str, transaction: &str) -> Behaviour {
    Behaviour::Answer(json!({
        "success": false, "errorReason": code, "transaction": transaction, "network": "eip155:84532", "payer": PAYER,
    }))
}

fn with_status(status: u16, body: &Value) -> Behaviour {
    Behaviour::Status(status, "application/json", body.to_string())
}

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

/// How a search of the chain ends.
type Search = fn() -> Verdict;
/// What a look at a nonce shows.
type Look = fn() -> Result<Unused, BoxError>;

/// A node that makes up its mind at the n-th question: an error at first, then "not yet".
struct Node {
    says: Witnessed,
    found: Search,
    unused: Look,
    after: usize,
    asked: Arc<AtomicUsize>,
    watches: bool,
}

impl Node {
    fn new(says: Witnessed, after: usize) -> Self {
        let found = || Verdict::CannotTell("the authorization is unused".into());
        Self { says, found, unused: || Ok(Unused::Yet), after, asked: Arc::default(), watches: true }
    }
}

#[async_trait]
impl Witness for Node {
    fn watches(&self, _network: &Caip2) -> bool {
        self.watches
    }

    async fn witnessed(&self, _payment: &Payment, _transaction: TransactionHash) -> Result<Witnessed, BoxError> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 if self.after > 0 => Err("the node is out of breath".into()),
            asked if asked < self.after => Ok(Witnessed::NotYet),
            _ => Ok(self.says.clone()),
        }
    }

    async fn settlement(&self, _payment: &Payment, _reserved_at: Timestamp) -> Verdict {
        (self.found)()
    }

    async fn unused(&self, _network: &Caip2, payments: &[&Payment]) -> Result<Vec<Unused>, BoxError> {
        Ok(vec![(self.unused)()?; payments.len()])
    }

    async fn means(&self, _payment: &Payment) -> Result<Means, BoxError> {
        Err("the node is out of breath".into())
    }
}

#[tokio::test]
async fn s16_a_settlement_counts_when_our_own_node_shows_the_transfer() {
    let facilitator = ScriptedFacilitator::start().await;
    let node = Node::new(Witnessed::Yes { block: 7 }, 2);
    let asked = node.asked.clone();
    let result = settle(&watched(facilitator.config("remote"), node), &eip3009_base_sepolia()).await;
    assert_eq!(end(&result), End::Settled, "{result:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3, "an error, a not yet, and the transfer");
    assert_eq!(result.ok().and_then(|receipt| receipt.block), Some(7), "what is proven says where (S5)");
}

#[tokio::test]
async fn s16_a_lying_facilitator_raises_an_alarm_and_settles_nothing() {
    let facilitator = ScriptedFacilitator::start().await;
    let node = Node::new(Witnessed::No("holds no such transfer".into()), 0);
    let remote = watched(facilitator.config("remote"), node);
    let payment = eip3009_base_sepolia();
    assert_eq!(end(&settle(&remote, &payment).await), End::Alarm(true));
    match remote.outcome(&unresolved(&payment, Some(hash()))).await {
        Outcome::Unknown { source, .. } => assert!(Contradiction::is_behind(source.as_ref()), "{source}"),
        other => panic!("nothing is on chain, and yet {other:?}"),
    }
}

#[tokio::test]
async fn s27_a_transfer_our_node_does_not_show_in_time_is_unknown() {
    let facilitator = ScriptedFacilitator::start().await;
    let config = Config { settle_timeout: Duration::from_secs(1), ..facilitator.config("remote") };
    let remote = watched(config, Node::new(Witnessed::Yes { block: 7 }, usize::MAX));
    let result = settle(&remote, &eip3009_base_sepolia()).await;
    assert!(matches!(end(&result), End::Unknown(_)), "{result:?}");
}

#[tokio::test]
async fn s21_a_settlement_whose_transaction_nobody_wrote_down_is_found_on_chain() {
    let facilitator = ScriptedFacilitator::start().await;
    let found = || Verdict::Settled { transaction: hash(), block: 7, at: SystemClock.now() };
    let node = Node { found, ..Node::new(Witnessed::NotYet, 0) };
    let outcome = watched(facilitator.config("remote"), node).outcome(&unresolved(&eip3009_base_sepolia(), None)).await;
    assert!(matches!(outcome, Outcome::Settled(receipt) if receipt.transaction == hash()));
    assert_eq!(facilitator.count("/settle"), 0, "what is on chain needs no second settle");
}

#[tokio::test]
async fn s28_our_own_node_proves_that_a_lapsed_authorization_moved_nothing() {
    let facilitator = ScriptedFacilitator::start().await;
    let node = Node { found: || Verdict::Never(Never::Lapsed), ..Node::new(Witnessed::NotYet, 0) };
    let outcome = watched(facilitator.config("remote"), node).outcome(&unresolved(&eip3009_base_sepolia(), None)).await;
    let code = "invalid_exact_evm_payload_authorization_valid_before";
    assert!(matches!(outcome, Outcome::NotSettled(decline) if decline.code == code));
    assert_eq!(facilitator.count("/settle"), 0);
}

#[tokio::test]
async fn s16_a_known_transaction_on_chain_needs_no_second_settle() {
    let facilitator = ScriptedFacilitator::start().await;
    let remote = watched(facilitator.config("remote"), Node::new(Witnessed::Yes { block: 7 }, 0));
    let outcome = remote.outcome(&unresolved(&eip3009_base_sepolia(), Some(hash()))).await;
    assert!(matches!(outcome, Outcome::Settled(receipt) if receipt.transaction == hash()));
    assert_eq!(facilitator.count("/settle"), 0);
}

#[tokio::test]
async fn s16_where_nobody_can_look_its_word_is_taken() {
    let facilitator = ScriptedFacilitator::start().await;
    let denies = || Node::new(Witnessed::No("is nowhere".into()), 0);
    let blind = watched(facilitator.config("remote"), Node { watches: false, ..denies() });
    assert_eq!(end(&settle(&blind, &eip3009_base_sepolia()).await), End::Settled);
    // `trust: facilitator` says so for every network.
    let trusting = Remote::new(&facilitator.config("remote"), Some(Arc::new(denies())), Arc::new(SystemClock));
    assert_eq!(end(&settle(&trusting.expect("a good configuration"), &unsigned(2)).await), End::Settled);
}

#[tokio::test]
async fn s16_a_refusal_is_worth_what_our_own_node_makes_of_it() {
    let facilitator = ScriptedFacilitator::start().await;
    let settled = || Verdict::Settled { transaction: hash(), block: 7, at: SystemClock.now() };
    let unsure = || Verdict::CannotTell("the nonce is used, but no log says what for".into());
    let rows: [(&str, Look, Search, &str); 6] = [
        ("unused: the search would find it, and is not asked", || Ok(Unused::Yet), settled, "open"),
        ("lapsed: the search would find it, and is not asked", || Ok(Unused::ForGood), settled, "dead"),
        ("used, and the transfer is there", || Ok(Unused::Perhaps), settled, "moved"),
        ("used for something else", || Ok(Unused::Perhaps), || Verdict::Never(Never::SpentElsewhere), "dead"),
        ("used, and nobody knows what for", || Ok(Unused::Perhaps), unsure, "unclear"),
        ("no answer", || Err("the node is out of breath".into()), settled, "unclear"),
    ];
    for (row, unused, found, expected) in rows {
        let node = Node { unused, found, ..Node::new(Witnessed::NotYet, 0) };
        let asked = [unresolved(&eip3009_base_sepolia(), None), unresolved(&unsigned(2), None)];
        let standings = watched(facilitator.config("remote"), node).recheck(&asked).await;
        assert_eq!(standings.iter().map(word).collect::<Vec<_>>(), [expected; 2], "{row}: {standings:?}");
    }
    let blind = Node { watches: false, ..Node::new(Witnessed::NotYet, 0) };
    let standings = watched(facilitator.config("remote"), blind).recheck(&[unresolved(&unsigned(2), None)]).await;
    assert_eq!(standings.iter().map(word).collect::<Vec<_>>(), ["stands"], "there is nobody to ask");
    assert!(facilitator.calls().is_empty(), "whoever declined is not asked again");
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Stands => "stands",
        Standing::Open => "open",
        Standing::Dead(_) => "dead",
        Standing::Moved(receipt) => {
            if receipt.block == Some(7) {
                "moved"
            } else {
                "moved, nobody knows where"
            }
        }
        Standing::Unclear(_) => "unclear",
    }
}

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
