//! Every bad answer to `verify`. Nothing moves here, so a mistake costs nobody money; it may turn payers away, invite
//! them to pay for somebody else's trouble, or let unpaid requests through.

use std::time::Duration;

use serde_json::Value;
use tollhouse::testing::facilitator::{Behaviour, Ending};

use crate::answers::*;
use crate::stage::*;

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// The request passes, and is settled and paid.
    Passes,
    /// 503, nothing about money, nobody else asked; the payment is let go, uncounted, and buys when it comes again.
    Unavailable { alarm: bool },
    /// 402 with offers and this code; the payment is let go, uncounted, and buys when it comes again.
    Declined(&'static str),
    /// 409 and no offers: money may have moved by other hands.
    Spent,
}

use Comes::{Declined, Passes, Spent};

const UNAVAILABLE: Comes = Comes::Unavailable { alarm: false };
const LIES: Comes = Comes::Unavailable { alarm: true };

struct Row {
    name: &'static str,
    /// The answer to every call, until the client has been answered.
    answer: Behaviour,
    comes: Comes,
    /// How often it is asked: once more where the connection itself failed.
    calls: usize,
    timeout: &'static str,
}

fn row(name: &'static str, answer: Behaviour, comes: Comes) -> Row {
    Row { name, answer, comes, calls: 1, timeout: "10s" }
}

/// A row about a connection that fails.
fn broken(name: &'static str, answer: Behaviour) -> Row {
    Row { calls: 2, ..row(name, answer, UNAVAILABLE) }
}

/// A row about an answer that never ends.
fn endless(name: &'static str, answer: Behaviour) -> Row {
    Row { timeout: "2s", ..row(name, answer, UNAVAILABLE) }
}

fn invalid(honest: &Value, reason: impl Into<Value>) -> Value {
    changed(&changed(honest, "isValid", false), "invalidReason", reason)
}

/// A refusal of the payer under this status.
fn refusal(status: &'static str) -> Behaviour {
    unmoved(move |honest| reply(status, JSON, invalid(honest, "insufficient_funds").to_string()))
}

