//! Every bad answer to `settle`, and what a client, the ledger and the facilitator see of it.
//!
//! Unless a row says otherwise, the money has moved before the answer goes wrong: the case in which a mistake of the
//! gateway would cost somebody money.

use std::time::Duration;

use serde_json::{Value, json};
use tollhouse::testing::facilitator::{Behaviour, Ending};

use crate::answers::*;
use crate::stage::*;

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// 200 with the receipt; the ledger has it settled, and presented again it is spent.
    Served,
    /// 503 with `settlement_pending`, again and again; the ledger has it settling. Once reconciled, the same payment
    /// buys, and one payment has moved.
    Pending { transaction: bool, alarm: bool },
    /// 402 with offers and a failed settlement with this code; the ledger has it released. The same payment buys when
    /// it is presented again.
    Invited(&'static str),
}

use Comes::{Invited, Served};

const UNHEARD: Comes = Comes::Pending { transaction: false, alarm: false };
const HEARD_OF: Comes = Comes::Pending { transaction: true, alarm: false };
const ODD: Comes = Comes::Pending { transaction: false, alarm: true };
const LIES: Comes = Comes::Pending { transaction: true, alarm: true };

struct Row {
    name: &'static str,
    /// One for each call that is answered badly; later ones are answered honestly.
    answers: Vec<Behaviour>,
    comes: Comes,
    /// How often it is asked to settle before the client has its answer.
    calls: usize,
    timeout: &'static str,
}

fn row(name: &'static str, answer: Behaviour, comes: Comes) -> Row {
    Row { name, answers: vec![answer], comes, calls: 1, timeout: "10s" }
}

/// A row about an answer that never ends: what is waited for must not come in time.
fn endless(name: &'static str, answer: Behaviour) -> Row {
    Row { timeout: "1s", ..row(name, answer, UNHEARD) }
}

fn refused(code: &'static str) -> Row {
    row(code, Behaviour::Decline(code), Invited(code))
}

/// What a settlement must name: the transaction, the network, the payer (S15).
fn details() -> Vec<Row> {
    vec![
        row("no transaction", moved(|honest| but(honest, "transaction", "")), ODD),
        row("transaction null", moved(|honest| but(honest, "transaction", json!(null))), ODD),
        row("transaction left out", moved(|honest| without(honest, "transaction")), ODD),
        row("transaction a number", moved(|honest| but(honest, "transaction", 17)), UNHEARD),
        row("transaction a list", moved(|honest| but(honest, "transaction", json!(["0x11"]))), UNHEARD),
        row("transaction without 0x", moved(|honest| but(honest, "transaction", &hash(honest)[2..])), ODD),
        row("transaction a digit short", moved(|honest| but(honest, "transaction", &hash(honest)[..65])), ODD),
        row("transaction a digit long", moved(|honest| but(honest, "transaction", hash(honest) + "0")), ODD),
        row("transaction with a space", moved(|honest| but(honest, "transaction", hash(honest) + " ")), ODD),
        row("transaction of zeros", moved(|honest| but(honest, "transaction", format!("0x{:064}", 0))), ODD),
        row("transaction of Solana", moved(|honest| but(honest, "transaction", "5wHu1qwD7q4fLkgoSdWvMz")), ODD),
        row("transaction in capitals", moved(|honest| but(honest, "transaction", capitals(honest))), Served),
        row("another network", moved(|honest| but(honest, "network", "eip155:8453")), LIES),
        row("another network of v1", moved(|honest| but(honest, "network", "base")), LIES),
        row("no network", moved(|honest| without(honest, "network")), LIES),
        row("network a number", moved(|honest| but(honest, "network", 84_532)), UNHEARD),
        row("the network as v1 names it", moved(|honest| but(honest, "network", "base-sepolia")), Served),
        row("another payer", moved(|honest| but(honest, "payer", STRANGER)), LIES),
        row("a payer that is none", moved(|honest| but(honest, "payer", "somebody")), LIES),
        row("no payer", moved(|honest| without(honest, "payer")), Served),
        row("the payer in small letters", moved(|honest| but(honest, "payer", small(honest))), Served),
        row("success as text", moved(|honest| but(honest, "success", "true")), UNHEARD),
        row("success as a number", moved(|honest| but(honest, "success", 1)), UNHEARD),
        row("success and a reason why not", moved(|honest| but(honest, "errorReason", "transaction_failed")), LIES),
        row("success and an empty reason", moved(|honest| but(honest, "errorReason", "")), Served),
        row("success and more to say", moved(|honest| but(honest, "extensions", json!({ "bazaar": {} }))), Served),
        row("success with 400", moved(|honest| reply("400 Bad Request", JSON, honest.to_string())), LIES),
        row("success with 500", moved(|honest| reply("500 Oops", JSON, honest.to_string())), LIES),
        row("success with 999", moved(|honest| reply("999 Whatever", JSON, honest.to_string())), LIES),
    ]
}

