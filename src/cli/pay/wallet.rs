//! Who pays.

use std::path::Path;
use std::time::Duration;

use alloy::signers::local::PrivateKeySigner;
use http::{HeaderName, HeaderValue};

use crate::config;
use crate::facilitator::sandbox::{MagicPayer, PAYEE};
use crate::payment::{Authorization, Dialect, Offer, PaymentKey};
use crate::primitives::{Address, Timestamp, TransferMethod};
use crate::protocol::x402::client::{Challenge, Choice};
use crate::scheme::exact::{eip3009, permit2};

/// The longest an authorization of ours stays good. Until then whoever holds it can submit it.
pub(in crate::cli) const LONGEST_PROMISE: Duration = Duration::from_secs(24 * 60 * 60);
/// v1 clients backdate the beginning this far, for sellers whose clocks run behind; v2 clients leave it open (protocol
/// digest, section 0).
const BACKDATED: u64 = 600;

/// A key, and what it may sign.
pub(in crate::cli) struct Wallet {
    signer: PrivateKeySigner,
    origin: Origin,
}

enum Origin {
    /// Made for this run and gone with it.
    ThrowAway,
    /// Published by the sandbox, so anybody can sign with it.
    Magic(&'static str),
    /// Somebody's own.
    File,
}

/// A signed payment: good for one purchase, however often it is presented.
pub(in crate::cli) struct Promise {
    /// The request field that pays. Marked as sensitive: whoever reads it can spend it (I8).
    pub(in crate::cli) field: (HeaderName, HeaderValue),
    /// What a gateway of ours remembers it by.
    pub(super) key: PaymentKey,
    /// The terms that were accepted.
    pub(in crate::cli) offer: Offer,
    /// Whose money it is.
    pub(in crate::cli) payer: Address,
    /// From then on nobody can submit it.
    pub(in crate::cli) lapses: Timestamp,
}

impl Wallet {
    /// A wallet that nobody has seen before and nobody will see again. It holds nothing but play money.
    pub(in crate::cli) fn throw_away() -> Self {
        Self { signer: PrivateKeySigner::random(), origin: Origin::ThrowAway }
    }

    /// A payer of the sandbox with a published key.
    pub(super) fn magic(payer: &MagicPayer) -> Result<Self, String> {
        let signer = PrivateKeySigner::from_bytes(&payer.key).map_err(|error| error.to_string())?;
        Ok(Self { signer, origin: Origin::Magic(payer.name) })
    }

    /// The wallet of the key in a file.
    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let key = config::key_file(path)?;
        let signer = PrivateKeySigner::from_slice(key.expose()).map_err(|error| error.to_string())?;
        Ok(Self { signer, origin: Origin::File })
    }

    /// What it is, for the transcript.
    pub(super) fn describe(&self) -> String {
        match self.origin {
            Origin::ThrowAway => "a throw-away wallet of play money".to_owned(),
            Origin::Magic(name) => format!("the sandbox's payer `{name}`"),
            Origin::File => "your key".to_owned(),
        }
    }

    /// Whether it may pay with what an offer asks for: only a key of one's own pays with more than play money.
    pub(super) fn may_pay(&self, offer: &Offer) -> Result<(), String> {
        match self.origin {
            Origin::File => Ok(()),
            Origin::ThrowAway | Origin::Magic(_) if is_play_money(offer) => Ok(()),
            Origin::ThrowAway | Origin::Magic(_) => Err(format!(
                "{} is not play money, and {} holds nothing else; name a funded key with --key-file",
                offer.price(),
                self.describe()
            )),
        }
    }

    /// Signs the acceptance of an offer, in the dialect it was made in.
    pub(in crate::cli) fn accept(
        &self,
        challenge: &Challenge,
        choice: &Choice,
        now: Timestamp,
    ) -> Result<Promise, String> {
        let offer = &choice.offer;
        let lapses = now.after(offer.max_timeout.min(LONGEST_PROMISE));
        let valid_after = match challenge.dialect {
            Dialect::V1 => now.as_secs().saturating_sub(BACKDATED),
            Dialect::V2 => 0,
        };
        let signed = self.sign(offer, valid_after, lapses)?;
        let field = challenge.payment(choice, &signed);
        let key = PaymentKey::of(&offer.network.id, offer.asset.address, &signed);
        Ok(Promise { field, key, offer: offer.clone(), payer: self.signer.address(), lapses })
    }

    /// Signs whatever the offer's token takes.
    fn sign(&self, offer: &Offer, valid_after: u64, lapses: Timestamp) -> Result<Authorization, String> {
        const NO_NONCE: &str = "this machine has no randomness to give";
        let until = lapses.as_secs();
        let signed = match offer.asset.method {
            TransferMethod::Eip3009 => {
                let nonce = eip3009::random_nonce().ok_or(NO_NONCE)?;
                eip3009::sign(&self.signer, offer, valid_after, until, nonce).map(Authorization::Eip3009)
            }
            TransferMethod::Permit2 => {
                let nonce = permit2::random_nonce().ok_or(NO_NONCE)?;
                // Permit2 takes the second of the deadline, too.
                let deadline = until.saturating_sub(1);
                let signed = permit2::sign(&self.signer, offer, valid_after, deadline, nonce);
                signed.map(|signed| Authorization::Permit2(Box::new(signed)))
            }
        };
        signed.map_err(|error| format!("the offer cannot be signed: {error}"))
    }
}

/// Whether an offer asks for play money. Its own word is not enough: a signature over a live network's terms moves real
/// money, whatever the seller calls it. What goes to the sandbox's payee goes to nobody.
pub(in crate::cli) fn is_play_money(offer: &Offer) -> bool {
    offer.sandbox && !offer.network.live && offer.pay_to == PAYEE
}
