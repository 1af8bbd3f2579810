//! Challenges as they were written last, for whoever asks the same next.
//!
//! A challenge says the same to everybody but for its quotes, and writing it is most of what a 402 takes. Each thread
//! keeps a few, found by what is sold and used only if error, resource and offers are equal: a price that has changed is
//! another offer, so nothing has to be thrown away when one does.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::{v1, v2};
use crate::payment::{Offer, Resource};
use crate::protocol::Quoted;

/// How many challenges a thread keeps; a few kilobytes each (I7).
const KEPT: usize = 64;
/// What is described at greater length is written anew each time, in bytes.
const LONGEST: usize = 1024;
/// Before a quote, in the JSON of v2. A string holds no quotation mark that is not escaped, so this is a key.
const QUOTE: &[u8] = b"\"quote\":\"";

/// A challenge in both dialects, without the quotes of v2.
struct Draft {
    error: String,
    resource: Resource,
    offers: Vec<Offer>,
    /// One more than there are quotes between them.
    v2: Vec<Vec<u8>>,
    v1: Bytes,
}

/// Drafts by the hash of what is sold, one for each place.
struct Drafts {
    hasher: RandomState,
    places: Vec<Option<Draft>>,
}

thread_local! {
    static DRAFTS: RefCell<Drafts> = RefCell::new(Drafts::none());
}

