//! Every code an error can carry, and what it means. A code is never given to another meaning.

/// What a kind of mistake is called, and a line about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `TH1003`.
    pub id: &'static str,
    /// Why it is refused, for `explain`.
    pub explanation: &'static str,
}

impl Code {
    /// The code with this name.
    pub fn find(id: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|code| code.id.eq_ignore_ascii_case(id))
    }
}

macro_rules! codes {
    ($($name:ident $id:literal $explanation:literal)*) => {
        $(pub(super) static $name: Code = Code { id: $id, explanation: $explanation };)*

        /// All of them, in order.
        pub static ALL: &[&Code] = &[$(&$name),*];
    };
}

codes! {
    // The file.
    YAML "TH1001" "The file is not YAML, or not one document of it. Nothing after the place can be read."
    SHAPE "TH1002" "A list stands where a mapping belongs, a mapping where a text belongs, or the like."
    UNIT "TH1003" "A price names its unit: 0.01 could be a cent or a hundredth of a token's smallest unit."
    EXPONENT "TH1004" "A price is written in plain decimals. 1e-07 is usually what another tool made of an unquoted number."
    SEPARATOR "TH1005" "A price has no thousands separators: a comma is a decimal point to half of its readers."
    SPACE "TH1006" "Amount and asset are two words: 0.01 USDC."
    PRICE "TH1007" "The value is not a price, `free` or `deny`."
    TOO_FINE "TH1008" "The price is finer than the asset's smallest unit. Rounding would charge something else than is written."
    ZERO "TH1009" "A price of nothing is written `free`, so that a reviewer sees that a route is given away."
    UNKNOWN_FIELD "TH1010" "No such key. Unknown keys are refused, because ignoring one could open a route."
    NOT_SUPPORTED "TH1011" "The key or value belongs to the design but is not built yet. It is refused rather than ignored."
    DUPLICATE_KEY "TH1012" "A mapping has the same key twice, and YAML parsers disagree about which one counts."
    EMPTY "TH1013" "A key without a value. Leave the key out to get its default."
    MISSING "TH1014" "A key that has no default is not there."
    VERSION "TH1015" "`version: 1` says which rules the file was written for."
    DURATION "TH1016" "A duration names its unit: 250ms, 30s, 5m, 1h or 7d."
    SIZE "TH1017" "A size names its unit: 512B, 64KiB, 1MiB or 10MB."
    LISTEN "TH1018" "Addresses to listen at are an IP address and a port: 0.0.0.0:8402."
    ACCOUNT "TH1019" "An account or contract is `0x` and 40 hexadecimal digits."
    CHECKSUM "TH1020" "The letters' case carries a checksum (EIP-55), and it does not fit: a digit is wrong, or the case is."
    ZERO_ADDRESS "TH1021" "Money sent to the zero address is lost."
    INLINE_SECRET "TH1022" "Secrets stay out of the file: it is reviewed, copied and logged."
    NOT_LITERAL "TH1023" "What a reviewer approves is what is charged, so this value is written out."
    WORD "TH1024" "The value is not one of the words that are possible here."
    URL "TH1025" "The value is not a URL of the kind that is needed here."
    TOO_LARGE "TH1026" "The file is larger than any gateway needs; a limit keeps a bad one from taking the memory."
    YAML_FEATURE "TH1027" "Tags and merge keys hide what a line means from its reviewer."
    NUMBER "TH1028" "The value is not a whole number in the range that is possible here."
    UNQUOTED "TH1029" "Other YAML tools read an unquoted 0x1111… as a number and write it back as another one."
    GAS_PRICE "TH1030" "A gas price is an amount and its unit: 0.05 gwei."
    RANGE "TH1031" "The value is outside of what makes sense here."
    COIN "TH1032" "An amount of a network's coin names its unit: 0.002 ETH."
    RATE "TH1033" "A rate is a number of requests and the time they may come in: 50 per 1s."
    COIN_PRICE "TH1034" "What a network's coin costs is an amount of dollars: $3500."

    // The routes, and policy.
    NETWORK "TH2001" "The network is none that tollhouse knows and none of the file's `networks`."
    NOT_PAID_ON "TH2002" "The network is not one of `pay_to`, so nobody would receive the money."
    ASSET "TH2003" "The network has no such asset."
    NO_OFFER "TH2005" "No asset of `pay_to` can be paid in the unit of this price."
    NO_FACILITATOR "TH2006" "Nobody would settle payments on this network."
    SANDBOX "TH2007" "Play money and real facilitators do not share a file."
    INSECURE "TH2008" "Payment headers are money: on a live network they travel over https only."
    FORGETFUL "TH2009" "A ledger in memory forgets what was paid, and real money could be charged twice."
    OWN_KEY "TH2010" "The gateway must not hold the key of an account that it collects money for (S59)."
    UPSTREAM "TH2011" "No upstream has this name."
    NO_UPSTREAM "TH2012" "A route that lets requests through has to say where to."
    FACILITATOR "TH2013" "The facilitators contradict each other or the networks."
    HOST "TH2014" "A host is a DNS name or address without a port, and each has one table."
    NETWORK_TWICE "TH2015" "A network is described or paid on twice."
    LISTEN_TWICE "TH2016" "Two listeners cannot share an address."
    NO_NODE "TH2017" "`trust: verify` and `confirmations` look at the chain, and that needs a node of the network; `two_nodes_from` needs two."
    NO_ROUTES "TH2018" "What is not listed is not for sale, and nothing is listed."
    LEDGER "TH2019" "A ledger is a file or a database, and only a file can have a single user."
    CAP "TH2020" "The price is above a cap, or the cap is not an amount of dollars."
    SCREENING "TH2021" "A rule about who is not sold to, or whose word about clients counts, is none: a range, a country, or a proxy that anybody could be."
    WALLETS "TH2022" "Factories create contract wallets, and on this network those are refused."
    IDLE_LIMIT "TH2023" "A limit by payer on a route that nobody pays for limits nobody."
    WEBSOCKET "TH2024" "An upgraded connection is sold as one answer that is never repeated, for a time and a number of bytes."
    BACKEND "TH2026" "What is said of an upstream contradicts itself, or the files for its TLS do not hold what they should."
    UNVERIFIED "TH2027" "Without a look at its certificate anybody on the way can be the backend: read what was paid for, and the gateway's credential."
    NO_PROXIES "TH2028" "Only proxies that are trusted may say whose connection it is, so without any nobody could connect."
    CROSSING "TH2101" "Two routes match a common request and neither is more specific, so the price would be a matter of taste."
    DUPLICATE_ROUTE "TH2102" "Two lines name the same route."
    SAME_METHOD "TH2103" "Two routes on the same path name the same method, and neither is more specific."
    LOOSENED "TH2104" "A narrower path is cheaper or more open than a broader one for some method."
    ROUTE_KEY "TH2105" "A route is written METHOD /path, METHOD|METHOD /path or /path."
    UNDERCUT "TH2106" "A cheaper route takes requests that many backends answer like those of a dearer one."
    PREFIX "TH2107" "A prefix is whole segments, and what is taken off is in front of every path of the route."
    DETOUR "TH2108" "A rewritten path leads to what another route sells at the backend, for less."
    REPLICAS "TH2203" "In Kubernetes every replica would keep its own ledger, and one payment could buy once at each."

    // The environment.
    UNSET "TH3001" "The environment variable is not set."
    EMPTY_SECRET "TH3002" "The secret is empty."
    UNREADABLE "TH3003" "The file of a secret cannot be read."
    OPEN_FILE "TH3004" "Everybody on the machine can read the file of a secret."
    BAD_SECRET "TH3005" "The secret is not of the form that is needed here. It is not shown."
    NO_FILE "TH3006" "The configuration file cannot be read."
    LIST "TH3007" "A list of addresses is not there, is empty, or has a line that is none. Without it nobody would be kept out."
    STALE "TH3008" "A list of addresses is older than its `max_age`: nobody knows who should be on it by now."
    CERTIFICATE "TH3009" "A certificate and its key cannot be read, are none, or do not belong together."

    // Facilitators and chains.
    DUST "TH4001" "A settlement may cost more in gas than the route asks for it."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_mistakes_share_a_code() {
        assert!(ALL.windows(2).all(|pair| pair[0].id < pair[1].id), "codes stand in order, each once");
        assert_eq!(Code::find("th1003"), Some(&UNIT));
    }
}
