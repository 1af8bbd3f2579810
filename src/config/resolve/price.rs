//! Prices: text in, whole numbers of smallest units out. Never rounds, never guesses a unit (S10).

use crate::config::codes::{self, Code};
use crate::config::mistake::Mistake;
use crate::config::tree::Text;
use crate::primitives::{AmountError, Asset, AtomicAmount, Peg};

use super::scalar::shown;

/// A price before it meets an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Price<'t> {
    /// `$0.01`: units of any asset pegged to the dollar.
    Dollars(&'t str),
    /// `0.01 USDC`
    Token { amount: &'t str, symbol: &'t str },
}

impl<'t> Price<'t> {
    /// Reads `$0.01` or `0.01 USDC`.
    pub(super) fn parse(written: &'t Text) -> Result<Self, Box<Mistake>> {
        let text = &*written.text;
        if let Some(amount) = text.strip_prefix('$')
            && is_decimal(amount)
        {
            return Ok(Self::Dollars(amount));
        }
        if let Some((amount, symbol)) = text.split_once(' ')
            && is_decimal(amount)
            && is_symbol(symbol)
        {
            return Ok(Self::Token { amount, symbol });
        }
        Err(Box::new(explain(written)))
    }

    fn amount(self) -> &'t str {
        match self {
            Self::Dollars(amount) | Self::Token { amount, .. } => amount,
        }
    }

    /// Whether it is written in a unit that this asset has.
    pub(super) fn fits(self, asset: &Asset) -> bool {
        match self {
            Self::Dollars(_) => asset.peg == Some(Peg::Usd),
            Self::Token { symbol, .. } => asset.symbol == symbol,
        }
    }

    /// The price in smallest units of an asset it fits.
    pub(super) fn in_units_of(self, asset: &Asset, written: &Text) -> Result<AtomicAmount, Box<Mistake>> {
        let refuse = |code: &'static Code, message: String| Mistake::error(code, written.span, message);
        let mistake = match AtomicAmount::from_decimal(self.amount(), asset.decimals) {
            Ok(amount) if !amount.is_zero() => return Ok(amount),
            Ok(_) => refuse(&codes::ZERO, format!("`{}` is a price of nothing", written.text))
                .help("write `free` if the route is given away"),
            Err(AmountError::TooFine { places, held }) => {
                let message =
                    format!("\"{}\" has {places} decimal places; {} holds {held}", written.text, asset.symbol);
                refuse(&codes::TOO_FINE, message)
                    .help(format!("write at most {held} decimal places; a price is never rounded"))
            }
            Err(AmountError::NotANumber(_)) => explain(written),
            Err(AmountError::TooLarge(_)) => {
                refuse(&codes::RANGE, String::from("the price is larger than any token can count"))
                    .help("write a price that somebody could pay")
            }
        };
        Err(Box::new(mistake))
    }
}

/// Digits with at most one point, which has digits on both sides.
fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(text),
    }
}

fn is_symbol(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Says what is wrong with a text that is no price, as precisely as it shows.
fn explain(written: &Text) -> Mistake {
    let text = &*written.text;
    let bare = text.strip_prefix('$').unwrap_or(text);
    let refuse = |code: &'static Code, message: String| Mistake::error(code, written.span, message);
    if is_decimal(text) {
        return refuse(&codes::UNIT, String::from("a price needs a unit"))
            .label(format!("this could mean ${text} or {text} of a token's smallest unit"))
            .help(format!("write ${text} or {text} USDC"));
    }
    if is_exponent(bare) {
        return refuse(&codes::EXPONENT, format!("`{}` is not a plain decimal", shown(text)))
            .note("other YAML tools write small unquoted numbers like this")
            .help("write the price out and with its unit: $0.0000001");
    }
    if text.split(' ').any(|word| matches!(word, "per")) || bare.contains('/') {
        return refuse(
            &codes::NOT_SUPPORTED,
            String::from("prices by the amount used are not supported in this version"),
        )
        .help("write one price for the request: $0.01");
    }
    let without = bare.replace([',', '_', '\''], "");
    if without != bare && is_decimal(&without) {
        return refuse(&codes::SEPARATOR, String::from("a price has no thousands separators"))
            .help(format!("write ${without}"));
    }
    if let Some((amount, symbol)) = split_where_letters_begin(text)
        && is_decimal(amount)
        && is_symbol(symbol)
    {
        return refuse(&codes::SPACE, String::from("put a space between amount and asset"))
            .help(format!("write {amount} {symbol}"));
    }
    refuse(&codes::PRICE, format!("`{}` is not a price, `free` or `deny`", shown(text)))
        .help("write a price such as $0.01 or 0.01 USDC, `free` or `deny`")
}

fn is_exponent(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return false };
    let exponent = exponent.trim_start_matches(['+', '-']);
    is_decimal(mantissa) && !exponent.is_empty() && exponent.bytes().all(|b| b.is_ascii_digit())
}

fn split_where_letters_begin(text: &str) -> Option<(&str, &str)> {
    text.find(|c: char| c.is_ascii_alphabetic()).map(|at| text.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Span;
    use crate::primitives::{Caip2, preset_by_id};

    fn text(text: &str) -> Text {
        Text { text: text.into(), span: Span::default(), quoted: false }
    }

    fn code(written: &str) -> Option<&'static str> {
        Price::parse(&text(written)).err().map(|mistake| mistake.code.id)
    }

    #[test]
    fn s10_a_price_is_plain_decimals_and_a_unit() {
        let dollars = text("$0.01");
        assert_eq!(Price::parse(&dollars).ok(), Some(Price::Dollars("0.01")));
        let token = text("250000 sat");
        assert_eq!(Price::parse(&token).ok(), Some(Price::Token { amount: "250000", symbol: "sat" }));
        let refused = [
            ("0.01", "TH1003"),
            ("1", "TH1003"),
            ("1e-07", "TH1004"),
            ("$1e3", "TH1004"),
            ("$1,000.50", "TH1005"),
            ("1_000", "TH1005"),
            ("0.01USDC", "TH1006"),
            ("$0.50 per 1M", "TH1011"),
            ("$0.5/M", "TH1011"),
        ];
        for (written, expected) in refused {
            assert_eq!(code(written), Some(expected), "{written}");
        }
        for written in
            ["-$1", "$-1", "+1 USDC", "$.5", "$1.", "$ 1", "1  USDC", "$0x10", "$١", "€1", "", "yes", "$1 USDC"]
        {
            assert_eq!(code(written), Some("TH1007"), "{written}");
        }
    }

    #[test]
    fn a_price_comes_out_as_a_whole_number_of_smallest_units_or_not_at_all() {
        let usdc = preset_by_id(&Caip2::evm(8453)).expect("base is a preset").assets[0].asset();
        let units = |written: &str| {
            let written = text(written);
            let price = Price::parse(&written).expect("a price");
            price.in_units_of(&usdc, &written).map(|units| units.to_string()).map_err(|mistake| mistake.code.id)
        };
        assert_eq!(units("$0.01"), Ok("10000".into()));
        assert_eq!(units("0.000001 USDC"), Ok("1".into()));
        assert_eq!(units("$0.0000001"), Err("TH1008"));
        assert_eq!(units("$0.0100000"), Err("TH1008"));
        assert_eq!(units("$0.00"), Err("TH1009"));
        assert_eq!(units(&format!("${}", "9".repeat(80))), Err("TH1031"));
    }
}