/// The challenge in both dialects: the JSON of v2, and that of v1.
pub(super) fn challenge(error: &str, resource: &Resource, offers: &[Quoted<'_>]) -> (Vec<u8>, Bytes) {
    DRAFTS.with_borrow_mut(|drafts| drafts.challenge(error, resource, offers))
}

impl Drafts {
    fn none() -> Self {
        Self { hasher: RandomState::new(), places: std::iter::repeat_with(|| None).take(KEPT).collect() }
    }

    fn challenge(&mut self, error: &str, resource: &Resource, offers: &[Quoted<'_>]) -> (Vec<u8>, Bytes) {
        // The places are a power of two, and the lowest bits say which.
        let at = usize::try_from(self.hasher.hash_one(&resource.url) % KEPT as u64).unwrap_or_default();
        let place = &mut self.places[at];
        if let Some(draft) = place.as_ref().filter(|draft| draft.fits(error, resource, offers)) {
            return (draft.with(offers), draft.v1.clone());
        }
        let v2 = v2::challenge(error, resource, offers);
        let v1 = Bytes::from(v1::challenge(error, resource, offers));
        let short = resource.url.len() + resource.description.len() + resource.mime_type.len() <= LONGEST;
        if short && let Some(pieces) = between_quotes(&v2, offers) {
            let offers = offers.iter().map(|quoted| quoted.offer.clone()).collect();
            let (error, resource, v1) = (error.to_owned(), resource.clone(), v1.clone());
            *place = Some(Draft { error, resource, offers, v2: pieces, v1 });
        }
        (v2, v1)
    }
}

impl Draft {
    fn fits(&self, error: &str, resource: &Resource, offers: &[Quoted<'_>]) -> bool {
        let same = |(draft, quoted): (&Offer, &Quoted<'_>)| {
            draft == quoted.offer && quoted.quote.as_deref().is_some_and(needs_no_escape)
        };
        self.resource == *resource
            && self.error == error
            && self.offers.len() == offers.len()
            && self.offers.iter().zip(offers).all(same)
    }

    fn with(&self, offers: &[Quoted<'_>]) -> Vec<u8> {
        let quotes = offers.iter().map(|quoted| quoted.quote.as_deref().unwrap_or_default().as_bytes());
        let length = self.v2.iter().map(Vec::len).sum::<usize>() + quotes.clone().map(<[u8]>::len).sum::<usize>();
        let mut json = Vec::with_capacity(length);
        for (piece, quote) in self.v2.iter().zip(quotes.chain([&b""[..]])) {
            json.extend_from_slice(piece);
            json.extend_from_slice(quote);
        }
        json
    }
}

/// What stands around the quotes; `None` if they are not all there, each once and in this order.
fn between_quotes(json: &[u8], offers: &[Quoted<'_>]) -> Option<Vec<Vec<u8>>> {
    let mut pieces = Vec::with_capacity(offers.len() + 1);
    let mut rest = json;
    for quoted in offers {
        let quote = quoted.quote.as_deref().filter(|quote| needs_no_escape(quote))?;
        let begins = position(rest)? + QUOTE.len();
        pieces.push(rest[..begins].to_vec());
        rest = rest[begins..].strip_prefix(quote.as_bytes()).filter(|rest| rest.first() == Some(&b'"'))?;
    }
    pieces.push(rest.to_vec());
    position(rest).is_none().then_some(pieces)
}

fn position(json: &[u8]) -> Option<usize> {
    json.windows(QUOTE.len()).position(|found| found == QUOTE)
}

fn needs_no_escape(quote: &str) -> bool {
    quote.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use alloy::primitives::{Address, U256};
    use proptest::prelude::*;

    use super::*;
    use crate::payment::{SchemeName, SettleMode};
    use crate::primitives::{AtomicAmount, Payee, preset};

    fn offer(network: &str, amount: u64, settle: SettleMode) -> Offer {
        let preset = preset(network).expect("a preset");
        Offer {
            scheme: SchemeName::Exact,
            network: Arc::new(preset.network()),
            asset: Arc::new(preset.assets[0].asset()),
            amount: AtomicAmount::new(U256::from(amount)),
            pay_to: Payee(Address::repeat_byte(0x70)),
            max_timeout: Duration::from_secs(300),
            settle,
            sandbox: false,
        }
    }

    /// Few of each, so that many are asked for again.
    fn offers() -> impl Strategy<Value = Vec<(Offer, Option<String>)>> {
        let one = (
            prop_oneof![Just("base"), Just("polygon")],
            1_u64..3,
            prop_oneof![Just(SettleMode::OnResponse), Just(SettleMode::BeforeForward)],
            prop_oneof![4 => "[A-Za-z0-9_-]{8}".prop_map(Some), 1 => Just(None), 1 => Just(Some("\"quote\":\"".to_owned()))],
        );
        let one = one.prop_map(|(network, amount, settle, quote)| (offer(network, amount, settle), quote));
        proptest::collection::vec(one, 0..3)
    }

    fn texts() -> impl Strategy<Value = (String, String, String)> {
        let words = prop_oneof![Just("a".to_owned()), Just("\"quote\":\"x\\".to_owned()), Just("é<\u{1}".to_owned())];
        (words.clone(), words.clone(), words)
    }

    proptest! {
        #[test]
        fn whoever_asks_hears_what_would_be_written_now(
            asked in proptest::collection::vec((offers(), texts(), 0_u8..2), 1..40),
        ) {
            let mut drafts = Drafts::none();
            for (offers, (url, description, error), long) in asked {
                let url = if long == 1 { url.repeat(LONGEST) } else { url };
                let resource = Resource { url, description, mime_type: String::new() };
                let offers: Vec<_> =
                    offers.iter().map(|(offer, quote)| Quoted { offer, quote: quote.clone() }).collect();
                let (v2, v1) = drafts.challenge(&error, &resource, &offers);
                prop_assert_eq!(v2, v2::challenge(&error, &resource, &offers));
                prop_assert_eq!(v1, v1::challenge(&error, &resource, &offers));
            }
        }
    }

    #[test]
    fn a_draft_is_used_and_a_new_price_makes_another() {
        let (mut drafts, resource) =
            (Drafts::none(), Resource { url: "https://a.test/b".into(), ..Resource::default() });
        let mut written = Vec::new();
        for (amount, quote) in [(1, "first"), (1, "second"), (2, "third")] {
            let offer = offer("base", amount, SettleMode::OnResponse);
            let offers = [Quoted { offer: &offer, quote: Some(quote.into()) }];
            let (v2, v1) = drafts.challenge("payment_required", &resource, &offers);
            assert!(String::from_utf8_lossy(&v2).contains(quote));
            written.push(v1.as_ptr());
        }
        assert_eq!(written[0], written[1], "the same bytes go out");
        assert_ne!(written[1], written[2]);
    }
}
