//! `tollhouse pay`: a paying client. Shows the 402, signs, shows the receipt.
//!
//! As careful with money as a client can be. It signs once, and never above `--max`; while nobody can say whether the
//! money has moved it presents that same payment again, never another one; and when it has to give up it says so with
//! an exit code of its own.

mod arguments;
pub(super) mod exchange;
mod limit;
mod meaning;
mod tell;
pub(super) mod wallet;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::{Shape, Verdict, block_on};
use crate::facilitator::sandbox::MagicPayer;
use crate::payment::Offer;
use crate::primitives::{Clock, SystemClock};
use crate::protocol::x402::client::{Challenge, Choice, Settlement};
use arguments::{field, is_loopback, magic_payer, web_url};
use exchange::{Answer, Client, Lost, Request};
use limit::Limit;
use meaning::Meaning;
use tell::Teller;
use wallet::{LONGEST_PROMISE, Promise, Wallet};

/// How often one payment is presented at most.
const MOST_TRIES: u32 = 60;
/// How soon to try again when nothing was sent.
const RECONNECT: Duration = Duration::from_secs(1);
/// The longest 402, or other answer about a payment, that is read.
const MOST_WORDS: usize = 256 * 1024;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 served · 1 declined, or too dear · 2 wrong usage · 3 unreachable, nothing was paid\n            \
                        4 unknown: the money has moved or may have, and the answer is not here. Do not retry blindly"
)]
pub(super) struct Pay {
    /// What to buy
    #[arg(value_parser = web_url)]
    url: Url,
    /// The most it may cost, in single quotes: '$0.02' or '0.02 USDC'
    #[arg(long, value_name = "PRICE", required_unless_present = "dry_run")]
    max: Option<Limit>,
    /// The key that pays, 32 bytes in hex; without it a throw-away wallet pays, with play money alone
    #[arg(long, value_name = "FILE", conflicts_with = "payer")]
    key_file: Option<PathBuf>,
    /// Pay as one of the sandbox's payers, to see how a purchase goes wrong
    #[arg(long, value_name = "NAME", value_parser = magic_payer())]
    payer: Option<&'static MagicPayer>,
    /// Say what it costs and whether it would be paid; sign nothing
    #[arg(long)]
    dry_run: bool,
    /// The method [default: GET, or POST with --data]
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// A request field: 'Name: value'
    #[arg(short = 'H', long = "header", value_name = "FIELD", value_parser = field)]
    fields: Vec<(HeaderName, HeaderValue)>,
    /// The request body; JSON unless a Content-Type says otherwise
    #[arg(short, long)]
    data: Option<String>,
    /// Speak x402 version 1
    #[arg(long)]
    v1: bool,
    /// How long to go on presenting a payment whose fate is not known
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=3600))]
    wait: u64,
    /// How the outcome is written; `json` is one object on standard output, with the body in it
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
}

/// How a purchase ended.
#[derive(Debug)]
enum Ending {
    /// Nobody asked for money, and the answer is here.
    Free,
    /// Nobody asked for money in a way we understand, and nothing was served.
    NotForSale(StatusCode, String),
    /// Nothing was signed, because that was asked for.
    DryRun,
    /// It was not bought, because we would not; nothing was signed.
    Unwilling(String),
    /// The answer is here. Without a receipt nobody can say whether it was charged.
    Served(Option<Settlement>),
    /// The seller will not take the payment. When `proven`, the seller also says that nothing moved.
    Declined { reason: String, proven: bool },
    /// The seller was not reached, so nothing was paid.
    Unreachable(String),
    /// The money has moved or may have, and the answer is not here.
    Unknown(String),
}

impl Ending {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Free | Self::DryRun | Self::Served(_) => Verdict::Yes,
            Self::NotForSale(status, _) if status.is_server_error() => Verdict::CouldNotFindOut,
            Self::NotForSale(..) | Self::Unwilling(_) | Self::Declined { .. } => Verdict::No,
            Self::Unreachable(_) => Verdict::CouldNotFindOut,
            Self::Unknown(_) => Verdict::Unknown,
        }
    }
}

