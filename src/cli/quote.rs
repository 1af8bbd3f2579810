//! `tollhouse quote`: what a request costs, and which line of the file says so. Asks nobody.

use std::fmt::Write as _;

use clap::Args;
use http::Method;

use super::{ConfigFile, Shape, Verdict, out};
use crate::config::{self, Format};
use crate::proxy::lookup;
use crate::proxy::target::{Ambiguous, canonical_host};
use crate::tariff::{Charge, Found, Route, Tariff, Toll};

#[derive(Debug, Args)]
pub(super) struct Quote {
    /// The method
    method: String,
    /// The URL, or only its path
    url: String,
    /// Also say which line decides, and which lines it beats
    #[arg(long)]
    why: bool,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    file: ConfigFile,
}

impl Quote {
    pub(super) fn execute(self) -> Verdict {
        let loaded = config::load(&self.file.path());
        let Some(config) = &loaded.config else {
            let report = loaded.report.render(Format::Human, super::colourful(&std::io::stderr()));
            out::speak(format_args!("{report}"));
            return Verdict::about_file(loaded.was_read());
        };
        match self.answer(&config.live.tariff) {
            Ok(answer) => {
                out::write(format_args!("{answer}"));
                Verdict::Yes
            }
            Err(why) => {
                talk!("tollhouse: {why}");
                Verdict::No
            }
        }
    }

    fn answer(&self, tariff: &Tariff) -> Result<String, String> {
        let method = Method::from_bytes(self.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| format!("`{}` is not a method", self.method))?;
        let (host, target) = split(&self.url)?;
        let target = lookup::read(tariff, target.as_bytes()).map_err(|why| format!("400  {why}"))?;
        let found = lookup::find(tariff, host.as_deref(), &method, &target);
        if matches!(found, Found::EncodedSlash) {
            return Err(format!("400  {}", Ambiguous::Slash));
        }
        let (status, route) = match found {
            Found::Route { route, .. } => (status_of(&route.charge), Some(route)),
            Found::Unlisted => ("404", None),
            Found::UnknownHost => ("421", None),
            Found::Ambiguous | Found::EncodedSlash => ("400", None),
        };
        Ok(match self.format {
            Shape::Human => {
                let told = self.human(tariff, host.as_deref(), &method, status, route.map(|route| &**route));
                let rewrite = route.filter(|_| self.why).and_then(|route| route.rewrite.as_ref());
                let asked_for =
                    rewrite.map(|rewrite| format!("as        {}\n", rewrite.apply(target.path_and_query())));
                told + &asked_for.unwrap_or_default()
            }
            Shape::Json => json(status, route.map(|route| &**route)),
        })
    }

    fn human(
        &self,
        tariff: &Tariff,
        host: Option<&str>,
        method: &Method,
        status: &str,
        route: Option<&Route>,
    ) -> String {
        let mut text = String::new();
        let meaning = match route.map(|route| &route.charge) {
            None if status == "404" => "not listed, so not for sale and never forwarded".to_owned(),
            None if status == "421" => "this host is not listed".to_owned(),
            None => {
                "the path differs from a listed one only in the case or form of its letters, or in how a segment ends"
                    .to_owned()
            }
            Some(Charge::Free) => "free".to_owned(),
            Some(Charge::Deny) => "deny: never forwarded".to_owned(),
            Some(Charge::Toll(toll)) => prices(toll),
        };
        let _ = writeln!(text, "{status}  {meaning}");
        let Some(route) = route.filter(|_| self.why) else { return text };
        let _ = writeln!(text, "route     {:<40} {}", route.key.0, route.place);
        for beaten in tariff.beaten_by(host, route, method) {
            let _ = writeln!(text, "  beats   {:<40} {}   {}", beaten.key.0, beaten.place, beaten.charge);
        }
        if let Charge::Toll(toll) = &route.charge {
            let _ = writeln!(text, "settle    {}", toll.settle.as_str());
            let _ = writeln!(text, "replay    {}", toll.replay.as_str());
            let _ = writeln!(text, "hold      {} s", toll.hold.as_secs());
            for offer in &toll.offers {
                let _ = writeln!(text, "pays      {} {} to {}", offer.price(), offer.network.name, offer.pay_to);
            }
        }
        let _ = writeln!(text, "upstream  {}", route.upstream);
        text
    }
}

fn status_of(charge: &Charge) -> &'static str {
    match charge {
        Charge::Free => "200",
        Charge::Deny => "404",
        Charge::Toll(_) => "402",
    }
}

/// `$0.05 on base (50000 USDC units)  or  $0.06 on polygon (60000 USDC units)`
fn prices(toll: &Toll) -> String {
    let price = |offer: &crate::payment::Offer| {
        format!("{} on {} ({} {} units)", offer.price(), offer.network.name, offer.amount, offer.asset.symbol)
    };
    toll.offers.iter().map(price).collect::<Vec<_>>().join("  or  ")
}

fn json(status: &str, route: Option<&Route>) -> String {
    let offers = route.and_then(|route| match &route.charge {
        Charge::Toll(toll) => Some(toll),
        Charge::Free | Charge::Deny => None,
    });
    let offers: Vec<_> = offers
        .iter()
        .flat_map(|toll| &toll.offers)
        .map(|offer| {
            serde_json::json!({
                "price": offer.price(),
                "amount": offer.amount,
                "asset": offer.asset.address,
                "network": offer.network.id,
                "payTo": offer.pay_to.0,
            })
        })
        .collect();
    let quote = serde_json::json!({
        "status": status.parse::<u16>().unwrap_or_default(),
        "route": route.map(|route| &*route.key.0),
        "place": route.map(|route| route.place.to_string()),
        "offers": offers,
    });
    format!("{quote}\n")
}

/// The host and the target of a URL; a path alone has no host.
fn split(url: &str) -> Result<(Option<String>, String), String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        return if url.starts_with('/') {
            Ok((None, url.to_owned()))
        } else {
            Err(format!("`{url}` is neither a URL nor a path"))
        };
    };
    let (authority, target) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let host = canonical_host(authority).ok_or_else(|| format!("`{authority}` is not a host"))?;
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok((Some(host.into_owned()), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_splits_into_host_and_target() {
        assert_eq!(split("/v1/x?q=1"), Ok((None, "/v1/x?q=1".into())));
        assert_eq!(split("https://API.example.com:8443/v1"), Ok((Some("api.example.com".into()), "/v1".into())));
        assert_eq!(split("http://localhost"), Ok((Some("localhost".into()), "/".into())));
        assert!(split("v1/x").is_err());
    }
}
