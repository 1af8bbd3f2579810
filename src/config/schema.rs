//! The JSON Schema of the file, for editors.
//!
//! It is written beside the reader instead of being derived from types, because the reader takes the file from a tree.
//! Every mapping of it is made from the same list of keys that the reader checks, so the two cannot drift apart.

use serde_json::{Map, Value, json};

use super::keys::{self, Section};

/// The schema (draft 2020-12) of exactly the keys that this version reads.
pub fn schema() -> Value {
    let mut schema = object(
        &keys::FILE,
        &["version", "public_url", "pay_to"],
        json!({
            "version": {"const": 1, "description": "Which rules the file is written for."},
            "public_url": described("#/$defs/reference", "What clients call the gateway: a scheme and a host."),
            "listen": listen(),
            "status": described("#/$defs/socket", "Where /livez, /readyz and /metrics answer, or `none`."),
            "admin": object(
                &keys::ADMIN,
                &["address"],
                json!({
                    "address": {"type": "string", "examples": ["unix:/run/tollhouse/admin.sock", "127.0.0.1:9403"]},
                    "token": described("#/$defs/secret", "What operators show. A port needs one."),
                }),
            ),
            "upstream": described("#/$defs/upstream_name", "Where requests go, unless a route says otherwise."),
            "upstreams": mapping_of(upstream()),
            "pay_to": pay_to(),
            "networks": mapping_of(network()),
            "facilitators": {
                "type": "array",
                "items": facilitator(),
                "description": "Who settles payments; tried in this order.",
            },
            "breaker": object(
                &keys::BREAKER,
                &[],
                json!({
                    "open_after": {"type": "integer", "minimum": 1, "maximum": 100},
                    "half_open_after": {"$ref": "#/$defs/duration"},
                }),
            ),
            "caps": object(
                &keys::CAPS,
                &[],
                json!({
                    "max_price": described("#/$defs/dollars", "No route may ask more. $10 unless it is said."),
                    "unsettled_total": described("#/$defs/dollars", "Above it nobody is let through until money is settled."),
                    "unsettled_per_payer": described("#/$defs/dollars", "The same for each payer."),
                    "per_payer_per_day": described("#/$defs/dollars", "What one payer may spend from midnight to midnight, UTC."),
                    "unpaid_per_client": described("#/$defs/rate", "How many prices a client may ask for and not pay."),
                    "connections": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 1_000_000,
                        "description": "How many connections clients may have open, all together.",
                    },
                    "connections_per_client": at_once("How many connections one client may have open; more are closed."),
                }),
            ),
            "trusted_proxies": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "examples": ["10.0.0.0/8", "unix:"]},
                "description": "Whose X-Forwarded-For and -Proto count: addresses, and `unix:` for whoever comes by a Unix socket.",
            },
            "screening": screening(),
            "ledger": ledger(),
            "defaults": {"$ref": "#/$defs/defaults"},
            "routes": {"$ref": "#/$defs/routes"},
            "hosts": mapping_of(host()),
            "log": log(),
            "shutdown": object(
                &keys::SHUTDOWN,
                &[],
                json!({
                    "delay": described("#/$defs/duration", "How long connections are taken after SIGTERM."),
                    "grace": described("#/$defs/duration", "How long requests under way may take to end after that."),
                }),
            ),
        }),
    );
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("gateway.yaml");
    schema["$defs"] = definitions();
    schema
}