impl Pay {
    pub(super) fn execute(self) -> Verdict {
        block_on(async {
            let mut teller = Teller::new(self.format);
            let ending = self.buy(&mut teller).await.unwrap_or_else(|ending| ending);
            teller.ends(&ending);
            ending.verdict()
        })
    }

    async fn buy(&self, teller: &mut Teller) -> Result<Ending, Ending> {
        let wallet = self.wallet().map_err(Ending::Unwilling)?;
        let request = self.request();
        let client = Client::new(&self.url).map_err(unreachable)?;

        let asked = Instant::now();
        let answer = client.send(&request, None).await.map_err(unreachable)?;
        if answer.status != StatusCode::PAYMENT_REQUIRED {
            teller.answered(&answer, asked.elapsed());
            return unasked(answer, teller).await;
        }
        let challenge = self.challenge(answer).await?;
        teller.offered(&challenge);
        let Some(limit) = &self.max else { return Ok(Ending::DryRun) };
        let choice = self.choose(&challenge, limit, &wallet)?;
        if self.dry_run {
            return Ok(Ending::DryRun);
        }
        let now = SystemClock.now();
        let promise = wallet.accept(&challenge, choice, now).map_err(Ending::Unwilling)?;
        teller.signed(&promise, &wallet, now);
        Ok(self.present(&client, &request, &promise, teller).await)
    }

    fn wallet(&self) -> Result<Wallet, String> {
        match (&self.key_file, self.payer) {
            (Some(path), _) => Wallet::from_file(path),
            (None, Some(payer)) => Wallet::magic(payer),
            (None, None) => Ok(Wallet::throw_away()),
        }
    }

    fn request(&self) -> Request {
        let mut fields: HeaderMap = HeaderMap::new();
        for (name, value) in &self.fields {
            fields.append(name, value.clone());
        }
        if self.data.is_some() && !fields.contains_key(CONTENT_TYPE) {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let usual = if self.data.is_some() { Method::POST } else { Method::GET };
        Request {
            method: self.method.clone().unwrap_or(usual),
            url: self.url.clone(),
            fields,
            body: self.data.clone().map(Bytes::from).unwrap_or_default(),
        }
    }

    async fn challenge(&self, answer: Answer) -> Result<Challenge, Ending> {
        let fields = answer.fields.clone();
        let body = answer.collect(MOST_WORDS).await.map_err(unreachable)?;
        // One 402 speaks both dialects; without its header field the body is what remains.
        let fields = if self.v1 { HeaderMap::new() } else { fields };
        Challenge::read(&fields, &body).map_err(|error| Ending::Unwilling(format!("402, and {error}")))
    }

    /// The offer to accept: the first, in the seller's order, that nothing speaks against.
    fn choose<'c>(&self, challenge: &'c Challenge, limit: &Limit, wallet: &Wallet) -> Result<&'c Choice, Ending> {
        let acceptable = |offer: &Offer| self.acceptable(offer, limit, wallet);
        if let Some(choice) = challenge.choose(|offer| acceptable(offer).is_ok()) {
            return Ok(choice);
        }
        let objections: Vec<_> =
            challenge.choices.iter().filter_map(|choice| acceptable(&choice.offer).err()).collect();
        Err(Ending::Unwilling(match objections.is_empty() {
            true => "none of the offers is one we can sign: `exact`, by EIP-3009, on an EVM chain".to_owned(),
            false => objections.join("; "),
        }))
    }

    fn acceptable(&self, offer: &Offer, limit: &Limit, wallet: &Wallet) -> Result<(), String> {
        limit.admits(offer)?;
        if offer.max_timeout > LONGEST_PROMISE {
            return Err(format!("an authorization good for {} s is too long to be out", offer.max_timeout.as_secs()));
        }
        // Whoever is between could put an account of their own into the 402.
        if offer.network.live && self.url.scheme() == "http" && !is_loopback(&self.url) {
            return Err("real money is not paid over plain http".to_owned());
        }
        wallet.may_pay(offer)
    }

    /// Presents one payment until its fate is known, or patience ends.
    async fn present(&self, client: &Client, request: &Request, promise: &Promise, teller: &mut Teller) -> Ending {
        let deadline = Instant::now() + Duration::from_secs(self.wait);
        let mut so_far = Ending::Unreachable("the payment could not be sent".to_owned());
        for _ in 0..MOST_TRIES {
            let after = match once(client, request, promise, teller).await {
                // An earlier try may have been charged, and this refusal does not say that it was not.
                Turn::Ended(Ending::Declined { reason, proven: false }) if matches!(so_far, Ending::Unknown(_)) => {
                    return Ending::Unknown(reason);
                }
                Turn::Ended(ending) => return ending,
                Turn::NotSent(reason) => {
                    if let Ending::Unreachable(_) = so_far {
                        so_far = Ending::Unreachable(reason);
                    }
                    RECONNECT
                }
                Turn::Again { after, reason } => {
                    so_far = Ending::Unknown(reason);
                    after
                }
            };
            if after > deadline.saturating_duration_since(Instant::now()) {
                break;
            }
            teller.waits(&so_far, after);
            tokio::time::sleep(after).await;
        }
        so_far
    }
}

