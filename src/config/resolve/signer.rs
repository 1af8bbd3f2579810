//! The key of a local facilitator: it pays for gas, and is never a payee's (S59).

use std::collections::HashMap;
use std::path::Path;

use alloy::primitives::hex;
use alloy::signers::local::PrivateKeySigner;

use super::facilitators::Resolved;
use super::keystore::{self, Locked};
use super::payees::{Payees, Whose};
use super::scalar::shown;
use super::{Surroundings, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::primitives::{Address, AtomicAmount, Decimals, Dollars, Payee, Secret};

/// Refuses to hold the key of an account that money is collected for (S59).
pub(super) fn refuse_own_payees(facilitators: &[Resolved], payees: &Payees, routes: &Whose, mistakes: &mut Mistakes) {
    let places = payees.paid.iter().map(|paid| (paid.payee, paid.address));
    let collected: HashMap<Payee, Span> = routes.0.iter().map(|(payee, span)| (*payee, *span)).chain(places).collect();
    for facilitator in facilitators {
        let Some(signer) = facilitator.signer else { continue };
        if let Some(place) = collected.get(&Payee(signer)) {
            mistakes.add(
                Mistake::error(&codes::OWN_KEY, facilitator.span, "the key of this facilitator is the payee's own")
                    .label("this key signs for the account")
                    .related(*place, "that is paid here")
                    .help("make a new key that pays gas and holds nothing else; keep the payee's key elsewhere"),
            );
        }
    }
}

/// A price of gas in wei: `0.05 gwei`.
pub(super) fn gas_price(text: &Text, mistakes: &mut Mistakes) -> Option<u128> {
    let wei = wei(text, &[("gwei", 9), ("wei", 0)]);
    if wei.is_none() {
        let message = format!("`{}` is not a gas price", shown(&text.text));
        mistakes.add(Mistake::error(&codes::GAS_PRICE, text.span, message).help("write an amount in gwei: 0.05 gwei"));
    }
    wei
}

/// An amount of a network's own coin in wei: `0.002 ETH`. `coin` stands for it where it has another name.
pub(super) fn coin(text: &Text, mistakes: &mut Mistakes) -> Option<u128> {
    let wei = wei(text, &[("ETH", 18), ("coin", 18), ("gwei", 9), ("wei", 0)]);
    if wei.is_none() {
        let message = format!("`{}` is not an amount of the network's coin", shown(&text.text));
        mistakes.add(
            Mistake::error(&codes::COIN, text.span, message)
                .help("write 0.002 ETH, or 0.002 coin where the coin has another name"),
        );
    }
    wei
}

/// What a network's coin costs: `$3500`.
pub(super) fn coin_price(text: &Text, mistakes: &mut Mistakes) -> Option<Dollars> {
    let amount = text.text.strip_prefix('$').and_then(|amount| Dollars::from_decimal(amount).ok());
    let price = amount.filter(|price| !price.is_zero());
    if price.is_none() {
        let message = format!("`{}` is not what a coin costs", shown(&text.text));
        mistakes.add(Mistake::error(&codes::COIN_PRICE, text.span, message).help("write an amount of dollars: $3500"));
    }
    price
}

/// An amount with one of these units, which have so many decimal places; more than nothing.
fn wei(text: &Text, units: &[(&str, u8)]) -> Option<u128> {
    let (amount, unit) = text.text.split_once(' ')?;
    let (_, places) = units.iter().find(|(name, _)| *name == unit)?;
    let amount = AtomicAmount::from_decimal(amount, Decimals::new(*places).ok()?).ok()?;
    u128::try_from(amount.units()).ok().filter(|wei| *wei > 0)
}

/// The key in a file that the command line names: 32 bytes in hex, in a file that not everybody can read (S60).
///
/// # Errors
/// When there is no such key. The text says what is wrong and what to do, and never what the file holds.
pub fn key_file(path: &Path) -> Result<Secret<[u8; 32]>, String> {
    let text = reference::named(path)?;
    signing_key(&text)
        .map(|(key, _)| key)
        .ok_or_else(|| format!("`{}` does not hold a key of 32 bytes in hex", path.display()))
}

/// The key of a local facilitator, and its account.
pub(super) fn gas_key(
    signer: &raw::Signer,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<(Secret<[u8; 32]>, Address)> {
    match signer {
        raw::Signer::Key(key) => {
            let found = signing_key(&reference::secret(key, around, mistakes)?);
            if found.is_none() {
                mistakes.add(
                    Mistake::error(&codes::BAD_SECRET, key.span(), "this is not a signing key")
                        .help("it is 32 bytes, written as 64 hexadecimal digits"),
                );
            }
            found
        }
        raw::Signer::Keystore { file, password } => {
            let password = reference::secret(password, around, mistakes);
            let (path, text) = reference::secret_file(file, around, mistakes)?;
            let locked = match keystore::open(&path, &text, &password?) {
                Ok(found) => return Some(found),
                Err(locked) => locked,
            };
            let refuse = |message| Mistake::error(&codes::BAD_SECRET, file.span(), message);
            mistakes.add(match locked {
                Locked::Strange => refuse("this is not a keystore that can be opened")
                    .help("it is JSON of version 3, as `geth account new` and `cast wallet new` write it"),
                Locked::WrongPassword => refuse("the keystore does not open with this password")
                    .help("check the password; a line break at the end of its file does not count"),
            });
            None
        }
    }
}

/// A key in hex, and its account.
pub(super) fn signing_key(text: &Secret<String>) -> Option<(Secret<[u8; 32]>, Address)> {
    let digits = text.expose().trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    let key = Secret::new(bytes);
    let signer = PrivateKeySigner::from_slice(key.expose()).ok()?;
    Some((key, signer.address()))
}
