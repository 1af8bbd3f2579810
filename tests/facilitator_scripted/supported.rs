//! Every answer to `/supported`, and what the gateway offers after it: only what can be settled now.

use std::sync::Arc;

use serde_json::{Value, json};
use tollhouse::testing::ScriptedFacilitator;
use tollhouse::testing::facilitator::{Behaviour, Ending};

use crate::answers::*;
use crate::stage::*;

/// What is offered after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offers {
    /// The price, and a v2 payment is verified and settled in this version.
    SettledAs(u8),
    /// Nothing: 503 and when to come back, with a payment or without.
    Nothing,
}

use Offers::{Nothing, SettledAs};

type Row = (&'static str, Behaviour, Offers);

/// Answers that are understood.
fn understood() -> Vec<Row> {
    let kinds = |kinds: Value| Behaviour::Answer(json!({ "kinds": kinds }));
    let kind = |version: u64, scheme: &str, network: &str| json!({ "x402Version": version, "scheme": scheme, "network": network });
    let (v1, v2) = (kind(1, "exact", "base-sepolia"), kind(2, "exact", "eip155:84532"));
    vec![
        ("both versions", kinds(json!([v1, v2])), SettledAs(2)),
        ("v2 alone", kinds(json!([v2])), SettledAs(2)),
        ("v1 alone", kinds(json!([v1])), SettledAs(1)),
        ("every EVM network", kinds(json!([kind(2, "exact", "eip155:*")])), SettledAs(2)),
        ("beside others it cannot read", kinds(json!([7, null, {"x402Version": "two"}, v2])), SettledAs(2)),
        ("no kinds", kinds(json!([])), Nothing),
        ("another network", kinds(json!([kind(2, "exact", "eip155:8453")])), Nothing),
        ("another scheme", kinds(json!([kind(2, "upto", "eip155:84532")])), Nothing),
        ("another version", kinds(json!([kind(3, "exact", "eip155:84532")])), Nothing),
        ("v2 under the name of v1", kinds(json!([kind(2, "exact", "base-sepolia")])), Nothing),
        ("v1 under the name of v2", kinds(json!([kind(1, "exact", "eip155:84532")])), Nothing),
    ]
}

/// Answers that are none: they are asked for again, and what was known stands; here nothing was, and v2 is assumed.
fn not_understood() -> Vec<Row> {
    let rows: Vec<(&'static str, Behaviour)> = vec![
        ("a web page", Behaviour::Status(200, "text/html", "<html></html>".into())),
        ("nothing", Behaviour::Status(204, JSON, String::new())),
        ("an empty object", Behaviour::Answer(json!({}))),
        ("a list", Behaviour::Answer(json!([]))),
        ("kinds that are no list", Behaviour::Answer(json!({ "kinds": "all" }))),
        ("kinds twice", unmoved(|_| ok(r#"{"kinds":[],"kinds":[]}"#))),
        ("no kinds with 500", unmoved(|_| reply("500 Oops", JSON, r#"{"kinds":[]}"#))),
        ("no kinds with 404", unmoved(|_| reply("404 Not Found", JSON, r#"{"kinds":[]}"#))),
        ("no kinds elsewhere", Behaviour::Redirect("/empty".into())),
        ("more than 64 KiB", unmoved(|_| padded(&json!({ "kinds": [] }), 64 * 1024 + 1))),
        (
            "ten thousand deep",
            unmoved(|_| ok(format!(r#"{{"kinds":[{}{}]}}"#, "[".repeat(10_000), "]".repeat(10_000)))),
        ),
        ("truncated", Behaviour::Truncated),
        ("reset", Behaviour::ResetAfterReading),
        ("half, then reset", moved_then(Ending::Reset, |_| b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec())),
    ];
    rows.into_iter().map(|(name, behaviour)| (name, behaviour, SettledAs(2))).collect()
}

#[tokio::test]
async fn s65_what_nobody_can_settle_is_not_offered() {
    play(understood(), |row| scene(row, 1)).await;
}

#[tokio::test]
async fn s14_an_answer_that_is_none_takes_nothing_off_the_market() {
    // Asked for the second time, the first answer has been judged.
    play(not_understood(), |row| scene(row, 2)).await;
}

async fn scene((name, behaviour, offers): Row, asked: usize) {
    let facilitator = ScriptedFacilitator::start().await;
    facilitator.always("/supported", behaviour);
    let stage = Arc::new(Stage::with(PLAN, vec![facilitator]).await);
    eventually(&format!("{name}: it is asked what it supports"), || stage.first().count("/supported") >= asked).await;
    match offers {
        Nothing => {
            eventually_async(&format!("{name}: nothing is offered"), async || {
                stage.get("/weather").await.status != 402
            })
            .await;
            assert_unavailable(name, &stage.get("/weather").await);
            assert_eq!(stage.get("/free").await.status, 200, "{name}: what is free is free");
            assert_eq!(stage.first().count("/verify"), 0, "{name}");
        }
        SettledAs(version) => {
            // What it said may still be on its way in: until then v2 is assumed.
            eventually_async(&format!("{name}: it is spoken to in its own words"), async || {
                assert_served(name, &stage.buy().await);
                spoken(stage.first(), "/verify") == version && spoken(stage.first(), "/settle") == version
            })
            .await;
        }
    }
}

/// The version of the latest call to this path.
fn spoken(facilitator: &ScriptedFacilitator, path: &str) -> u8 {
    let calls = facilitator.calls();
    let call = calls.iter().rfind(|call| call.path == path).expect("it was called");
    let version = call.body["x402Version"].as_u64().expect("calls name their version");
    u8::try_from(version).expect("a small number")
}
