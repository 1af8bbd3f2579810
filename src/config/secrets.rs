//! Which parts of a file are secrets, or may be: a report never shows them, wherever it points (S60).

use std::collections::HashSet;

use super::source::Span;
use super::tree::{Node, Value};

/// Which texts of a file must not be printed, wherever an error may point (S60).
pub(super) fn find(root: &Node) -> Vec<Span> {
    let mut found = Vec::new();
    collect(root, Guard::None, &mut found);
    found.sort_unstable();
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    None,
    /// In a section about credentials: every value but those of the keys that are known to be harmless.
    Section,
    /// The value of a key that names a secret.
    Value,
}

/// Keys that stand beside secrets and hold none; and the two that say where a secret is kept.
const HARMLESS: [&str; 12] = [
    "max_gas_price",
    "alarm_below",
    "coin_price",
    "min_version",
    "header",
    "address",
    "env",
    "file",
    "single_instance",
    "sqlite",
    "server_name",
    "verify",
];
/// Sections about credentials.
const GUARDED: [&str; 7] = ["auth", "cdp", "local", "admin", "tls", "postgres", "exempt"];
/// Parts of the names that people give to secrets.
const SECRET_NAMES: [&str; 8] = ["secret", "token", "passw", "bearer", "signer", "key", "rpc", "credential"];

fn collect(node: &Node, guard: Guard, found: &mut Vec<Span>) {
    match &node.value {
        Value::Empty => {}
        Value::Text(text) if guard != Guard::None || looks_secret(&text.text) => found.push(text.span),
        Value::Text(_) => {}
        Value::List(items) => items.iter().for_each(|item| collect(item, guard, found)),
        Value::Map(entries) => {
            for entry in entries {
                if guard != Guard::None && !is_name(&entry.key.text) {
                    found.push(entry.key.span);
                }
                let key = entry.key.text.to_ascii_lowercase();
                let guard = match guard {
                    _ if HARMLESS.contains(&&*key) => Guard::None,
                    Guard::Value => Guard::Value,
                    _ if SECRET_NAMES.iter().any(|name| key.contains(name)) => Guard::Value,
                    Guard::None if !GUARDED.contains(&&*key) => Guard::None,
                    Guard::None | Guard::Section => Guard::Section,
                };
                collect(&entry.node, guard, found);
            }
        }
    }
}

/// Whether a key can be shown where secrets stand: `{bearer s3cret}` is a mapping with one key and no value.
pub(super) fn is_name(key: &str) -> bool {
    key.len() <= 24 && key.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'-')
}

/// Whether a section is about credentials.
pub(super) fn is_guarded(key: &str) -> bool {
    GUARDED.contains(&key)
}

/// A private key in hex, or a URL with a password in it.
fn looks_secret(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let private_key = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    private_key || text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}

/// Whether a line that could not be parsed may hold a secret.
pub(super) fn may_stand_in(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    let words: HashSet<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    SECRET_NAMES.iter().any(|name| lower.contains(name))
        || GUARDED.iter().any(|name| words.contains(name))
        || lower.split(|c: char| c.is_whitespace() || "\"',{}[]".contains(c)).any(looks_secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::mistake::Mistakes;
    use crate::config::tree::compose;

    #[test]
    fn s60_secrets_are_found_wherever_they_stand() {
        let text = "facilitators:\n- {name: n, auth: {berer: hunter2, bearer hunter3, cdp: {key_id: {env: ID}, secret: [x]}}}\n\
                    networks: {base: {rpc: [https://node/v1/abc]}}\n\
                    upstream: http://user:pw@host\nlog: {level: info}\n";
        let root = compose(text, &mut Mistakes::default()).expect("the text is YAML");
        let hidden: Vec<_> =
            find(&root).into_iter().map(|span| &text[span.start as usize..span.end as usize]).collect();
        assert_eq!(hidden, ["hunter2", "bearer hunter3", "x", "https://node/v1/abc", "http://user:pw@host"]);
    }
}
