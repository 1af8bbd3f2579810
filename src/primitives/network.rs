//! Chains, named as CAIP-2 names them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A chain identifier: `eip155:8453` (CAIP-2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Caip2(Arc<str>);

/// A text that is not a CAIP-2 identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a CAIP-2 network; write for example eip155:8453")]
pub struct InvalidCaip2(String);

impl Caip2 {
    /// The identifier of an EVM chain.
    pub fn evm(chain_id: u64) -> Self {
        Self(format!("eip155:{chain_id}").into())
    }

    /// The whole identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The chain id, when this is an EVM chain.
    pub fn chain_id(&self) -> Option<u64> {
        self.0.strip_prefix("eip155:")?.parse().ok()
    }
}

impl FromStr for Caip2 {
    type Err = InvalidCaip2;

    fn from_str(text: &str) -> Result<Self, InvalidCaip2> {
        let invalid = || InvalidCaip2(text.chars().take(60).collect());
        let (namespace, reference) = text.split_once(':').ok_or_else(invalid)?;
        let namespace_fits = (3..=8).contains(&namespace.len())
            && namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let reference_fits = (1..=32).contains(&reference.len())
            && reference.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        // One spelling per chain: `eip155:08453` would be a second name for Base (protocol digest, D2).
        let canonical =
            namespace != "eip155" || (reference.parse::<u64>().is_ok() && !reference.starts_with(['0', '+']));
        if namespace_fits && reference_fits && canonical { Ok(Self(text.into())) } else { Err(invalid()) }
    }
}

impl TryFrom<String> for Caip2 {
    type Error = InvalidCaip2;

    fn try_from(text: String) -> Result<Self, InvalidCaip2> {
        text.parse()
    }
}

impl From<Caip2> for String {
    fn from(id: Caip2) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for Caip2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Caip2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A chain as an offer and a receipt speak of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its CAIP-2 identifier.
    pub id: Caip2,
    /// What `gateway.yaml` calls it: `base`.
    pub name: String,
    /// The name x402 v1 clients know it by, when they know it at all.
    pub v1_name: Option<Arc<str>>,
    /// Whether money on it is real.
    pub live: bool,
    /// Where a person can look at a transaction; `{tx}` stands for its hash.
    pub explorer: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_one_spelling() {
        assert_eq!("eip155:8453".parse::<Caip2>().map(|id| id.chain_id()), Ok(Some(8453)));
        for text in ["eip155:08453", "eip155:", "eip155:0", "eip155:+1", "EIP155:1", "base", "eip155:0x1", "a:b"] {
            assert!(text.parse::<Caip2>().is_err(), "{text} was read as a chain");
        }
        assert!("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp".parse::<Caip2>().is_ok());
    }
}
