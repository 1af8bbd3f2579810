//! `--max`: how much a purchase may cost.

use std::fmt;
use std::str::FromStr;

use crate::payment::Offer;
use crate::primitives::{AmountError, AtomicAmount, Decimals, Peg};

/// A price in the words of `gateway.yaml`, as the most that may be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// A plain decimal, kept as text: how many places it may have depends on the asset it meets.
    amount: String,
    unit: Unit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Unit {
    /// `$0.02`: any token we know to be pegged to the dollar.
    Dollars,
    /// `0.02 USDC`: the token we know by this symbol.
    Token(String),
}

impl Limit {
    /// Whether an offer stays within the limit.
    ///
    /// Symbol, decimals and peg are those of our own table: an offer cannot call a token of its own `USDC`, and what
    /// a token outside of the table is worth, nobody here can say.
    pub(super) fn admits(&self, offer: &Offer) -> Result<(), String> {
        let asset = &offer.asset;
        let counts = match &self.unit {
            Unit::Dollars => asset.peg == Some(Peg::Usd),
            Unit::Token(symbol) => asset.symbol == *symbol,
        };
        if !counts {
            return Err(format!("--max {self} says nothing about {}", asset.symbol));
        }
        let most = AtomicAmount::from_decimal(&self.amount, asset.decimals)
            .map_err(|error| format!("--max {self} cannot be counted in {}: it {error}", asset.symbol))?;
        if offer.amount > most { Err(format!("{} is above --max {self}", offer.price())) } else { Ok(()) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Unit::Dollars => write!(f, "${}", self.amount),
            Unit::Token(symbol) => write!(f, "{} {symbol}", self.amount),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, unit) = match (text.strip_prefix('$'), text.split_once(' ')) {
            (Some(amount), _) => (amount, Unit::Dollars),
            (None, Some((amount, symbol))) if is_symbol(symbol) => (amount, Unit::Token(symbol.to_owned())),
            _ => return Err(usage(text)),
        };
        // No token has more places than this; whether its own token has as many is seen when there is one.
        let finest = Decimals::new(36).expect("36 is the limit");
        match AtomicAmount::from_decimal(amount, finest) {
            Ok(_) | Err(AmountError::TooLarge(_)) => Ok(Self { amount: amount.to_owned(), unit }),
            Err(AmountError::NotANumber(_) | AmountError::TooFine { .. }) => Err(usage(text)),
        }
    }
}

fn is_symbol(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Between double quotes, or none, a shell makes its own name of `$0`: what arrives is then `bash.02`.
fn usage(text: &str) -> String {
    let eaten = text.contains("sh.") || text.starts_with('.');
    let help = if eaten { "; the shell has read $0 as its own name, so use single quotes" } else { "" };
    format!("write a price with its unit: '$0.02' or '0.02 USDC'{help}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::payment::{SchemeName, SettleMode};
    use crate::primitives::{Address, Payee, preset};

    /// A cent of test USDC.
    fn cent() -> Offer {
        let preset = preset("base-sepolia").expect("a preset");
        Offer {
            scheme: SchemeName::Exact,
            network: Arc::new(preset.network()),
            asset: Arc::new(preset.assets[0].asset()),
            amount: AtomicAmount::from_decimal("0.01", preset.assets[0].asset().decimals).expect("a cent"),
            pay_to: Payee(Address::repeat_byte(0x70)),
            max_timeout: Duration::from_secs(120),
            settle: SettleMode::OnResponse,
            sandbox: false,
        }
    }

    fn admits(limit: &str, offer: &Offer) -> bool {
        limit.parse::<Limit>().expect("a limit").admits(offer).is_ok()
    }

    #[test]
    fn a_limit_admits_what_costs_as_much_and_nothing_dearer() {
        for limit in ["$0.01", "$0.010", "$1", "0.01 USDC", "$99999999999999999999"] {
            assert!(admits(limit, &cent()), "{limit}");
        }
        for limit in ["$0.009999", "$0", "0.00 USDC", "1 EURC", "1 usdc"] {
            assert!(!admits(limit, &cent()), "{limit}");
        }
    }

    #[test]
    fn a_token_we_do_not_know_is_worth_nothing_we_could_compare() {
        let mut offer = cent();
        let asset = Arc::make_mut(&mut offer.asset);
        asset.peg = None;
        asset.symbol = format!("units of {}", asset.address);
        for limit in ["$1000", "1000 USDC"] {
            assert!(!admits(limit, &offer), "{limit}");
        }
    }

    #[test]
    fn a_limit_finer_than_the_token_is_never_rounded() {
        let limit: Limit = "$0.0100001".parse().expect("a limit");
        let refused = limit.admits(&cent()).expect_err("seven places");
        assert!(refused.contains("7 decimal places"), "{refused}");
    }

    #[test]
    fn s10_a_limit_is_a_plain_decimal_with_its_unit() {
        for text in
            ["0.02", "$", "$.5", "$1.", "-$1", "$-1", "$1e3", "$0x1", "1  USDC", "1 ", "USDC 1", "€1", "", "$1 USDC"]
        {
            assert!(text.parse::<Limit>().is_err(), "{text:?} was read as a limit");
        }
        let eaten = "bash.02".parse::<Limit>().expect_err("what a shell makes of $0.02");
        assert!(eaten.contains("single quotes"), "{eaten}");
    }
}
