//! What can be said on the command line of `pay`, checked before anything is sent.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use http::{HeaderName, HeaderValue};
use url::Url;

use crate::facilitator::sandbox::{MAGIC_PAYERS, MagicPayer};
use crate::protocol::x402::{PAYMENT_SIGNATURE, X_PAYMENT};

/// Whether it leads to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Something this client can fetch.
pub(super) fn web_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write http://… or https://…"))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("write http://… or https://…".to_owned()) }
}

/// `Name: value`. The fields that pay are ours to write.
pub(super) fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write 'Name: value'")?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| error.to_string())?;
    if [PAYMENT_SIGNATURE, X_PAYMENT].contains(&name) {
        return Err(format!("{name} is written by this command"));
    }
    let value = HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// One of the sandbox's payers, by name.
pub(super) fn magic_payer() -> impl clap::builder::TypedValueParser<Value = &'static MagicPayer> {
    PossibleValuesParser::new(MAGIC_PAYERS.iter().map(|payer| payer.name))
        .try_map(|name| MAGIC_PAYERS.iter().find(|payer| payer.name == name).ok_or("no such payer"))
}