/// A mapping with the keys of a section. `properties` has one schema for each.
fn object(section: &Section, required: &[&str], properties: Value) -> Value {
    debug_assert!(
        properties.as_object().is_some_and(
            |own| own.len() == section.known.len() && section.known.iter().all(|key| own.contains_key(*key))
        ),
        "the schema of {} has other keys than the reader",
        section.name
    );
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn mapping_of(values: Value) -> Value {
    json!({"type": "object", "additionalProperties": values})
}

fn described(reference: &str, description: &str) -> Value {
    json!({"$ref": reference, "description": description})
}

fn either(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({"anyOf": schemas.into_iter().collect::<Vec<_>>()})
}

fn definitions() -> Value {
    let text = |pattern: &str, example: &str| json!({"type": "string", "pattern": pattern, "examples": [example]});
    let from = |key: &str| {
        let properties: Map<_, _> = [(key.to_owned(), json!({"type": "string"}))].into_iter().collect();
        json!({"type": "object", "properties": properties, "required": [key], "additionalProperties": false})
    };
    json!({
        "money": text(r"^(\$[0-9]+(\.[0-9]+)?|[0-9]+(\.[0-9]+)? [A-Za-z][!-~]*)$", "$0.01"),
        "dollars": text(r"^\$[0-9]+(\.[0-9]+)?$", "$10"),
        "duration": text(r"^[0-9]+(ms|s|m|h|d)$", "30s"),
        "size": text(r"^[0-9]+(B|KiB|MiB|GiB|KB|kB|MB|GB)$", "1MiB"),
        "rate": text(r"^([1-9][0-9]* per [0-9]+(ms|s|m|h|d)|none)$", "50 per 1s"),
        "account": text(r"^0x[0-9A-Fa-f]{40}$", "0x1111111111111111111111111111111111111111"),
        "socket": {"type": "string", "examples": ["0.0.0.0:8402"]},
        "place": {"type": "string", "examples": ["0.0.0.0:8402", "unix:/run/tollhouse/http.sock"]},
        "upstream_name": {"type": "string", "examples": ["http://127.0.0.1:3000"]},
        "reference": either([json!({"type": "string"}), from("env")]),
        "secret": either([from("env"), from("file")]),
        "secret_file": from("file"),
        "node": either([json!({"type": "string"}), from("env"), from("file")]),
        "settle": {"enum": ["on_response", "before_forward"]},
        "strip_prefix": {
            "type": "string",
            "description": "What is taken off the path before it is forwarded, or none.",
            "examples": ["/api"],
        },
        "add_prefix": {
            "type": "string",
            "description": "What is put in front of the path before it is forwarded, or none.",
            "examples": ["/internal"],
        },
        "encoded_slash": {
            "enum": ["refuse", "keep"],
            "description": "What becomes of a %2F in a path: 400, or it stays a part of its segment.",
        },
        "replay": {"enum": ["refuse", "redeliver", "same_answer"]},
        "limits": limits(),
        "defaults": defaults(),
        "price": price(),
        "route": route(),
        "routes": {
            "type": "object",
            "propertyNames": {"pattern": "^([A-Z]+(\\|[A-Z]+)* )?/"},
            "additionalProperties": {"$ref": "#/$defs/route"},
            "description": "What each route costs. The more specific one wins; order does not matter.",
        },
    })
}

fn listen() -> Value {
    let file = || json!({"$ref": "#/$defs/secret_file"});
    let certificate = object(&keys::CERTIFICATE, &["cert", "key"], json!({"cert": file(), "key": file()}));
    let tls = object(
        &keys::TLS,
        &[],
        json!({
            "cert": file(),
            "key": file(),
            "certificates": {
                "type": "array",
                "minItems": 1,
                "items": certificate,
                "description": "Several, chosen by the host that a client names; the first for all others.",
            },
            "min_version": {"enum": ["1.2", "1.3"]},
        }),
    );
    let timeouts = object(
        &keys::LISTENER_TIMEOUTS,
        &[],
        json!({
            "head": described("#/$defs/duration", "How long the head of a request may take, from its beginning."),
            "idle": described("#/$defs/duration", "How long a connection may wait for its next request."),
        }),
    );
    let one = object(
        &keys::LISTENER,
        &["address"],
        json!({
            "address": {"$ref": "#/$defs/place"},
            "mode": {
                "type": "string",
                "examples": ["0660"],
                "description": "Who may connect to a Unix socket: the mode of its file, by default its owner alone.",
            },
            "tls": tls,
            "h2c": {"type": "boolean", "description": "Whether HTTP/2 is spoken without TLS."},
            "proxy_protocol": {
                "enum": ["v1", "v2", "any"],
                "description": "How trusted_proxies say whose connection it is, before TLS.",
            },
            "timeouts": timeouts,
        }),
    );
    let any = || either([json!({"$ref": "#/$defs/place"}), one.clone()]);
    either([any(), json!({"type": "array", "items": any()})])
}

fn upstream() -> Value {
    let duration = || json!({"$ref": "#/$defs/duration"});
    let reference = || json!({"$ref": "#/$defs/reference"});
    let file = || json!({"$ref": "#/$defs/secret_file"});
    let count = || json!({"type": "integer", "minimum": 1, "maximum": 100});
    let targets = json!({"type": "array", "minItems": 1, "items": reference()});
    let timeouts = object(
        &keys::UPSTREAM_TIMEOUTS,
        &[],
        json!({"connect": duration(), "first_byte": duration(), "idle": duration()}),
    );
    let health = object(
        &keys::UPSTREAM_HEALTH,
        &["path"],
        json!({
            "path": {"type": "string", "pattern": "^/", "examples": ["/healthz"]},
            "every": duration(),
            "unhealthy_after": count(),
            "healthy_after": count(),
        }),
    );
    let auth = object(
        &keys::UPSTREAM_AUTH,
        &["header", "value"],
        json!({"header": {"type": "string", "examples": ["Authorization"]}, "value": {"$ref": "#/$defs/secret"}}),
    );
    let tls = object(
        &keys::UPSTREAM_TLS,
        &[],
        json!({
            "ca": file(),
            "server_name": {"type": "string"},
            "verify": {"type": "boolean"},
            "cert": file(),
            "key": file(),
        }),
    );
    object(
        &keys::UPSTREAM,
        &["targets"],
        json!({
            "targets": targets,
            "balance": {"enum": ["round_robin", "least_connections", "hash"]},
            "health": health,
            "timeouts": timeouts,
            "retry": {"enum": ["connect_error", "never"]},
            "host": {"type": "string", "examples": ["preserve", "upstream", "api.internal"]},
            "auth": auth,
            "tls": tls,
            "http2": {"type": "boolean"},
        }),
    )
}

fn pay_to() -> Value {
    let account = || json!({"$ref": "#/$defs/account"});
    let assets = json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    let chosen = object(&keys::PAYEE, &["address"], json!({"address": account(), "assets": assets}));
    let networks = json!({"type": "object", "minProperties": 1, "additionalProperties": either([account(), chosen])});
    either([json!({"const": "sandbox"}), networks])
}

fn network() -> Value {
    let text = || json!({"type": "string"});
    let domain = object(&keys::EIP712, &["name", "version"], json!({"name": text(), "version": text()}));
    let asset = object(
        &keys::ASSET,
        &["address", "decimals", "eip712"],
        json!({
            "address": {"$ref": "#/$defs/account"},
            "decimals": {"type": "integer", "minimum": 0, "maximum": 36},
            "peg": {"enum": ["usd"]},
            "eip712": domain,
            "permit2": {"type": "boolean", "description": "The token has no EIP-3009; payers pay through Permit2."},
        }),
    );
    object(
        &keys::NETWORK,
        &[],
        json!({
            "chain": {"type": "string", "pattern": "^eip155:[1-9][0-9]*$"},
            "testnet": {"type": "boolean", "description": "Money on it is not real."},
            "explorer": {"type": "string", "description": "Where a person can look at a transaction; with {tx}."},
            "rpc": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            "wallets": {
                "enum": ["refuse", "accept"],
                "description": "Whether contract wallets may pay: a node or facilitator is asked what they signed.",
            },
            "factories": {
                "type": "array",
                "items": {"$ref": "#/$defs/account"},
                "description": "Who may create a wallet with our gas when it pays for the first time.",
            },
            "confirmations": object(
                &keys::CONFIRMATIONS,
                &[],
                json!({
                    "blocks": {"type": "integer", "minimum": 1, "maximum": 600},
                    "safe_above": described("#/$defs/money", "From above this on, only a safe block counts."),
                    "two_nodes_from": described("#/$defs/money", "From this on, only what two nodes agree on counts."),
                }),
            ),
            "assets": mapping_of(asset),
        }),
    )
}

fn facilitator() -> Value {
    let secret = || json!({"$ref": "#/$defs/secret"});
    let duration = || json!({"$ref": "#/$defs/duration"});
    let cdp = object(&keys::CDP, &["key_id", "secret"], json!({"key_id": secret(), "secret": secret()}));
    let timeout = object(&keys::FACILITATOR_TIMEOUT, &[], json!({"verify": duration(), "settle": duration()}));
    let keystore = object(
        &keys::KEYSTORE,
        &["keystore", "password"],
        json!({"keystore": {"$ref": "#/$defs/secret_file"}, "password": secret()}),
    );
    let local = object(
        &keys::LOCAL,
        &["rpc", "signer"],
        json!({
            "rpc": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/node"}},
            "signer": either([secret(), keystore]),
            "max_gas_price": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? (gwei|wei)$"},
            "coin_price": described("#/$defs/dollars", "What a whole coin of the network costs. Prices below gas are not sold."),
            "alarm_below": {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? (ETH|coin|gwei|wei)$"},
        }),
    );
    object(
        &keys::FACILITATOR,
        &["name"],
        json!({
            "name": {"type": "string"},
            "url": {"type": "string", "pattern": "^https?://"},
            "networks": {"type": "array", "items": {"type": "string"}},
            "auth": object(&keys::AUTH, &[], json!({"bearer": secret(), "cdp": cdp})),
            "timeout": timeout,
            "trust": {"enum": ["verify", "facilitator"]},
            "local": local,
        }),
    )
}

fn screening() -> Value {
    let texts = || json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    let ranges = |description: &str| {
        let mut ranges = texts();
        ranges["description"] = json!(description);
        ranges["items"]["examples"] = json!(["203.0.113.0/24"]);
        ranges
    };
    let list = object(
        &keys::SCREENED_LIST,
        &["file"],
        json!({
            "file": {"type": "string", "description": "One address a line; # begins a comment."},
            "max_age": described("#/$defs/duration", "How old the file may become."),
        }),
    );
    let payers = object(
        &keys::SCREENED_PAYERS,
        &["deny"],
        json!({
            "deny": {"type": "array", "minItems": 1, "items": list, "description": "Who neither pays nor is paid."},
            "when_stale": {"enum": ["deny", "warn"]},
        }),
    );
    let countries = object(
        &keys::SCREENED_COUNTRIES,
        &["header", "from", "deny"],
        json!({
            "header": {"type": "string", "description": "The field that names the country.", "examples": ["CF-IPCountry"]},
            "from": ranges("The proxies whose word it is."),
            "deny": texts(),
        }),
    );
    let clients = object(
        &keys::SCREENED_CLIENTS,
        &[],
        json!({"allow": ranges("Only these are sold to."), "deny": ranges("These never are.")}),
    );
    object(&keys::SCREENING, &[], json!({"payers": payers, "countries": countries, "clients": clients}))
}

fn ledger() -> Value {
    let short = json!({"type": "string", "pattern": "^(memory$|sqlite:.)"});
    let postgres = object(&keys::POSTGRES, &["url"], json!({"url": {"$ref": "#/$defs/secret"}}));
    let mut long = object(
        &keys::LEDGER,
        &[],
        json!({"sqlite": {"type": "string"}, "single_instance": {"type": "boolean"}, "postgres": postgres}),
    );
    long["minProperties"] = json!(1);
    either([short, long])
}

fn limits() -> Value {
    let whose = |description: &str| json!({"enum": ["client", "payer", "route"], "description": description});
    object(
        &keys::LIMITS,
        &[],
        json!({
            "request_body": {"$ref": "#/$defs/size"},
            "timeout": {"$ref": "#/$defs/duration"},
            "rate": described("#/$defs/rate", "How many requests may come in a time; above it 429."),
            "rate_by": whose("Whose requests count together for the rate."),
            "concurrency": at_once("How many requests may be under way at once; above it 429."),
            "concurrency_by": whose("Whose requests count together for the concurrency."),
        }),
    )
}

fn at_once(description: &str) -> Value {
    json!({
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 1_000_000}, {"const": "none"}],
        "description": description,
    })
}

