//! How a payment is named on the command line.

use std::str::FromStr;

use clap::Args;

use super::super::words::explain;
use super::Place;
use crate::ledger::Archive;
use crate::payment::PaymentKey;

/// How many digits a whole name has.
const WHOLE: usize = 64;
/// With fewer digits than this, a name that is unique today would soon be another payment's, too.
const FEWEST: usize = 8;
/// So many payments are counted that begin alike; more are as hard to tell apart.
const COUNTED: usize = 100;

/// Which payment.
#[derive(Debug, Args)]
pub(super) struct Payment {
    /// The payment, as `list` and `Tollhouse-Payment` name it; where no other begins alike, its first 8 digits or more
    #[arg(value_name = "PAYMENT")]
    payment: Start,
}

impl Payment {
    /// Its key. `None` when no payment, or more than one, is named so; that has been told.
    pub(super) async fn find(&self, place: &Place) -> Result<Option<PaymentKey>, String> {
        if let Ok(whole) = self.payment.0.parse() {
            return Ok(Some(whole));
        }
        let found = self.payment.begin(&*place.look().await?).await?;
        if let [only] = found[..] {
            return Ok(Some(only));
        }
        let Start(digits) = &self.payment;
        match found.len() {
            0 => talk!("the ledger knows no payment that begins with {digits}"),
            COUNTED => talk!("{digits} begins {COUNTED} payments or more; write more of its digits"),
            many => talk!("{digits} begins {many} payments; write more of its digits"),
        }
        Ok(None)
    }
}

/// The first digits of a payment's name, or all.
#[derive(Debug, Clone)]
struct Start(String);

impl Start {
    /// The payments that begin so, at most as many as are counted.
    async fn begin(&self, archive: &dyn Archive) -> Result<Vec<PaymentKey>, String> {
        let first: PaymentKey = format!("{:0<WHOLE$}", self.0).parse().map_err(|error| format!("{error}"))?;
        let page = archive.standing(before(first), COUNTED).await.map_err(|error| explain(&error))?;
        let keys = page.into_iter().map(|standing| standing.key);
        Ok(keys.take_while(|key| key.to_string().starts_with(&self.0)).collect())
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A shortened name ends so in a list.
        let digits = text.trim_end_matches('…').to_ascii_lowercase();
        if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) && (FEWEST..=WHOLE).contains(&digits.len()) {
            return Ok(Self(digits));
        }
        Err(format!("a payment is named by {WHOLE} hexadecimal digits, or by at least its first {FEWEST}"))
    }
}

/// The key that comes before all that begin with this one; `None` before the first of all.
fn before(key: PaymentKey) -> Option<PaymentKey> {
    let mut bytes = *key.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return Some(PaymentKey::from_bytes(bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_is_named_by_its_first_digits_or_all() {
        let read = |text: &str| text.parse::<Start>().map(|Start(digits)| digits);
        assert_eq!(read("2F757498bbde96b9…"), Ok("2f757498bbde96b9".to_owned()));
        assert_eq!(read(&"0".repeat(64)), Ok("0".repeat(64)));
        for wrong in ["", "2f75749", "2f757498-", "0x2f757498", &"0".repeat(65)] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_comes_before_a_key_is_the_next_lower_number() {
        let key = |last: [u8; 2]| {
            let mut bytes = [0; 32];
            bytes[30..].copy_from_slice(&last);
            PaymentKey::from_bytes(bytes)
        };
        assert_eq!(before(key([1, 0])), Some(key([0, 255])));
        assert_eq!(before(key([0, 0])), None);
    }
}
