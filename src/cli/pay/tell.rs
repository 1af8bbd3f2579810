//! The transcript of a purchase: lines for people on standard error as it goes on, or one JSON object at its end.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::Ending;
use super::exchange::{Answer, Lost};
use super::wallet::{Promise, Wallet, is_play_money};
use crate::cli::Shape;
use crate::cli::words::{moment, printable, short};
use crate::payment::{Offer, PaymentKey, TransactionHash};
use crate::primitives::Timestamp;
use crate::protocol::x402::client::{Challenge, Settlement};

/// The largest body that is put into JSON; a larger one is cut there.
const MOST_BODY: usize = 16 * 1024 * 1024;

/// Tells what happens.
pub(super) struct Teller {
    shape: Shape,
    /// What the JSON object will hold.
    record: Map<String, Value>,
    tries: u32,
    /// The payment that is out, and when nobody can submit it any more.
    out: Option<(PaymentKey, Timestamp)>,
    /// The transaction that has charged it, by the seller's word.
    charged: Option<TransactionHash>,
}

impl Teller {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, record: Map::new(), tries: 0, out: None, charged: None }
    }

    /// What the seller asks.
    pub(super) fn offered(&mut self, challenge: &Challenge) {
        if let Some(resource) = challenge.resource.as_ref().filter(|resource| !resource.description.is_empty()) {
            self.line("for", &printable(&resource.description, 100));
        }
        let offers: Vec<_> = challenge.choices.iter().map(|choice| &choice.offer).collect();
        for (at, offer) in offers.iter().enumerate() {
            self.line(if at == 0 { "402" } else { "or" }, &terms(offer));
        }
        self.record.insert("status".into(), json!(StatusCode::PAYMENT_REQUIRED.as_u16()));
        self.record.insert("x402Version".into(), json!(challenge.dialect.version()));
        self.record.insert("offers".into(), offers.iter().map(|offer| json_of(offer)).collect());
    }

    /// What was signed.
    pub(super) fn signed(&mut self, promise: &Promise, wallet: &Wallet, now: Timestamp) {
        let Promise { offer, payer, lapses, key, .. } = promise;
        let seconds = lapses.since(now).as_secs();
        self.line(
            "sign",
            &format!("{} from {}, {}; good for {seconds} s", offer.price(), short(*payer), wallet.describe()),
        );
        self.out = Some((*key, *lapses));
        self.record.insert("payment".into(), json!(key.to_string()));
        self.record.insert("paying".into(), json_of(offer));
        self.record.insert("payer".into(), json!(payer));
        self.record.insert("lapses".into(), json!(lapses.as_secs()));
    }

    /// The head of an answer.
    pub(super) fn answered(&mut self, answer: &Answer, took: Duration) {
        let kind = answer.fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (status, kind, took) = (answer.status.as_u16(), printable(kind, 100), took.as_millis());
        self.line(&status.to_string(), format!("{kind}  in {took} ms").trim_start());
        self.tries += 1;
        self.record.insert("status".into(), json!(status));
        self.record.insert("contentType".into(), json!(kind));
        self.record.insert("milliseconds".into(), json!(u64::try_from(took).unwrap_or(u64::MAX)));
    }

    /// The receipt of a served answer.
    pub(super) fn paid(&mut self, receipt: Option<&Settlement>, offer: &Offer) {
        let Some(hash) = receipt.and_then(|receipt| receipt.transaction) else { return };
        let place = match &offer.network.explorer {
            _ if is_play_money(offer) => "play money: on no chain".to_owned(),
            Some(explorer) => explorer.replace("{tx}", &hash.to_string()),
            None => offer.network.name.clone(),
        };
        self.line("tx", &format!("{hash}  {place}"));
        self.charge(hash);
    }

    /// The seller says that the payment was charged, whatever it answers.
    pub(super) fn charge(&mut self, transaction: TransactionHash) {
        self.charged = Some(transaction);
        self.record.insert("transaction".into(), json!(transaction));
    }

    /// The same payment will be presented again.
    pub(super) fn waits(&mut self, so_far: &Ending, after: Duration) {
        let (Ending::Unreachable(reason) | Ending::Unknown(reason)) = so_far else { return };
        self.line("wait", &format!("{reason}; the same payment again in {:.1} s", after.as_secs_f64()));
    }

    /// Hands the body over as it comes.
    pub(super) async fn serve(&mut self, mut answer: Answer) -> Result<(), Lost> {
        if self.shape == Shape::Json {
            let body = answer.collect(MOST_BODY).await?;
            let cut = body.len() >= MOST_BODY;
            let (name, text) = match String::from_utf8(body.into()) {
                Ok(text) => ("body", text),
                Err(bytes) => ("bodyBase64", STANDARD.encode(bytes.as_bytes())),
            };
            self.record.insert(name.into(), text.into());
            self.record.insert("bodyCut".into(), cut.into());
            return Ok(());
        }
        let mut out = std::io::stdout();
        let mut last = b'\n';
        while let Some(piece) = answer.piece().await? {
            last = piece.last().copied().unwrap_or(last);
            // A reader that has seen enough and hung up has still been served.
            let _ = out.write_all(&piece);
        }
        if last != b'\n' && out.is_terminal() {
            let _ = out.write_all(b"\n");
        }
        let _ = out.flush();
        Ok(())
    }

    /// The last word.
    pub(super) fn ends(mut self, ending: &Ending) {
        let (outcome, reason) = self.sum_up(ending);
        if let Some((word, reason)) = &reason {
            self.line(word, reason);
        }
        if self.shape == Shape::Json {
            self.record.insert("outcome".into(), outcome.into());
            self.record.insert("reason".into(), reason.map(|(_, reason)| reason).into());
            self.record.insert("tries".into(), self.tries.into());
            let _ = writeln!(std::io::stdout().lock(), "{}", Value::Object(self.record));
        }
    }

    /// How it ended in one word, and what else there is to say.
    fn sum_up(&self, ending: &Ending) -> (&'static str, Option<(&'static str, String)>) {
        match ending {
            Ending::Free => ("free", Some(("free", "no payment was asked for".to_owned()))),
            Ending::NotForSale(_, reason) => {
                ("not_for_sale", Some(("no", format!("no payment was asked for: {reason}"))))
            }
            Ending::DryRun => ("dry_run", Some(("dry", "nothing was signed".to_owned()))),
            Ending::Unwilling(reason) => ("unwilling", Some(("no", format!("{reason}; nothing was signed")))),
            Ending::Served(Some(_)) => ("paid", None),
            Ending::Served(None) => (
                "served",
                Some(("note", "no receipt that fits came with it: whether it was charged is not known".to_owned())),
            ),
            Ending::Declined { reason, .. } => ("declined", Some(("no", format!("declined: {reason}")))),
            Ending::Unreachable(reason) => ("unreachable", Some(("lost", format!("{reason}; nothing was paid")))),
            Ending::Unknown(reason) => {
                let known = self.out.map(|(key, lapses)| match self.charged {
                    Some(hash) => format!(" It is {key}, and was charged in {hash}."),
                    None => format!(" It is {key}, and can be charged until {}.", moment(lapses)),
                });
                let warning = "do not pay again before you know what became of this payment.";
                ("unknown", Some(("????", format!("{reason}; {warning}{}", known.unwrap_or_default()))))
            }
        }
    }

    fn line(&self, word: &str, rest: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{word:<4} {rest}");
    }
}

/// `$0.01 in USDC on base-sepolia to 0xD6f9…Ec2C  SANDBOX: play money`
fn terms(offer: &Offer) -> String {
    let Offer { asset, network, pay_to, .. } = offer;
    let token = if asset.peg.is_some() { format!(" in {}", asset.symbol) } else { String::new() };
    let money = match (is_play_money(offer), network.live) {
        (true, _) => "SANDBOX: play money",
        (false, true) => "LIVE: real money",
        (false, false) => "test money",
    };
    format!("{}{token} on {} to {}  {money}", offer.price(), network.name, short(pay_to.0))
}

fn json_of(offer: &Offer) -> Value {
    json!({
        "price": offer.price(),
        "amount": offer.amount,
        "asset": offer.asset.address,
        "network": offer.network.id,
        "payTo": offer.pay_to,
        "settle": offer.settle,
        "sandbox": is_play_money(offer),
        "live": offer.network.live,
    })
}
