//! A price that keeps: the terms of an offer under a MAC (SAFETY, "Quote").
//!
//! A v2 client echoes the offer it accepts, quote and all, so whoever holds the key can honour a price that has
//! been replaced since, in another process too. Its random bits never go to a facilitator or a chain; they are
//! what later proves that whoever asks for a redelivery is the one who paid (S75).

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::Offer;
use crate::primitives::Timestamp;

const ID_BYTES: usize = 4;
const RANDOM_BYTES: usize = 16;
const MAC_BYTES: usize = 16;
const EXPIRY_BYTES: usize = 8;
const QUOTE_BYTES: usize = ID_BYTES + EXPIRY_BYTES + RANDOM_BYTES + MAC_BYTES;

/// The key that quotes are made under. It lives in the ledger, so every replica honours every other's quotes.
pub struct QuoteKey {
    id: [u8; ID_BYTES],
    key: hmac::Key,
    random: SystemRandom,
}

impl std::fmt::Debug for QuoteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QuoteKey({})", alloy::primitives::hex::encode(self.id))
    }
}

/// A quote that its MAC vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Until when its price is honoured.
    pub expires: Timestamp,
    /// What the ledger remembers it by.
    pub digest: QuoteDigest,
}

/// A digest of a quote: it identifies the buyer without letting a reader of the ledger impersonate them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuoteDigest(pub alloy::primitives::B256);

