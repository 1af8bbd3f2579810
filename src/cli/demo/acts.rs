//! The four acts of the demo. Each shows what happens, and checks it.

use std::fmt::{Debug, Display};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::World;
use super::api::WEATHER;
use super::script::Script;
use crate::cli::pay::wallet::{Promise, is_play_money};
use crate::cli::words::short;
use crate::payment::Offer;
use crate::primitives::{Clock, SystemClock};
use crate::protocol::x402::client::{Challenge, Settlement, settlement};
use crate::protocol::x402::{PAYMENT_REQUIRED, PAYMENT_RESPONSE};

/// The largest answer of the sample API and the gateway together.
const MOST_BODY: usize = 64 * 1024;
/// How long an edit may take to be noticed; the slow poll of the watcher is the longest.
const NOTICED: Duration = Duration::from_secs(15);
/// How often, and how soon after one another, a payment that is still being served is presented again.
const MOST_LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(50);
const PRICE: &str = "$0.01";
const NEW_PRICE: &str = "$0.02";

/// Something that did not go as it should, in words.
pub(super) struct Mishap(String);

impl Display for Mishap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole answer.
struct Seen {
    status: StatusCode,
    fields: HeaderMap,
    body: Bytes,
}

/// Plays all of it, up to the first mishap.
pub(super) async fn play(world: &mut World, script: &mut Script) -> Result<(), Mishap> {
    let challenge = unpaid(world, script).await?;
    let (promise, receipt) = paid(world, script, &challenge).await?;
    once_more(world, script, &promise, &receipt).await?;
    dearer(world, script).await
}

async fn unpaid(world: &World, script: &mut Script) -> Result<Challenge, Mishap> {
    script.act(1, "Without a payment you hear the price, and the API hears nothing");
    script.typed(&format!("curl -i {}", world.url()));
    let challenge = quoted(world, script, PRICE).await?;
    equal("requests that reached the API", world.api.asked(), 0)?;
    script.held("402 with an offer; requests that reached the API: 0");
    Ok(challenge)
}

async fn paid(world: &World, script: &mut Script, challenge: &Challenge) -> Result<(Promise, Settlement), Mishap> {
    script.act(2, "With a signed payment you get the answer, and a receipt");
    let choice = challenge.choose(is_play_money).ok_or_else(|| Mishap("no offer asks for play money".to_owned()))?;
    let promise = world.wallet.accept(challenge, choice, SystemClock.now()).map_err(Mishap)?;
    script.typed(&format!("curl -i {} -H '{}'", world.url(), brief(&promise.field.0, &promise.field.1)));
    let seen = get(world, Some(&promise)).await?;
    script.came(&format!("HTTP/1.1 {}", seen.status));
    equal("the status", seen.status, StatusCode::OK)?;
    let receipt = receipt(&seen)?;
    script.came(&format!("{}  = {}", shown(&seen, PAYMENT_RESPONSE)?, settled(&receipt)));
    let body = String::from_utf8_lossy(&seen.body).trim().to_owned();
    script.came(&body);
    equal("the body", body.as_str(), WEATHER)?;
    equal("whether money moved", receipt.success, true)?;
    equal("the payer", receipt.payer, Some(promise.payer))?;
    equal("requests that reached the API", world.api.asked(), 1)?;
    script.held("200, the API's own answer, and a receipt in our name; requests that reached the API: 1");
    Ok((promise, receipt))
}

async fn once_more(world: &World, script: &mut Script, promise: &Promise, before: &Settlement) -> Result<(), Mishap> {
    script.act(3, "The same payment again buys nothing, and costs nothing");
    script.typed(&format!("curl -i {} -H '{}'", world.url(), brief(&promise.field.0, &promise.field.1)));
    let mut seen = get(world, Some(promise)).await?;
    for _ in 0..MOST_LOOKS {
        // The end of the first answer may reach us before the gateway has written down that it was delivered.
        if !seen.fields.contains_key(RETRY_AFTER) {
            break;
        }
        sleep(LOOK).await;
        seen = get(world, Some(promise)).await?;
    }
    script.came(&format!("HTTP/1.1 {}", seen.status));
    equal("the status", seen.status, StatusCode::CONFLICT)?;
    let receipt = receipt(&seen)?;
    script.came(&format!("{}  = {}", shown(&seen, PAYMENT_RESPONSE)?, settled(&receipt)));
    equal("the receipt", &receipt, before)?;
    equal("whether it invites to pay", seen.fields.contains_key(PAYMENT_REQUIRED), false)?;
    equal("requests that reached the API", world.api.asked(), 1)?;
    script.held("409 with the receipt of what it bought; requests that reached the API: still 1");
    Ok(())
}

