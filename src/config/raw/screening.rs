//! `screening`, as it is written.

use super::{Fields, missing};
use crate::config::keys;
use crate::config::mistake::Mistakes;
use crate::config::source::Span;
use crate::config::tree::Text;

#[derive(Default)]
pub(in crate::config) struct Screening {
    pub lists: Vec<List>,
    pub when_stale: Option<Text>,
    pub countries: Option<Countries>,
    pub clients: Option<Clients>,
}

pub(in crate::config) struct List {
    pub file: Text,
    pub max_age: Option<Text>,
}

pub(in crate::config) struct Countries {
    pub header: Text,
    pub from: Words,
    pub deny: Words,
}

pub(in crate::config) struct Clients {
    pub allow: Option<Words>,
    pub deny: Option<Words>,
}

/// A list of texts, and its key.
pub(in crate::config) struct Words {
    pub key: Span,
    pub texts: Vec<Text>,
}

pub(super) fn screening(file: &Fields<'_>, mistakes: &mut Mistakes) -> Screening {
    let Some(fields) = file.fields("screening", &keys::SCREENING, mistakes) else { return Screening::default() };
    let (lists, when_stale) = payers(&fields, mistakes);
    Screening { lists, when_stale, countries: countries(&fields, mistakes), clients: clients(&fields, mistakes) }
}

fn payers(screening: &Fields<'_>, mistakes: &mut Mistakes) -> (Vec<List>, Option<Text>) {
    let Some(fields) = screening.fields("payers", &keys::SCREENED_PAYERS, mistakes) else { return (Vec::new(), None) };
    let place = screening.key_span("payers");
    let lists = fields.list("deny", mistakes);
    if fields.all_known() && (fields.key_span("deny").is_none() || lists.is_some_and(<[_]>::is_empty)) {
        mistakes
            .add(missing("deny", "`payers`", place).help("write deny: [{file: /etc/tollhouse/lists/sanctions.txt}]"));
    }
    let lists = lists.unwrap_or_default().iter().filter_map(|item| {
        let fields = Fields::of(item, &keys::SCREENED_LIST, mistakes)?;
        if fields.key_span("file").is_none() && fields.all_known() {
            mistakes.add(missing("file", "a list", item.span));
        }
        let max_age = fields.text("max_age", mistakes);
        Some(List { file: fields.text("file", mistakes)?, max_age })
    });
    (lists.collect(), fields.text("when_stale", mistakes))
}

fn countries(screening: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Countries> {
    let fields = screening.fields("countries", &keys::SCREENED_COUNTRIES, mistakes)?;
    let remedies = [
        ("header", "name the field that your proxy sets: header: CF-IPCountry"),
        ("from", "name the proxies whose word it is: from: [10.0.0.0/8]; anybody else could say anything"),
        ("deny", "write deny: [XX]"),
    ];
    for (key, remedy) in remedies {
        if fields.key_span(key).is_none() && fields.all_known() {
            mistakes.add(missing(key, "`countries`", screening.key_span("countries")).help(remedy));
        }
    }
    let header = fields.text("header", mistakes);
    let (from, deny) = (words(&fields, "from", mistakes), words(&fields, "deny", mistakes));
    Some(Countries { header: header?, from: from?, deny: deny? })
}

fn clients(screening: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Clients> {
    let fields = screening.fields("clients", &keys::SCREENED_CLIENTS, mistakes)?;
    if fields.all_known() && fields.key_span("allow").is_none() && fields.key_span("deny").is_none() {
        mistakes.add(missing("deny", "`clients`", screening.key_span("clients")).help("write deny: [203.0.113.0/24]"));
    }
    Some(Clients { allow: words(&fields, "allow", mistakes), deny: words(&fields, "deny", mistakes) })
}

pub(super) fn words(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> Option<Words> {
    Some(Words { key: fields.key_span(key)?, texts: fields.texts(key, mistakes)? })
}
