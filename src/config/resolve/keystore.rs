//! A gas key in an encrypted keystore: JSON of the Web3 Secret Storage Definition, version 3, as geth, `cast wallet` and
//! most wallets write it.

use std::path::Path;

use alloy::primitives::Bytes;
use alloy::signers::local::PrivateKeySigner;
use serde::Deserialize;

use crate::primitives::{Address, Secret};

/// How much memory opening a keystore may take (I7). What geth writes takes a quarter of it.
const MOST_MEMORY: u64 = 1 << 30;
/// How many rounds opening may take; geth writes 262,144 and some wallets twice that.
const MOST_ROUNDS: u32 = 10_000_000;

/// Why a keystore yields no key. The texts say nothing of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locked {
    /// Not a keystore that can be opened.
    Strange,
    /// Another password, or a damaged file: the two look alike.
    WrongPassword,
}

/// The parts of a keystore that decide whether it is safe to open: the crate that opens it trusts them.
#[derive(Deserialize)]
struct Keystore {
    version: u8,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: Bytes,
    kdfparams: KdfParams,
}

#[derive(Deserialize)]
struct CipherParams {
    iv: Bytes,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum KdfParams {
    Scrypt { dklen: u8, n: u32, p: u32, r: u32 },
    Pbkdf2 { dklen: u8, c: u32, prf: String },
}

impl Keystore {
    fn can_be_opened(&self) -> bool {
        let crypto = &self.crypto;
        let derivation = match &crypto.kdfparams {
            KdfParams::Scrypt { dklen, n, p, r } => {
                let memory = u64::from(*n).saturating_mul(u64::from(*r)).saturating_mul(128);
                *dklen == 32 && n.is_power_of_two() && *n > 1 && (1..=16).contains(p) && memory <= MOST_MEMORY
            }
            KdfParams::Pbkdf2 { dklen, c, prf } => *dklen == 32 && *c <= MOST_ROUNDS && prf == "hmac-sha256",
        };
        let cipher = crypto.cipher == "aes-128-ctr" && crypto.cipherparams.iv.len() == 16;
        self.version == 3 && cipher && crypto.ciphertext.len() == 32 && derivation
    }
}

/// Opens the keystore at a path, whose text has been read before.
pub(super) fn open(
    path: &Path,
    text: &Secret<String>,
    password: &Secret<String>,
) -> Result<(Secret<[u8; 32]>, Address), Locked> {
    let keystore: Keystore = serde_json::from_str(text.expose()).map_err(|_| Locked::Strange)?;
    if !keystore.can_be_opened() {
        return Err(Locked::Strange);
    }
    let signer = PrivateKeySigner::decrypt_keystore(path, password.expose()).map_err(|_| Locked::WrongPassword)?;
    Ok((Secret::new(signer.to_bytes().0), signer.address()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test vector of the definition.
    const VECTOR: &str = include_str!("../../../tests/fixtures/keystore.json");

    fn can_be_opened(text: &str) -> bool {
        serde_json::from_str::<Keystore>(text).is_ok_and(|keystore| keystore.can_be_opened())
    }

    #[test]
    fn a_keystore_that_would_take_the_memory_or_stop_the_process_is_not_opened() {
        assert!(can_be_opened(VECTOR));
        for (from, to) in [
            ("\"version\": 3", "\"version\": 1"),
            ("\"dklen\": 32", "\"dklen\": 16"),
            ("262144", "4000000000"),
            ("aes-128-ctr", "aes-256-ctr"),
            ("6087dab2f9fdbbfaddc31a909735c1e6", "6087"),
            ("5318b4d5", ""),
        ] {
            assert!(VECTOR.contains(from), "{from}");
            assert!(!can_be_opened(&VECTOR.replace(from, to)), "{from} was replaced by {to}");
        }
        let scrypt = |n: u32| {
            let own = format!("\"n\": {n}, \"r\": 8, \"p\": 1");
            VECTOR.replace("\"c\": 262144", &own).replace("\"prf\": \"hmac-sha256\",", "")
        };
        assert!(can_be_opened(&scrypt(262_144)));
        assert!(!can_be_opened(&scrypt(1 << 24)), "16 GiB");
        assert!(!can_be_opened(&scrypt(262_143)), "no power of two");
    }
}