fn verdicts() -> Vec<Row> {
    vec![
        row("valid", Behaviour::Honest, Passes),
        row("no payer", unmoved(|honest| without(honest, "payer")), Passes),
        row("an empty reason", unmoved(|honest| but(honest, "invalidReason", "")), Passes),
        row("in another content type", unmoved(|honest| reply("200 OK", "text/html", honest.to_string())), Passes),
        row("another payer", unmoved(|honest| but(honest, "payer", STRANGER)), LIES),
        row("a payer that is none", unmoved(|honest| but(honest, "payer", "me")), LIES),
        row("valid and a reason why not", unmoved(|honest| but(honest, "invalidReason", "insufficient_funds")), LIES),
        row("valid with 400", unmoved(|honest| reply("400 Bad Request", JSON, honest.to_string())), LIES),
        row("valid with 500", unmoved(|honest| reply("500 Oops", JSON, honest.to_string())), LIES),
        row("valid as text", unmoved(|honest| but(honest, "isValid", "true")), UNAVAILABLE),
        row("valid as a number", unmoved(|honest| but(honest, "isValid", 1)), UNAVAILABLE),
        row("valid and not", unmoved(|honest| preceded(honest, r#""isValid":false"#)), UNAVAILABLE),
        row("neither", unmoved(|honest| without(honest, "isValid")), UNAVAILABLE),
        row("the answer to another question", unmoved(|_| ok(r#"{"success":true}"#)), UNAVAILABLE),
        row("refused", Behaviour::Decline("insufficient_funds"), Declined("insufficient_funds")),
        row("refused with 400", refusal("400 Bad Request"), Declined("insufficient_funds")),
        row("refused with 402", refusal("402 Payment Required"), Declined("insufficient_funds")),
        row("refused with 422", refusal("422 Unprocessable"), Declined("insufficient_funds")),
        row("refused with 401", refusal("401 Unauthorized"), UNAVAILABLE),
        row("refused with 403", refusal("403 Forbidden"), UNAVAILABLE),
        row("refused with 404", refusal("404 Not Found"), UNAVAILABLE),
        row("refused with 429", refusal("429 Too Many Requests"), UNAVAILABLE),
        row("refused with 500", refusal("500 Oops"), UNAVAILABLE),
        row("refused with 503", refusal("503 Unavailable"), UNAVAILABLE),
        row("refused without a reason", unmoved(|_| ok(r#"{"isValid":false}"#)), Declined("declined")),
        row("a reason of its own", Behaviour::Decline("the_dog_ate_it"), Declined("the_dog_ate_it")),
        row("a reason in markup", unmoved(|honest| ok(invalid(honest, "<b>").to_string())), Declined("declined")),
        row(
            "a reason a megabyte long",
            unmoved(|honest| ok(invalid(honest, "a".repeat(1 << 20)).to_string())),
            UNAVAILABLE,
        ),
        row("a reason that is a number", unmoved(|honest| ok(invalid(honest, 7).to_string())), UNAVAILABLE),
        row("its own trouble", Behaviour::Decline("unexpected_verify_error"), UNAVAILABLE),
        row("nobody knows what", Behaviour::Decline("unknown_error"), UNAVAILABLE),
        row("nonce used", Behaviour::Decline("invalid_exact_evm_nonce_already_used"), Spent),
    ]
}

fn exchanges() -> Vec<Row> {
    vec![
        row("a web page with 200", Behaviour::Status(200, "text/html", "<html></html>".into()), UNAVAILABLE),
        row("nothing with 200", unmoved(|_| ok("")), UNAVAILABLE),
        row("nothing with 204", Behaviour::Status(204, JSON, String::new()), UNAVAILABLE),
        row("half a document", unmoved(|honest| ok(&honest.to_string()[..9])), UNAVAILABLE),
        row("a payer ten thousand deep", unmoved(|honest| preceded(honest, &deep("payer", 10_000))), UNAVAILABLE),
        row("bytes that are no text", unmoved(|_| ok(b"{\"isValid\":true,\"x\":\"\xff\"}")), UNAVAILABLE),
        row("redirected to a place that says yes", Behaviour::Redirect("/verify".into()), UNAVAILABLE),
        row("500", Behaviour::Status(500, "text/plain", "oops".into()), UNAVAILABLE),
        row("502", Behaviour::Status(502, "text/html", "<html></html>".into()), UNAVAILABLE),
        row(
            "429",
            unmoved(|_| b"HTTP/1.1 429 Slow\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n".to_vec()),
            UNAVAILABLE,
        ),
        row("interim answers first", unmoved(|honest| [interim(100), ok(honest.to_string())].concat()), Passes),
        row("in chunks", unmoved(|honest| chunked(honest, &whole(honest), "0\r\n\r\n")), Passes),
        row("gzip", unmoved(|honest| ok(gzipped(honest.to_string().as_bytes()))), UNAVAILABLE),
        row("six megabytes", Behaviour::Huge, UNAVAILABLE),
        broken("truncated", Behaviour::Truncated),
        broken("reset", Behaviour::ResetAfterReading),
        broken("reset while it is sent", Behaviour::ResetBeforeReading),
        broken("closed", unmoved(|_| Vec::new())),
        broken("not HTTP", unmoved(|_| b"yes".to_vec())),
        broken("a chunk without its size", unmoved(|honest| chunked(honest, "zz", "0\r\n\r\n"))),
        broken(
            "two lengths",
            unmoved(|honest| under("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2", honest)),
        ),
        endless("no answer", Behaviour::Hang),
        endless("a byte at a time", Behaviour::Drip(Duration::from_secs(1))),
        endless("a head and nothing else", moved_then(Ending::Silence, |_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec())),
    ]
}

#[tokio::test]
async fn s65_only_a_good_verdict_passes_and_only_a_refusal_of_the_payer_is_the_payers() {
    play(verdicts(), scene).await;
}

#[tokio::test]
async fn s65_s61_a_verify_that_is_no_answer_is_our_trouble_and_costs_nobody_anything() {
    play(exchanges(), scene).await;
}

async fn scene(row: Row) {
    let Row { name, answer, comes, calls, timeout } = row;
    let stage = Stage::set(Plan { verify_timeout: timeout, ..PLAN }).await;
    let facilitator = stage.first();
    facilitator.always("/verify", answer);
    let payment = stage.payment().await;
    let first = stage.pay(&payment).await;
    assert_eq!(facilitator.count("/verify"), calls, "{name}: calls to verify");
    let settles = usize::from(comes == Passes);
    assert_eq!((facilitator.count("/settle"), stage.backend.hits()), (settles, settles), "{name}: settled, forwarded");
    let alarm = comes == LIES;
    assert_eq!(stage.metric("tollhouse_alarms_total"), Some(u64::from(alarm)), "{name}: alarms");
    match comes {
        Passes => {
            assert_served(name, &first);
            return;
        }
        Comes::Unavailable { .. } => assert_unavailable(name, &first),
        Declined(code) => {
            assert_invited(name, &first, code);
            assert_eq!(first.settlement(), None, "{name}: no settlement was tried");
        }
        Spent => {
            assert_eq!(first.status, 409, "{name}: {}", first.text());
            assert!(!first.text().contains("accepts"), "{name}: no offers");
        }
    }
    let entry = stage.entry().await;
    assert_eq!((entry.state.name(), entry.releases), ("released", 0), "{name}");
    facilitator.always("/verify", Behaviour::Honest);
    stage.wait(EMPTY);
    assert_served(name, &stage.pay(&payment).await);
    assert_eq!((stage.settlements(), stage.backend.hits()), (1, 1), "{name}");
}

#[tokio::test]
async fn s61_what_we_send_asks_for_nothing_we_could_not_read() {
    let stage = Stage::set(PLAN).await;
    assert_served("honest", &stage.buy().await);
    for call in stage.first().calls() {
        assert!(!call.headers.contains_key("accept-encoding"), "{}: no compression", call.path);
        assert!(!call.headers.contains_key("expect"), "{}: no interim answers", call.path);
    }
}
