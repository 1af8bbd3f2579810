//! Sums over several assets: what dollar-pegged amounts are worth together.

use std::fmt;

use alloy::primitives::U256;

use super::{AmountError, Asset, AtomicAmount, Decimals, Peg};

/// As many places as any asset has, so that every amount of every asset is a whole number of these.
const PLACES: u8 = 36;

/// An amount of dollars, in units of 10⁻³⁶ dollar. Never rounded; what is too large stays at the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dollars(U256);

impl Dollars {
    /// Reads plain decimals without the sign: `0.50`.
    ///
    /// # Errors
    /// When the text is not plain digits with at most one point, or does not fit.
    pub fn from_decimal(text: &str) -> Result<Self, AmountError> {
        AtomicAmount::from_decimal(text, places()).map(|amount| Self(amount.units()))
    }

    /// What an amount of an asset stands for; `None` when the asset is not pegged to the dollar.
    pub fn of(amount: AtomicAmount, asset: &Asset) -> Option<Self> {
        let Peg::Usd = asset.peg?;
        let factor = U256::from(10).pow(U256::from(PLACES.saturating_sub(asset.decimals.get())));
        Some(Self(amount.units().saturating_mul(factor)))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// This without the other; nothing when the other is more.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// What so many wei of a network's coin come to, when a whole coin (10^18 wei) costs this. Rounded up.
    #[must_use]
    pub fn of_coin(self, wei: u128) -> Self {
        match self.0.checked_mul(U256::from(wei)) {
            Some(product) => Self(product.div_ceil(U256::from(10).pow(U256::from(18)))),
            None => Self(U256::MAX),
        }
    }

    /// In whole millionths of a dollar; what is too large stays at the largest.
    pub fn millionths(self) -> u64 {
        (self.0 / millionth()).saturating_to()
    }

    /// In millionths of a dollar, rounded up.
    pub fn millionths_up(self) -> u64 {
        self.0.div_ceil(millionth()).saturating_to()
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// `$0.5`
impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", AtomicAmount::new(self.0).to_decimal(places()))
    }
}

fn millionth() -> U256 {
    U256::from(10).pow(U256::from(PLACES - 6))
}

fn places() -> Decimals {
    Decimals::new(PLACES).expect("36 is what an asset may have")
}

#[cfg(test)]
mod tests {
    use super::super::{Caip2, preset_by_id};
    use super::*;

    #[test]
    fn what_is_less_than_a_millionth_is_counted_as_one() {
        let of = |text| Dollars::from_decimal(text).expect("an amount");
        for (text, down, up) in
            [("0", 0, 0), ("0.0000001", 0, 1), ("0.01", 10_000, 10_000), ("500", 500_000_000, 500_000_000)]
        {
            assert_eq!((of(text).millionths(), of(text).millionths_up()), (down, up), "{text}");
        }
        assert_eq!(Dollars(U256::MAX).millionths(), u64::MAX);
    }

    #[test]
    fn assets_of_different_places_add_up() {
        let usdc = preset_by_id(&Caip2::evm(8453)).expect("base is a preset").assets[0].asset();
        let fine = Asset { decimals: Decimals::new(18).expect("18 places"), ..usdc.clone() };
        let cent = Dollars::of(AtomicAmount::from_decimal("0.01", usdc.decimals).expect("a cent"), &usdc);
        let same = Dollars::of(AtomicAmount::from_decimal("0.01", fine.decimals).expect("a cent"), &fine);
        assert_eq!(cent, same);
        let sum = cent.expect("it is pegged").plus(same.expect("it is pegged"));
        assert_eq!((sum, sum.to_string()), (Dollars::from_decimal("0.02").expect("a sum"), "$0.02".to_owned()));
        assert_eq!(Dollars::of(AtomicAmount::new(U256::from(1)), &Asset { peg: None, ..usdc.clone() }), None);
        let most = Dollars::of(AtomicAmount::new(U256::MAX), &usdc).expect("it is pegged");
        assert_eq!((most.plus(sum), sum.minus(most)), (most, Dollars::default()));
    }
}
