//! Money as an integer count of an asset's smallest unit. No float ever touches it.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Decimals;

/// A count of an asset's smallest unit: 10000 of USDC is one cent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AtomicAmount(U256);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Anything but digits, or digits with one point in them.
    #[error("`{0}` is not a decimal number")]
    NotANumber(String),
    /// More decimal places than the asset has; rounding would change what is charged.
    #[error("has {places} decimal places; the asset holds {held}")]
    TooFine {
        /// Decimal places written.
        places: usize,
        /// Decimal places the asset has.
        held: u8,
    },
    /// Does not fit 256 bits.
    #[error("`{0}` does not fit 256 bits")]
    TooLarge(String),
}

impl AtomicAmount {
    /// Nothing at all. Never a price: what costs nothing is `free`.
    pub const ZERO: Self = Self(U256::ZERO);

    /// Wraps a count of smallest units.
    pub const fn new(units: U256) -> Self {
        Self(units)
    }

    /// The count of smallest units.
    pub const fn units(self) -> U256 {
        self.0
    }

    /// Whether this is nothing.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Reads a human decimal (`0.01`) in units of an asset with `decimals` places. Never rounds.
    ///
    /// ```
    /// use tollhouse::primitives::{AtomicAmount, Decimals};
    /// let usdc = Decimals::new(6).unwrap();
    /// assert_eq!(AtomicAmount::from_decimal("0.01", usdc).unwrap().to_string(), "10000");
    /// assert!(AtomicAmount::from_decimal("0.0000001", usdc).is_err());
    /// ```
    ///
    /// # Errors
    /// When the text is not plain digits with at most one point, is finer than the asset, or does not fit.
    pub fn from_decimal(text: &str, decimals: Decimals) -> Result<Self, AmountError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(AmountError::NotANumber(text.into())),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(AmountError::NotANumber(text.into()));
        }
        let held = decimals.get();
        let Some(padding) = usize::from(held).checked_sub(fraction.len()) else {
            return Err(AmountError::TooFine { places: fraction.len(), held });
        };
        let units = format!("{whole}{fraction}{}", "0".repeat(padding));
        U256::from_str_radix(&units, 10).map(Self).map_err(|_| AmountError::TooLarge(text.into()))
    }

    /// Writes the amount as a human decimal without trailing zeros: `0.01`.
    pub fn to_decimal(self, decimals: Decimals) -> String {
        let places = usize::from(decimals.get());
        let digits = format!("{:0>width$}", self.0.to_string(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        match fraction.trim_end_matches('0') {
            "" => whole.to_owned(),
            fraction => format!("{whole}.{fraction}"),
        }
    }
}

/// Reads a wire amount: one to 78 ASCII digits and nothing else (S10).
impl FromStr for AtomicAmount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() || text.len() > 78 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::NotANumber(text.chars().take(90).collect()));
        }
        U256::from_str_radix(text, 10).map(Self).map_err(|_| AmountError::TooLarge(text.into()))
    }
}

impl fmt::Display for AtomicAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AtomicAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for AtomicAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AtomicAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usdc() -> Decimals {
        Decimals::new(6).expect("six is within the limit")
    }

    #[test]
    fn a_cent_is_ten_thousand_units_of_usdc() {
        assert_eq!(AtomicAmount::from_decimal("0.01", usdc()), Ok(AtomicAmount::new(U256::from(10_000))));
        assert_eq!(AtomicAmount::new(U256::from(10_000)).to_decimal(usdc()), "0.01");
        assert_eq!(AtomicAmount::new(U256::from(2_000_000)).to_decimal(usdc()), "2");
    }

    #[test]
    fn too_many_decimals_are_refused_and_never_rounded() {
        assert_eq!(AtomicAmount::from_decimal("0.0000001", usdc()), Err(AmountError::TooFine { places: 7, held: 6 }));
    }

    #[test]
    fn s10_amount_games_are_not_numbers() {
        for text in ["", "-1", "+1", "1e4", "0x10", "1_000", "١", " 1", "1 ", "0.1", &"9".repeat(79)] {
            assert!(text.parse::<AtomicAmount>().is_err(), "{text:?} was read as an amount");
        }
        assert!("9".repeat(78).parse::<AtomicAmount>().is_err(), "78 nines exceed 256 bits");
        assert_eq!("010000".parse::<AtomicAmount>(), "10000".parse::<AtomicAmount>());
        for text in [".5", "5.", "1,000", "1e-7", "€1", "-1", "--"] {
            assert!(AtomicAmount::from_decimal(text, usdc()).is_err(), "{text:?} was read as a price");
        }
    }
}