/// What is no document, or not one (S14).
fn bodies() -> Vec<Row> {
    let html = "<html><body>Welcome</body></html>";
    vec![
        row("a web page with 200", Behaviour::Status(200, "text/html", html.into()), UNHEARD),
        row("another content type", moved(|honest| reply("200 OK", "text/plain", honest.to_string())), Served),
        row("nothing with 200", moved(|_| ok("")), UNHEARD),
        row("nothing with 204", moved(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), UNHEARD),
        row("null", moved(|_| ok("null")), UNHEARD),
        row("an empty object", moved(|_| ok("{}")), UNHEARD),
        row("a list", moved(|honest| ok(json!([honest]).to_string())), UNHEARD),
        row("two documents", moved(|honest| ok(format!("{honest}{honest}"))), UNHEARD),
        row("half a document", moved(|honest| ok(&honest.to_string()[..60])), UNHEARD),
        row("success twice", moved(|honest| preceded(honest, r#""success":false"#)), UNHEARD),
        row("a transaction twice", moved(|honest| preceded(honest, r#""transaction":"""#)), UNHEARD),
        row("a thing nobody reads, twice", moved(|honest| preceded(honest, r#""x":1,"x":2"#)), Served),
        row("ten thousand deep", moved(|honest| preceded(honest, &deep("x", 10_000))), Served),
        row("a transaction ten thousand deep", moved(|honest| preceded(honest, &deep("transaction", 10_000))), UNHEARD),
        row("bytes that are no text", moved(|honest| with_bytes(honest, b"\xff\xfe")), UNHEARD),
        row("zero bytes", moved(|honest| with_bytes(honest, b"\0")), UNHEARD),
        row("a byte order mark", moved(|honest| ok(format!("\u{feff}{honest}"))), UNHEARD),
        row("64 KiB to the byte", moved(|honest| padded(honest, 64 * 1024)), Served),
        row("64 KiB and a byte", moved(|honest| padded(honest, 64 * 1024 + 1)), UNHEARD),
        row("six megabytes", Behaviour::Huge, UNHEARD),
        row("gzip that nobody asked for", moved(gzip), UNHEARD),
        row("an encoding it does not have", moved(|honest| encoded("br", honest.to_string().as_bytes())), Served),
    ]
}

/// What is no exchange, or breaks off (S13).
fn exchanges() -> Vec<Row> {
    vec![
        row("reset after settling", Behaviour::HonestThenReset, UNHEARD),
        row("200, then reset", moved_then(Ending::Reset, half), UNHEARD),
        row("200, then closed", moved(half), UNHEARD),
        endless("200, then silence", moved_then(Ending::Silence, half)),
        endless("a head and nothing else", moved_then(Ending::Silence, |_| b"HTTP/1.1 200 OK\r\n".to_vec())),
        endless("a byte at a time", Behaviour::Drip(Duration::from_secs(1))),
        endless("no answer", moved_then(Ending::Silence, |_| Vec::new())),
        endless("no answer, and nothing moved", Behaviour::Hang),
        row("closed without an answer", moved(|_| Vec::new()), UNHEARD),
        row("reset while it is sent", Behaviour::ResetBeforeReading, UNHEARD),
        row("reset before it is acted upon", Behaviour::ResetAfterReading, UNHEARD),
        row("not HTTP", moved(|honest| honest.to_string().into_bytes()), UNHEARD),
        row("a status that is none", moved(|honest| under("HTTP/1.1 20 OK", honest)), UNHEARD),
        row("a zero byte in the head", moved(|honest| under("HTTP/1.1 200 OK\r\nx: a\0b", honest)), UNHEARD),
        row("a length that is none", moved(|honest| under("HTTP/1.1 200 OK\r\ncontent-length: -1", honest)), UNHEARD),
        row("two lengths", moved(two_lengths), UNHEARD),
        row(
            "a length that is too short",
            moved(|honest| under("HTTP/1.1 200 OK\r\ncontent-length: 9", honest)),
            UNHEARD,
        ),
        row(
            "a length that is too long",
            moved(|honest| under("HTTP/1.1 200 OK\r\ncontent-length: 999", honest)),
            UNHEARD,
        ),
        row("ended by closing", moved(|honest| under("HTTP/1.1 200 OK\r\nconnection: close", honest)), Served),
        row("in chunks", moved(|honest| chunked(honest, &whole(honest), "0\r\n\r\n")), Served),
        row("a chunk without its size", moved(|honest| chunked(honest, "zz", "0\r\n\r\n")), UNHEARD),
        row("a chunk of another size", moved(|honest| chunked(honest, "5", "0\r\n\r\n")), UNHEARD),
        row("chunks without an end", moved(|honest| chunked(honest, &whole(honest), "")), UNHEARD),
        row("a huge chunk", moved(|honest| chunked(honest, "ffffffffffffffff", "0\r\n\r\n")), UNHEARD),
        row("two thousand interim answers", moved(|honest| [interim(2000), ok(honest.to_string())].concat()), Served),
        endless("interim answers only", moved_then(Ending::Silence, |_| interim(2000))),
        row("another protocol", moved(switching), UNHEARD),
        row("a thousand fields", moved(|honest| under(&fields(1000), honest)), UNHEARD),
        row("a field of a megabyte", moved(|honest| under(&field_of(1 << 20), honest)), UNHEARD),
        row("moved to a place that would settle", Behaviour::Redirect("/settle".into()), UNHEARD),
        row("301", moved(|honest| elsewhere("301 Moved Permanently", honest)), UNHEARD),
        row("303", moved(|honest| elsewhere("303 See Other", honest)), UNHEARD),
        row("308", moved(|honest| elsewhere("308 Permanent Redirect", honest)), UNHEARD),
        row("429", moved(|_| busy("429 Too Many Requests")), UNHEARD),
        row("500", Behaviour::Status(500, "text/plain", "oops".into()), UNHEARD),
        row("502 of a proxy", Behaviour::Status(502, "text/html", "<html>bad gateway</html>".into()), UNHEARD),
        row("503", moved(|_| busy("503 Service Unavailable")), UNHEARD),
        row("401", Behaviour::Status(401, JSON, r#"{"error":"unauthorized"}"#.into()), UNHEARD),
        row("404", Behaviour::Status(404, "text/plain", "no such page".into()), UNHEARD),
    ]
}

/// Which refusals prove that nothing moved (S13).
fn refusals() -> Vec<Row> {
    let pending = || moved(|honest| failure(honest, "settlement_pending", &hash(honest)));
    let mut rows = vec![
        refused("insufficient_funds"),
        refused("payment_expired"),
        refused("invalid_exact_evm_signature"),
        refused("invalid_exact_evm_insufficient_balance"),
        refused("invalid_exact_evm_transaction_simulation_failed"),
        refused("invalid_exact_evm_payload_authorization_valid_before"),
        refused("invalid_exact_evm_recipient_mismatch"),
        refused("unsupported_scheme"),
        Row { name: "with 400", answers: vec![true_refusal("400 Bad Request")], ..refused("insufficient_funds") },
        Row { name: "with 402", answers: vec![true_refusal("402 Payment Required")], ..refused("insufficient_funds") },
        Row { name: "with 412", answers: vec![true_refusal("412 Failed")], ..refused("insufficient_funds") },
        row(
            "its transaction left out",
            unmoved(|_| ok(r#"{"success":false,"errorReason":"insufficient_funds"}"#)),
            Invited("insufficient_funds"),
        ),
        row("a listed code with 401", refusal("401 Unauthorized"), UNHEARD),
        row("a listed code with 404", refusal("404 Not Found"), UNHEARD),
        row("a listed code with 429", refusal("429 Too Many Requests"), UNHEARD),
        row("a listed code with 500", refusal("500 Oops"), UNHEARD),
        row("a listed code with 503", refusal("503 Unavailable"), UNHEARD),
        row("a listed code with 307", refusal("307 Temporary Redirect"), UNHEARD),
        row(
            "a listed code, a transaction",
            moved(|honest| failure(honest, "insufficient_funds", &hash(honest))),
            HEARD_OF,
        ),
        row(
            "a listed code, half a transaction",
            moved(|honest| failure(honest, "insufficient_funds", "0x11")),
            UNHEARD,
        ),
        row("a listed code, another payer", moved(|honest| but(&refusing(honest), "payer", STRANGER)), ODD),
        row("a listed code, another network", moved(|honest| but(&refusing(honest), "network", "eip155:1")), ODD),
        row("a listed code in capitals", moved(|honest| failure(honest, "INSUFFICIENT_FUNDS", "")), UNHEARD),
        row("a listed code and a space", moved(|honest| failure(honest, "insufficient_funds ", "")), UNHEARD),
        row("a code that is a number", moved(|honest| but(&refusing(honest), "errorReason", 7)), UNHEARD),
        row("no code", moved(|_| ok(r#"{"success":false}"#)), UNHEARD),
        row(
            "the listed code of a failed transaction",
            moved(|honest| failure(honest, "invalid_exact_evm_transaction_failed", &hash(honest))),
            HEARD_OF,
        ),
        Row { answers: vec![pending(), pending()], calls: 2, ..row("pending, twice", pending(), HEARD_OF) },
        Row { calls: 2, ..row("pending, then settled", pending(), Served) },
        Row {
            answers: vec![pending(), Behaviour::HonestThenReset],
            calls: 2,
            ..row("pending, then lost", pending(), HEARD_OF)
        },
        Row {
            answers: vec![pending(), Behaviour::Decline("insufficient_funds")],
            calls: 2,
            ..row("pending, then refused", pending(), HEARD_OF)
        },
    ];
    for code in [
        "nonce_already_used",
        "invalid_exact_evm_nonce_already_used",
        "transaction_failed",
        "invalid_transaction_state",
        "duplicate_settlement",
        "unexpected_settle_error",
        "kyt_risk_detected",
        "the_dog_ate_it",
    ] {
        rows.push(row(code, Behaviour::Decline(code), UNHEARD));
    }
    rows
}

#[tokio::test]
async fn s15_a_settlement_is_one_only_with_every_detail_we_asked_for() {
    play(everywhere(details), |(mode, row)| scene(mode, row)).await;
}

#[tokio::test]
async fn s14_what_is_no_document_settles_nothing_and_refuses_nothing() {
    play(everywhere(bodies), |(mode, row)| scene(mode, row)).await;
}

#[tokio::test]
async fn s13_s61_an_exchange_that_breaks_off_never_ends_and_leads_elsewhere_is_unknown() {
    play(everywhere(exchanges), |(mode, row)| scene(mode, row)).await;
}

#[tokio::test]
async fn s13_only_a_listed_refusal_about_this_payment_invites_to_pay_again() {
    play(everywhere(refusals), |(mode, row)| scene(mode, row)).await;
}

fn everywhere(rows: fn() -> Vec<Row>) -> impl Iterator<Item = (&'static str, Row)> {
    ["on_response", "before_forward"].into_iter().flat_map(move |mode| rows().into_iter().map(move |row| (mode, row)))
}

async fn scene(mode: &'static str, row: Row) {
    let Row { name, answers, comes, calls, timeout } = row;
    let name = &format!("{name}, {mode}");
    let stage = Stage::set(Plan { settle: mode, settle_timeout: timeout, ..PLAN }).await;
    let facilitator = stage.first();
    facilitator.on_settle(answers);
    let payment = stage.payment().await;
    let first = stage.pay(&payment).await;
    assert_eq!(facilitator.count("/settle"), calls, "{name}: calls to settle");
    let worked = usize::from(mode == "on_response");
    match comes {
        Served => {
            assert_served(name, &first);
            stage.until("delivered").await;
            assert_eq!(stage.pay(&payment).await.status, 409, "{name}: it is spent");
            assert_eq!(stage.backend.hits(), 1, "{name}: requests at the backend");
        }
        Comes::Pending { transaction, alarm } => {
            assert_eq!(assert_pending(name, &first), transaction, "{name}: whether the transaction is told");
            assert_eq!(stage.state().await, "settling", "{name}");
            assert_eq!(stage.metric("tollhouse_alarms_total"), Some(u64::from(alarm)), "{name}: alarms");
            assert_pending(name, &stage.pay(&payment).await);
            assert_eq!(stage.backend.hits(), worked, "{name}: requests at the backend");
            assert_eq!(facilitator.count("/settle"), calls, "{name}: presenting it again asks nobody");
            stage.until_found().await;
            assert_served(name, &stage.pay(&payment).await);
            assert_eq!(stage.backend.hits(), worked + 1, "{name}: requests at the backend");
        }
        Invited(code) => {
            assert_invited(name, &first, code);
            let told = first.settlement().unwrap_or_else(|| panic!("{name}: a failed settlement"));
            assert_eq!((told.success, told.error_reason.as_deref()), (false, Some(code)), "{name}");
            assert_eq!((stage.state().await, stage.settlements()), ("released", 0), "{name}");
            stage.wait(EMPTY);
            assert_served(name, &stage.pay(&payment).await);
            assert_eq!(stage.backend.hits(), worked + 1, "{name}: requests at the backend");
        }
    }
    assert_eq!(stage.settlements(), 1, "{name}: payments that moved");
}

fn hash(honest: &Value) -> String {
    honest["transaction"].as_str().expect("an honest answer names it").to_owned()
}

fn capitals(honest: &Value) -> String {
    format!("0x{}", hash(honest)[2..].to_ascii_uppercase())
}

fn small(honest: &Value) -> String {
    honest["payer"].as_str().expect("an honest answer names it").to_ascii_lowercase()
}

/// The honest answer, turned into a refusal that would prove that nothing moved.
fn refusing(honest: &Value) -> Value {
    let refused = changed(honest, "success", false);
    changed(&changed(&refused, "errorReason", "insufficient_funds"), "transaction", "")
}

fn failure(honest: &Value, code: &str, transaction: &str) -> Vec<u8> {
    ok(changed(&changed(&refusing(honest), "errorReason", code), "transaction", transaction).to_string())
}

/// A refusal that would prove that nothing moved, under this status; the money has moved all the same.
fn refusal(status: &'static str) -> Behaviour {
    moved(move |honest| reply(status, JSON, refusing(honest).to_string()))
}

/// The same, and it is true.
fn true_refusal(status: &'static str) -> Behaviour {
    unmoved(move |honest| reply(status, JSON, refusing(honest).to_string()))
}

fn with_bytes(honest: &Value, bytes: &[u8]) -> Vec<u8> {
    let text = honest.to_string();
    ok([&b"{\"x\":\""[..], bytes, b"\",", &text.as_bytes()[1..]].concat())
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn gzip(honest: &Value) -> Vec<u8> {
    encoded("gzip", &gzipped(honest.to_string().as_bytes()))
}

fn half(honest: &Value) -> Vec<u8> {
    let whole = ok(honest.to_string());
    whole[..whole.len() - 20].to_vec()
}

fn two_lengths(honest: &Value) -> Vec<u8> {
    let length = honest.to_string().len();
    under(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ncontent-length: 2"), honest)
}

fn switching(honest: &Value) -> Vec<u8> {
    under("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade", honest)
}

fn fields(count: usize) -> String {
    let length = 9 * count;
    (0..count).fold(String::with_capacity(length) + "HTTP/1.1 200 OK", |head, _| head + "\r\nx: y")
}

fn field_of(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(length))
}

fn elsewhere(status: &str, honest: &Value) -> Vec<u8> {
    under(&format!("HTTP/1.1 {status}\r\nlocation: /settle\r\ncontent-length: {}", honest.to_string().len()), honest)
}

fn busy(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n").into_bytes()
}
