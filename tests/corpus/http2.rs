//! The same targets over HTTP/2, and what only HTTP/2 can say.

use tollhouse::testing::http2::{Field, Wire};

use crate::script::{Alias, Exchange};
use crate::shop::{Shop, at_host, is, shown, without_added};
use crate::toy::{Arrived, MARK, Manner};

/// What is wrong with how an alias is answered as `:path` by a toy, if anything is.
///
/// It is held to what it is held to over HTTP/1.1, with two exceptions. What may not stand in a `:path` is refused by
/// HTTP/2 itself, with 400 or without an answer, whatever it would have meant otherwise. And a fragment is cut off before
/// anybody sees it: the rest is then priced, and is what the backend gets.
pub async fn try_alias(shop: &Shop, manner: Manner, alias: &Alias) -> Option<String> {
    let target = at_host(&alias.target, manner.host());
    let mut wire = Wire::open(shop.address()).await;
    let stream = wire.begin(&request(&alias.method, &target, manner.host()), true).await;
    let outcome = wire.outcome(stream).await;
    let arrived: Vec<Arrived> = shop.take();
    let told = |what: String| Some(format!("{} over HTTP/2 at {manner:?}: {what}", alias.place));
    if outcome.text().contains(MARK) {
        return told("was given what is for sale".into());
    }
    let target = at_host(alias.forwarded.as_ref().unwrap_or(&alias.target), manner.host());
    let (target, cut) = match target.iter().position(|byte| *byte == b'#') {
        Some(0) => (&b"/"[..], true),
        Some(at) => (&target[..at], true),
        None => (&target[..], false),
    };
    let line = [&alias.method[..], b" ", target, b" HTTP/1.1"].concat();
    let refused = matches!(outcome.status(), None | Some(400));
    match (&arrived[..], alias.status) {
        (_, None) => None,
        ([one], _) if cut && one.head[0] == line => None,
        ([], _) if cut && outcome.status() == Some(402) => None,
        ([], Some(status)) if refused || outcome.status() == Some(status) && status != 200 => None,
        ([one], Some(200)) if outcome.status().is_some_and(|status| status < 500) && one.head[0] == line => None,
        (arrived, Some(status)) => {
            let arrived: Vec<String> = arrived.iter().map(shown).collect();
            told(format!("{:?} and not {status}; the backend was asked {arrived:?}", outcome.status()))
        }
    }
}

fn request(method: &[u8], target: &[u8], host: &str) -> [Field; 4] {
    let field = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
    [field(":method", method), field(":scheme", b"http"), field(":authority", host.as_bytes()), field(":path", target)]
}

/// Sends the frames of an exchange; what is different from what it says.
pub async fn play(shop: &Shop, exchange: &Exchange) -> Vec<String> {
    // The name of one that hangs is the last that is printed.
    eprintln!("{}", exchange.name);
    let mut wrong = Vec::new();
    let mut wire = Wire::open(shop.address()).await;
    let Exchange { pieces, trailers, .. } = exchange;
    let stream = wire.begin(&exchange.fields, pieces.is_empty() && trailers.is_empty()).await;
    for (number, piece) in pieces.iter().enumerate() {
        wire.data(stream, piece, trailers.is_empty() && number + 1 == pieces.len()).await;
    }
    if !trailers.is_empty() {
        wire.trailers(stream, trailers).await;
    }
    let outcome = wire.outcome(stream).await;
    if outcome.status() != exchange.status {
        wrong.push(format!("{}: {:?} and not {:?}", exchange.name, outcome.status(), exchange.status));
    }
    if outcome.text().contains(MARK) {
        wrong.push(format!("{}: was given what is for sale", exchange.name));
    }
    let arrived: Vec<Arrived> = shop.take().into_iter().map(without_added).collect();
    let alike = arrived.len() == exchange.forwarded.len()
        && arrived.iter().zip(&exchange.forwarded).all(|(arrived, expected)| is(arrived, expected));
    if !alike {
        let arrived: Vec<String> = arrived.iter().map(shown).collect();
        wrong.push(format!("{}: the backend was asked {arrived:#?}", exchange.name));
    }
    wrong
}