fn defaults() -> Value {
    object(
        &keys::DEFAULTS,
        &[],
        json!({
            "settle": {"$ref": "#/$defs/settle"},
            "replay": {"$ref": "#/$defs/replay"},
            "offer_ttl": described("#/$defs/duration", "How long a quoted price is honoured after it changed."),
            "trailing_slash": {
                "enum": ["distinct", "same"],
                "description": "Whether a path with a slash at its end is another path.",
            },
            "encoded_slash": {"$ref": "#/$defs/encoded_slash"},
            "strip_prefix": {"$ref": "#/$defs/strip_prefix"},
            "add_prefix": {"$ref": "#/$defs/add_prefix"},
            "limits": {"$ref": "#/$defs/limits"},
            "browser": {"enum": ["none"]},
        }),
    )
}

fn price() -> Value {
    let by_network = json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"$ref": "#/$defs/money"},
    });
    either([json!({"$ref": "#/$defs/money"}), json!({"enum": ["free", "deny"]}), by_network])
}

fn route() -> Value {
    let account = || json!({"$ref": "#/$defs/account"});
    let mut websocket = object(
        &keys::WEBSOCKET,
        &["lasts", "bytes"],
        json!({"lasts": {"$ref": "#/$defs/duration"}, "bytes": {"$ref": "#/$defs/size"}}),
    );
    websocket["description"] = json!("What one payment buys of a WebSocket; without it none are sold.");
    let terms = object(
        &keys::ROUTE,
        &["price"],
        json!({
            "price": {"$ref": "#/$defs/price"},
            "pay_to": either([account(), mapping_of(account())]),
            "description": {"type": "string"},
            "mime_type": {"type": "string"},
            "settle": {"$ref": "#/$defs/settle"},
            "replay": {"$ref": "#/$defs/replay"},
            "upstream": {"$ref": "#/$defs/upstream_name"},
            "strip_prefix": {"$ref": "#/$defs/strip_prefix"},
            "add_prefix": {"$ref": "#/$defs/add_prefix"},
            "encoded_slash": {"$ref": "#/$defs/encoded_slash"},
            "limits": {"$ref": "#/$defs/limits"},
            "websocket": websocket,
        }),
    );
    either([json!({"$ref": "#/$defs/money"}), json!({"enum": ["free", "deny"]}), terms])
}