impl QuoteKey {
    /// The key with these 32 secret bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&hmac::sign(&key, b"tollhouse quote key id").as_ref()[..ID_BYTES]);
        Self { id, key, random: SystemRandom::new() }
    }

    /// Quotes an offer of a route: good for `ttl` from `now`. `None` when the system has no randomness to give.
    pub fn issue(&self, route: &str, offer: &Offer, now: Timestamp, ttl: Duration) -> Option<String> {
        let mut bytes = [0; QUOTE_BYTES];
        bytes[..ID_BYTES].copy_from_slice(&self.id);
        bytes[ID_BYTES..][..EXPIRY_BYTES].copy_from_slice(&now.after(ttl).as_millis().to_be_bytes());
        self.random.fill(&mut bytes[ID_BYTES + EXPIRY_BYTES..][..RANDOM_BYTES]).ok()?;
        let mac = self.mac(route, offer, &bytes[..QUOTE_BYTES - MAC_BYTES]);
        bytes[QUOTE_BYTES - MAC_BYTES..].copy_from_slice(&mac.as_ref()[..MAC_BYTES]);
        Some(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a quote back, if it was made under this key for exactly these terms. Says nothing about its age.
    pub fn check(&self, text: &str, route: &str, offer: &Offer) -> Option<Quote> {
        if text.len() > 2 * QUOTE_BYTES {
            return None;
        }
        let bytes: [u8; QUOTE_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (body, claimed) = bytes.split_at(QUOTE_BYTES - MAC_BYTES);
        if body[..ID_BYTES] != self.id {
            return None;
        }
        let mac = self.mac(route, offer, body);
        // The MAC decides what is charged and who may collect, so it is compared in constant time (S69).
        if !constant_time_eq(&mac.as_ref()[..MAC_BYTES], claimed) {
            return None;
        }
        let expires = u64::from_be_bytes(body[ID_BYTES..][..EXPIRY_BYTES].try_into().ok()?);
        Some(Quote {
            expires: Timestamp::from_millis(expires),
            digest: QuoteDigest(alloy::primitives::keccak256(bytes)),
        })
    }

    fn mac(&self, route: &str, offer: &Offer, head: &[u8]) -> hmac::Tag {
        let mut stated = Vec::with_capacity(320);
        stated.extend_from_slice(b"tollhouse quote v1");
        stated.extend_from_slice(head);
        // Each part is preceded by its length: no two sets of terms share one encoding.
        let settle = offer.settle.as_str();
        let amount = offer.amount.units().to_be_bytes::<32>();
        let parts: [&[u8]; 7] = [
            route.as_bytes(),
            offer.scheme.as_str().as_bytes(),
            offer.network.id.as_str().as_bytes(),
            offer.asset.address.as_slice(),
            offer.pay_to.0.as_slice(),
            &amount,
            settle.as_bytes(),
        ];
        for part in parts {
            stated.extend_from_slice(&(part.len() as u64).to_be_bytes());
            stated.extend_from_slice(part);
        }
        hmac::sign(&self.key, &stated)
    }
}

fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::primitives::{Address, U256};

    use super::*;
    use crate::payment::{SchemeName, SettleMode};
    use crate::primitives::{AtomicAmount, Payee, preset};

    const ROUTE: &str = "GET /v1/weather";
    const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
    const TTL: Duration = Duration::from_secs(60);

    fn key() -> QuoteKey {
        QuoteKey::new(&[7; 32])
    }

    fn offer() -> Offer {
        let base = preset("base").expect("a preset");
        Offer {
            scheme: SchemeName::Exact,
            network: Arc::new(base.network()),
            asset: Arc::new(base.assets[0].asset()),
            amount: AtomicAmount::new(U256::from(10_000)),
            pay_to: Payee(Address::repeat_byte(0x70)),
            max_timeout: Duration::from_secs(300),
            settle: SettleMode::OnResponse,
            sandbox: false,
        }
    }

    fn issued() -> String {
        key().issue(ROUTE, &offer(), NOW, TTL).expect("a test machine has randomness")
    }

    #[test]
    fn s37_a_quote_is_honoured_until_it_expires_and_by_every_holder_of_the_key() {
        let quote = key().check(&issued(), ROUTE, &offer()).expect("it was issued for these terms");
        assert_eq!(quote.expires, NOW.after(TTL));
    }

    #[test]
    fn s37_a_quote_vouches_for_every_term_of_its_offer() {
        let celo = preset("celo").expect("a preset");
        let edits: [fn(&mut Offer); 4] = [
            |offer| offer.amount = AtomicAmount::new(U256::from(9_999)),
            |offer| offer.pay_to = Payee(Address::repeat_byte(0x71)),
            |offer| offer.settle = SettleMode::BeforeForward,
            |offer| offer.network = Arc::new(preset("polygon").expect("a preset").network()),
        ];
        let edited = edits.map(|edit| {
            let mut offer = offer();
            edit(&mut offer);
            offer
        });
        let other_token = Offer { asset: Arc::new(celo.assets[0].asset()), ..offer() };
        for offer in edited.iter().chain([&other_token]) {
            assert_eq!(key().check(&issued(), ROUTE, offer), None, "{offer:?}");
        }
    }

    #[test]
    fn s37_the_timeout_is_no_part_of_the_price() {
        let longer = Offer { max_timeout: Duration::from_secs(600), ..offer() };
        assert!(key().check(&issued(), ROUTE, &longer).is_some(), "a reload may change it");
    }

    #[test]
    fn s6_a_quote_is_good_for_its_route_alone() {
        assert_eq!(key().check(&issued(), "GET /v1/weather/", &offer()), None);
        assert_eq!(key().check(&issued(), "", &offer()), None);
    }

    #[test]
    fn a_quote_of_another_key_is_nothing() {
        assert_eq!(QuoteKey::new(&[8; 32]).check(&issued(), ROUTE, &offer()), None);
    }

    #[test]
    fn s69_no_bit_of_a_quote_can_be_changed() {
        let bytes = URL_SAFE_NO_PAD.decode(issued()).expect("base64url");
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = URL_SAFE_NO_PAD.encode(forged);
            assert_eq!(key().check(&forged, ROUTE, &offer()), None, "bit {bit}");
        }
    }

    #[test]
    fn a_text_that_is_no_quote_is_refused_whatever_its_length() {
        let quote = issued();
        let shorter = &quote[..quote.len() - 1];
        let texts = [String::new(), shorter.to_owned(), format!("{quote}A"), format!("{quote}="), "A".repeat(100_000)];
        for text in texts {
            assert_eq!(key().check(&text, ROUTE, &offer()), None);
        }
    }

    #[test]
    fn s75_no_two_quotes_are_alike() {
        let digest = |quote: &str| key().check(quote, ROUTE, &offer()).expect("it was issued").digest;
        let (one, other) = (issued(), issued());
        assert_ne!(digest(&one), digest(&other), "two buyers of one route at one moment differ");
        assert_eq!(digest(&one), digest(&one));
    }

    #[test]
    fn a_quote_fits_a_header_and_a_key_does_not_print() {
        assert!(
            issued().len() <= 64 && issued().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert!(!format!("{:?}", key()).contains("07070707"));
    }
}
