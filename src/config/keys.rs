//! The keys of every section: what the reader takes, what the schema shows, what is planned but not built.

/// A mapping with fixed keys.
#[derive(Debug)]
pub(super) struct Section {
    /// As in "unknown field `prise` in a route".
    pub name: &'static str,
    /// What it may hold.
    pub known: &'static [&'static str],
    /// What the design gives it and this version refuses: ignoring `caps:` would be worse than not having it.
    pub later: &'static [&'static str],
}

const fn section(name: &'static str, known: &'static [&'static str], later: &'static [&'static str]) -> Section {
    Section { name, known, later }
}

pub(super) static FILE: Section = section(
    "the file",
    &[
        "version",
        "public_url",
        "listen",
        "status",
        "admin",
        "upstream",
        "upstreams",
        "pay_to",
        "networks",
        "facilitators",
        "breaker",
        "caps",
        "trusted_proxies",
        "screening",
        "ledger",
        "defaults",
        "routes",
        "hosts",
        "log",
        "shutdown",
    ],
    &["mode", "include", "effective_at", "retention", "traces", "metrics"],
);
pub(super) static LISTENER: Section =
    section("a listener", &["address", "mode", "tls", "h2c", "proxy_protocol", "timeouts"], &[]);
pub(super) static LISTENER_TIMEOUTS: Section = section("`timeouts`", &["head", "idle"], &[]);
pub(super) static TLS: Section = section("`tls`", &["cert", "key", "certificates", "min_version"], &["client_ca"]);
pub(super) static CERTIFICATE: Section = section("a certificate", &["cert", "key"], &[]);
pub(super) static ADMIN: Section = section("`admin`", &["address", "token"], &[]);
pub(super) static UPSTREAM: Section = section(
    "an upstream",
    &["targets", "balance", "health", "timeouts", "retry", "host", "auth", "tls", "http2"],
    &["headers"],
);
pub(super) static UPSTREAM_HEALTH: Section =
    section("`health`", &["path", "every", "unhealthy_after", "healthy_after"], &[]);
pub(super) static UPSTREAM_TIMEOUTS: Section =
    section("an upstream's timeouts", &["connect", "first_byte", "idle"], &[]);
pub(super) static UPSTREAM_AUTH: Section = section("an upstream's `auth`", &["header", "value"], &[]);
pub(super) static UPSTREAM_TLS: Section =
    section("an upstream's `tls`", &["ca", "server_name", "verify", "cert", "key"], &[]);
pub(super) static PAYEE: Section = section("`pay_to`", &["address", "assets"], &[]);
pub(super) static NETWORK: Section = section(
    "a network",
    &["chain", "testnet", "explorer", "rpc", "confirmations", "wallets", "factories", "assets"],
    &[],
);
pub(super) static CONFIRMATIONS: Section = section("`confirmations`", &["blocks", "safe_above", "two_nodes_from"], &[]);
pub(super) static ASSET: Section = section("an asset", &["address", "decimals", "peg", "eip712", "permit2"], &[]);
pub(super) static EIP712: Section = section("`eip712`", &["name", "version"], &[]);
pub(super) static FACILITATOR: Section =
    section("a facilitator", &["name", "url", "networks", "auth", "timeout", "trust", "local"], &["tls", "headers"]);
pub(super) static AUTH: Section = section("`auth`", &["bearer", "cdp"], &["header", "basic"]);
pub(super) static CDP: Section = section("`cdp`", &["key_id", "secret"], &[]);
pub(super) static FACILITATOR_TIMEOUT: Section = section("a facilitator's timeout", &["verify", "settle"], &[]);
pub(super) static LOCAL: Section =
    section("`local`", &["rpc", "signer", "max_gas_price", "alarm_below", "coin_price"], &[]);
pub(super) static KEYSTORE: Section = section("`signer`", &["keystore", "password"], &[]);
pub(super) static BREAKER: Section = section("`breaker`", &["open_after", "half_open_after"], &[]);
pub(super) static CAPS: Section = section(
    "`caps`",
    &[
        "max_price",
        "unsettled_total",
        "unsettled_per_payer",
        "per_payer_per_day",
        "unpaid_per_client",
        "connections",
        "connections_per_client",
    ],
    &[],
);
pub(super) static SCREENING: Section = section("`screening`", &["payers", "countries", "clients"], &[]);
pub(super) static SCREENED_PAYERS: Section = section("`payers`", &["deny", "when_stale"], &[]);
pub(super) static SCREENED_LIST: Section = section("a list", &["file", "max_age"], &[]);
pub(super) static SCREENED_COUNTRIES: Section = section("`countries`", &["header", "from", "deny"], &[]);
pub(super) static SCREENED_CLIENTS: Section = section("`clients`", &["allow", "deny"], &[]);
pub(super) static LEDGER: Section = section("`ledger`", &["sqlite", "single_instance", "postgres"], &[]);
pub(super) static POSTGRES: Section = section("`postgres`", &["url"], &[]);
pub(super) static DEFAULTS: Section = section(
    "`defaults`",
    &[
        "settle",
        "replay",
        "offer_ttl",
        "trailing_slash",
        "encoded_slash",
        "strip_prefix",
        "add_prefix",
        "limits",
        "browser",
    ],
    &["headers", "mode", "discoverable"],
);
pub(super) static LIMITS: Section = section(
    "`limits`",
    &["request_body", "timeout", "rate", "rate_by", "concurrency", "concurrency_by"],
    &["request_header", "parse_body"],
);
pub(super) static ROUTE: Section = section(
    "a route",
    &[
        "price",
        "pay_to",
        "description",
        "mime_type",
        "settle",
        "replay",
        "upstream",
        "strip_prefix",
        "add_prefix",
        "encoded_slash",
        "limits",
        "websocket",
    ],
    &["discoverable", "variants", "meter", "free_quota", "exempt", "pass", "mode", "headers", "browser"],
);
pub(super) static WEBSOCKET: Section = section("`websocket`", &["lasts", "bytes"], &[]);
pub(super) static HOST: Section = section("a host", &["public_url", "upstream", "defaults", "routes"], &["tls"]);
pub(super) static SHUTDOWN: Section = section("`shutdown`", &["delay", "grace"], &[]);
pub(super) static LOG: Section = section("`log`", &["format", "level", "access", "payer", "query"], &[]);

/// Keys of a price that is computed.
pub(super) static COMPUTED_PRICE: [&str; 4] = ["cel", "up_to", "min", "max"];

/// All of them, for the tests that keep reader and schema together.
#[cfg(test)]
pub(super) static ALL: [&Section; 38] = [
    &FILE,
    &LISTENER,
    &LISTENER_TIMEOUTS,
    &TLS,
    &CERTIFICATE,
    &ADMIN,
    &UPSTREAM,
    &UPSTREAM_HEALTH,
    &UPSTREAM_TIMEOUTS,
    &UPSTREAM_AUTH,
    &UPSTREAM_TLS,
    &PAYEE,
    &NETWORK,
    &CONFIRMATIONS,
    &ASSET,
    &EIP712,
    &FACILITATOR,
    &AUTH,
    &CDP,
    &FACILITATOR_TIMEOUT,
    &LOCAL,
    &KEYSTORE,
    &BREAKER,
    &CAPS,
    &SCREENING,
    &SCREENED_PAYERS,
    &SCREENED_LIST,
    &SCREENED_COUNTRIES,
    &SCREENED_CLIENTS,
    &LEDGER,
    &POSTGRES,
    &DEFAULTS,
    &LIMITS,
    &ROUTE,
    &WEBSOCKET,
    &HOST,
    &LOG,
    &SHUTDOWN,
];
