//! What a facilitator says it supports, as last heard.

use std::collections::HashSet;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use serde_json::Value;

use crate::facilitator::BoxError;
use crate::payment::{Dialect, SchemeName};
use crate::primitives::Network;

/// The `exact` kinds of the last good answer to `/supported`; a failed question leaves them standing.
#[derive(Default)]
pub(super) struct Kinds {
    heard: ArcSwapOption<Networks>,
}

/// The networks of each version, as it names them.
#[derive(Debug, Default)]
struct Networks {
    v1: HashSet<String>,
    v2: HashSet<String>,
}

#[derive(Deserialize)]
struct Supported {
    kinds: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    x402_version: u8,
    scheme: String,
    network: String,
}

impl Kinds {
    /// Which version to speak about a payment of this dialect on this network; `None` when neither is supported.
    ///
    /// The signature is the same in both, so the payment is translated when only the other one is listed. Until the
    /// first answer arrives v2 is assumed: every facilitator in use speaks it, and an operator who names a network
    /// means it.
    pub fn version(&self, network: &Network, dialect: Dialect) -> Option<Dialect> {
        let heard = self.heard.load();
        let Some(heard) = heard.as_ref() else { return Some(Dialect::V2) };
        let speaks = |version: &Dialect| match version {
            Dialect::V1 => network.v1_name.as_deref().is_some_and(|name| heard.v1.contains(name)),
            Dialect::V2 => heard.v2.contains(network.id.as_str()) || heard.v2.contains("eip155:*"),
        };
        let other = match dialect {
            Dialect::V1 => Dialect::V2,
            Dialect::V2 => Dialect::V1,
        };
        [dialect, other].into_iter().find(speaks)
    }

    /// Whether v2 is spoken about this network: v1 has no word for Permit2, so nothing can be translated.
    pub fn speaks_v2(&self, network: &Network) -> bool {
        self.version(network, Dialect::V2) == Some(Dialect::V2)
    }

    /// Takes in an answer to `/supported`. A kind we cannot read hides none of the others.
    pub fn hear(&self, body: &[u8]) -> Result<(), BoxError> {
        // As text first: the parser skips what nobody reads, whatever its bytes (S53).
        let supported: Supported = serde_json::from_str(std::str::from_utf8(body)?)?;
        let mut networks = Networks::default();
        let listed = supported.kinds.into_iter().filter_map(|kind| serde_json::from_value::<Listed>(kind).ok());
        for kind in listed.filter(|kind| kind.scheme == SchemeName::Exact.as_str()) {
            match kind.x402_version {
                1 => networks.v1.insert(kind.network),
                2 => networks.v2.insert(kind.network),
                _ => false,
            };
        }
        self.heard.store(Some(std::sync::Arc::new(networks)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::preset;

    fn kinds(body: &str) -> Kinds {
        let kinds = Kinds::default();
        kinds.hear(body.as_bytes()).expect("an answer");
        kinds
    }

    fn base() -> Network {
        preset("base").expect("a preset").network()
    }

    #[test]
    fn before_the_first_answer_everything_goes_as_v2() {
        for dialect in [Dialect::V1, Dialect::V2] {
            assert_eq!(Kinds::default().version(&base(), dialect), Some(Dialect::V2));
        }
    }

    #[test]
    fn a_payment_keeps_its_dialect_where_it_can_and_is_translated_where_it_must() {
        let v1 = r#"{"x402Version":1,"scheme":"exact","network":"base"}"#;
        let v2 = r#"{"x402Version":2,"scheme":"exact","network":"eip155:8453","extra":null}"#;
        let any = r#"{"x402Version":2,"scheme":"exact","network":"eip155:*"}"#;
        let cases = [
            (format!("{v1},{v2}"), Some(Dialect::V1), Some(Dialect::V2)),
            (v1.into(), Some(Dialect::V1), Some(Dialect::V1)),
            (v2.into(), Some(Dialect::V2), Some(Dialect::V2)),
            (any.into(), Some(Dialect::V2), Some(Dialect::V2)),
            (String::new(), None, None),
        ];
        for (listed, for_v1, for_v2) in cases {
            let kinds = kinds(&format!(r#"{{"kinds":[{listed}]}}"#));
            assert_eq!(kinds.version(&base(), Dialect::V1), for_v1, "{listed}");
            assert_eq!(kinds.version(&base(), Dialect::V2), for_v2, "{listed}");
        }
    }

    #[test]
    fn an_exotic_kind_hides_no_other() {
        let kinds = kinds(
            r#"{"kinds":[{"x402Version":"v9"},7,{"x402Version":2,"scheme":"upto","network":"eip155:8453"},
                {"x402Version":2,"scheme":"exact","network":"eip155:8453"}],"extensions":["bazaar"],"signers":{}}"#,
        );
        assert_eq!(kinds.version(&base(), Dialect::V2), Some(Dialect::V2));
    }

    #[test]
    fn an_unreadable_answer_leaves_the_last_one_standing() {
        let kinds = kinds(r#"{"kinds":[{"x402Version":1,"scheme":"exact","network":"base"}]}"#);
        assert!(kinds.hear(b"<html>").is_err());
        assert_eq!(kinds.version(&base(), Dialect::V2), Some(Dialect::V1));
    }
}