/// How presenting a payment once ended.
enum Turn {
    /// There is no point in presenting it again.
    Ended(Ending),
    /// It has not left this machine.
    NotSent(String),
    /// The same payment may be presented again, not sooner than this.
    Again { after: Duration, reason: String },
}

/// Presents a payment once.
async fn once(client: &Client, request: &Request, promise: &Promise, teller: &mut Teller) -> Turn {
    let sent = Instant::now();
    let answer = match client.send(request, Some(&promise.field)).await {
        Ok(answer) => answer,
        Err(Lost::NotSent(reason)) => return Turn::NotSent(reason),
        // One payment is charged once, but a request may be acted on twice: only one that changes nothing is sent
        // again unasked.
        Err(Lost::NoAnswer(reason)) if request.is_safe() => return Turn::Again { after: RECONNECT, reason },
        Err(Lost::NoAnswer(reason)) => return Turn::Ended(Ending::Unknown(reason)),
    };
    teller.answered(&answer, sent.elapsed());
    // What is charged for: a redirect or a 304 is an answer too.
    if answer.status.as_u16() < 400 {
        let receipt = meaning::receipt(&answer.fields, promise);
        teller.paid(receipt.as_ref(), &promise.offer);
        return Turn::Ended(match teller.serve(answer).await {
            Ok(()) => Ending::Served(receipt),
            Err(lost) => Ending::Unknown(format!("the answer broke off: {}", lost.into_words())),
        });
    }
    let (status, fields) = (answer.status, answer.fields.clone());
    if let Some(hash) = meaning::receipt(&fields, promise).and_then(|receipt| receipt.transaction) {
        teller.charge(hash);
    }
    // Its status and fields count even when its body does not arrive.
    let body = answer.collect(MOST_WORDS).await.unwrap_or_default();
    match meaning::of(status, &fields, &body) {
        Meaning::Declined { reason, proven } => Turn::Ended(Ending::Declined { reason, proven }),
        Meaning::Again { after, reason } => Turn::Again { after, reason },
        Meaning::Unclear(reason) => Turn::Ended(Ending::Unknown(reason)),
    }
}

/// An answer to the request that carried no payment, and was not asked for one.
async fn unasked(answer: Answer, teller: &mut Teller) -> Result<Ending, Ending> {
    let status = answer.status;
    let reason = meaning::reason(status, &answer.fields, &[]);
    let served = teller.serve(answer).await;
    served.map_err(|lost| Ending::Unreachable(format!("the answer broke off: {}", lost.into_words())))?;
    Ok(if status.is_success() { Ending::Free } else { Ending::NotForSale(status, reason) })
}

fn unreachable(lost: Lost) -> Ending {
    Ending::Unreachable(lost.into_words())
}