async fn dearer(world: &mut World, script: &mut Script) -> Result<(), Mishap> {
    script.act(4, "A price is one line of the file, and a saved edit is in force");
    script.typed(&format!("sed -i 's/{PRICE}/{NEW_PRICE}/' {}", world.home.file().display()));
    let broken = |error: std::io::Error| Mishap(format!("gateway.yaml cannot be edited: {error}"));
    let text = world.home.read().map_err(broken)?;
    world.home.write(&text.replace(PRICE, NEW_PRICE)).map_err(broken)?;
    let saved = Instant::now();
    let reloaded = timeout(NOTICED, world.serving.change()).await;
    let reloaded = reloaded.map_err(|_| Mishap(format!("the edit was not noticed in {} s", NOTICED.as_secs())))?;
    let reloaded = reloaded.ok_or_else(|| Mishap("the edited file was refused".to_owned()))?;
    let changes: Vec<_> = reloaded.changes.iter().map(ToString::to_string).collect();
    script.came(&format!("{}  (reloaded in {} ms)", changes.join(", "), saved.elapsed().as_millis()));
    equal("what changed", changes.as_slice(), &[format!("~ GET /v1/weather {PRICE} → {NEW_PRICE}")])?;
    script.typed(&format!("curl -i {}", world.url()));
    quoted(world, script, NEW_PRICE).await?;
    script.held("402 with the new price, without a restart");
    Ok(())
}

/// Asks without paying, and expects to hear this price.
async fn quoted(world: &World, script: &mut Script, price: &str) -> Result<Challenge, Mishap> {
    let seen = get(world, None).await?;
    script.came(&format!("HTTP/1.1 {}", seen.status));
    equal("the status", seen.status, StatusCode::PAYMENT_REQUIRED)?;
    let challenge = Challenge::read(&seen.fields, &seen.body).map_err(|error| Mishap(error.to_string()))?;
    let [choice] = &challenge.choices[..] else {
        return Err(Mishap(format!("{} offers came instead of one", challenge.choices.len())));
    };
    let Offer { asset, network, .. } = &choice.offer;
    let quote = quote(&seen).ok_or_else(|| Mishap("the offer carries no quote".to_owned()))?;
    let terms = format!("{} in {} on {}", choice.offer.price(), asset.symbol, network.name);
    let quote = &quote[quote.len().saturating_sub(8)..];
    script.came(&format!("{}  = {terms}, kept by quote …{quote}", shown(&seen, PAYMENT_REQUIRED)?));
    equal("the price", choice.offer.price().as_str(), price)?;
    equal("whether it is play money", is_play_money(&choice.offer), true)?;
    Ok(challenge)
}

async fn get(world: &World, promise: Option<&Promise>) -> Result<Seen, Mishap> {
    let payment = promise.map(|promise| &promise.field);
    let answer = world.client.send(&world.request, payment).await.map_err(|lost| Mishap(lost.into_words()))?;
    let (status, fields) = (answer.status, answer.fields.clone());
    let body = answer.collect(MOST_BODY).await.map_err(|lost| Mishap(lost.into_words()))?;
    Ok(Seen { status, fields, body })
}

/// What keeps the price: `extra.quote` of the first offer.
fn quote(seen: &Seen) -> Option<String> {
    let challenge = STANDARD.decode(seen.fields.get(PAYMENT_REQUIRED)?.as_bytes()).ok()?;
    let challenge: Value = serde_json::from_slice(&challenge).ok()?;
    challenge["accepts"][0]["extra"]["quote"].as_str().filter(|quote| quote.is_ascii()).map(str::to_owned)
}

fn receipt(seen: &Seen) -> Result<Settlement, Mishap> {
    let found = settlement(&seen.fields).map_err(|error| Mishap(error.to_string()))?;
    found.ok_or_else(|| Mishap("no receipt came with it".to_owned()))
}

fn settled(receipt: &Settlement) -> String {
    let transaction = receipt.transaction.map(|hash| hash.to_string()).unwrap_or_default();
    let payer = receipt.payer.map(short).unwrap_or_default();
    format!("settled in {transaction:.10}…, paid by {payer}")
}

fn shown(seen: &Seen, name: HeaderName) -> Result<String, Mishap> {
    let value = seen.fields.get(&name).ok_or_else(|| Mishap(format!("no {name} field came with it")))?;
    Ok(brief(&name, value))
}

/// `PAYMENT-SIGNATURE: eyJ4NDAyVm…`: never all of a payment, whoever looks over the shoulder (I8).
fn brief(name: &HeaderName, value: &HeaderValue) -> String {
    format!("{}: {:.12}…", name.as_str().to_ascii_uppercase(), value.to_str().unwrap_or_default())
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), Mishap> {
    if found == expected { Ok(()) } else { Err(Mishap(format!("{what} should be {expected:?} and is {found:?}"))) }
}