fn host() -> Value {
    object(
        &keys::HOST,
        &["public_url", "routes"],
        json!({
            "public_url": {"$ref": "#/$defs/reference"},
            "upstream": {"$ref": "#/$defs/upstream_name"},
            "defaults": {"$ref": "#/$defs/defaults"},
            "routes": {"$ref": "#/$defs/routes"},
        }),
    )
}

fn log() -> Value {
    object(
        &keys::LOG,
        &[],
        json!({
            "format": {"enum": ["auto", "human", "json"]},
            "level": {"enum": ["error", "warn", "info", "debug", "trace"]},
            "access": {"type": "boolean"},
            "payer": {"enum": ["hash", "full", "none"]},
            "query": {"enum": ["drop", "keep"]},
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keys of every mapping with fixed keys, wherever it stands.
    fn mappings(schema: &Value, found: &mut BTreeSet<Vec<String>>) {
        match schema {
            Value::Object(members) => {
                let fixed = members.get("additionalProperties") == Some(&json!(false));
                if let (true, Some(Value::Object(own))) = (fixed, members.get("properties")) {
                    found.insert(own.keys().cloned().collect());
                }
                members.values().for_each(|member| mappings(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| mappings(item, found)),
            _ => {}
        }
    }

    #[test]
    fn reader_and_schema_know_the_same_keys() {
        let mut in_schema = BTreeSet::new();
        mappings(&schema(), &mut in_schema);
        let sorted =
            |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>().into_iter().collect();
        let mut in_reader: BTreeSet<Vec<String>> = keys::ALL.iter().map(|section| sorted(section.known)).collect();
        in_reader.extend([vec!["env".to_owned()], vec!["file".to_owned()]]);
        assert_eq!(in_schema, in_reader);
    }

    #[test]
    fn what_is_not_built_is_not_in_the_schema() {
        for section in keys::ALL {
            assert!(section.later.iter().all(|key| !section.known.contains(key)), "{} lists a key twice", section.name);
        }
    }
}
