//! `routes` and `hosts` become the price table.

use std::collections::HashMap;
use std::sync::Arc;

use super::caps::Caps;
use super::facilitators::Resolved;
use super::hosts::{self, PublicUrl};
use super::network::Chains;
use super::payees::{Payees, Whose};
use super::routes::{Inherited, Table};
use super::upstreams::Upstreams;
use super::{Surroundings, dust};
use crate::config::codes::{self, Code};
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, Route};
use crate::config::source::{Source, Span};
use crate::tariff::{self, Collision, Detour, Host, Loosened, Tariff, Through, Undercut};

/// What the price table is made from.
pub(super) struct Tables<'a> {
    pub file: &'a raw::File,
    pub source: &'a Source,
    pub around: &'a Surroundings<'a>,
    pub chains: &'a Chains,
    pub payees: &'a Payees,
    pub facilitators: &'a [Resolved],
    pub caps: Caps,
}

impl Tables<'_> {
    pub(super) fn resolve(
        &self,
        upstreams: &mut Upstreams,
        collected: &mut Whose,
        mistakes: &mut Mistakes,
    ) -> Option<Tariff> {
        let file = self.file;
        let upstream = file.upstream.as_ref().map(|text| upstreams.find(text, mistakes));
        let public_url = file.public_url.as_ref().and_then(|url| self.public_url(url, mistakes));
        let main = Table {
            payees: self.payees,
            facilitators: self.facilitators,
            chains: self.chains,
            source: self.source,
            public_url: public_url.clone(),
            host: None,
            upstream,
            inherited: Inherited::built_in().with(&file.defaults, mistakes),
        };
        let mut tables = Vec::new();
        if let Some(routes) = &file.routes {
            let listed = (!file.hosts.is_empty()).then(|| public_url.as_ref().map(|url| url.host.clone()));
            let routes = main.routes(routes, upstreams, collected, mistakes);
            tables.push(tariff::Table { host: listed.flatten(), slash: main.inherited.slash(), routes });
        }
        self.hosts(&main, public_url.as_ref(), &mut tables, upstreams, collected, mistakes);
        public_url.and_then(|_| self.post(tables, mistakes))
    }

    fn public_url(&self, reference: &raw::Reference, mistakes: &mut Mistakes) -> Option<PublicUrl> {
        let live = !self.payees.live_networks().is_empty();
        hosts::public_url(reference, live, self.around, mistakes)
    }

    fn hosts(
        &self,
        main: &Table<'_>,
        public_url: Option<&PublicUrl>,
        tables: &mut Vec<tariff::Table>,
        upstreams: &mut Upstreams,
        collected: &mut Whose,
        mistakes: &mut Mistakes,
    ) {
        let mut seen: HashMap<Host, Option<Span>> = HashMap::new();
        if let (Some(url), Some(reference), Some(_)) = (public_url, &self.file.public_url, &self.file.routes) {
            seen.insert(url.host.clone(), Some(reference.span()));
        }
        for raw in &self.file.hosts {
            let Some(host) = hosts::host(&raw.name, mistakes) else { continue };
            if let Some(Some(first)) = seen.insert(host.clone(), Some(raw.name.span)) {
                let message = format!("two tables are for {}", host.0);
                mistakes.add(
                    Mistake::error(&codes::HOST, raw.name.span, message)
                        .related(first, "the first is for this host")
                        .help("put their routes into one of them"),
                );
            }
            let public_url = match &raw.public_url {
                Some(url) => self.public_url(url, mistakes),
                None => {
                    mistakes.add(
                        raw::missing("public_url", "a host", raw.name.span)
                            .help(format!("write public_url: https://{}", host.0)),
                    );
                    None
                }
            };
            let own = raw.upstream.as_ref().map(|text| upstreams.find(text, mistakes));
            let table = Table {
                public_url,
                host: Some(host.clone()),
                upstream: own.or_else(|| main.upstream.clone()),
                inherited: main.inherited.with(&raw.defaults, mistakes),
                ..*main
            };
            let routes = table.routes(&raw.routes, upstreams, collected, mistakes);
            tables.push(tariff::Table { host: Some(host), slash: table.inherited.slash(), routes });
        }
    }

    /// Posts the tables as one, or says which lines contradict each other.
    fn post(&self, tables: Vec<tariff::Table>, mistakes: &mut Mistakes) -> Option<Tariff> {
        match Tariff::new(tables) {
            Ok(tariff) => {
                let places = self.places();
                self.caps.check(&tariff, &places, mistakes);
                dust::warn(tariff.routes(), self.facilitators, &places, mistakes);
                let (loosened, undercut) = (tariff.loosened(), tariff.undercut());
                loosened.iter().for_each(|lint| mistakes.add(told_loosened(lint, &places)));
                undercut.iter().for_each(|lint| mistakes.add(told_undercut(lint, &places)));
                tariff.detours().iter().for_each(|lint| mistakes.add(told_detour(lint, &places)));
                Some(tariff)
            }
            Err(collisions) => {
                let places = self.places();
                collisions.iter().for_each(|collision| mistakes.add(told(collision, &places)));
                None
            }
        }
    }

    /// Where the key of each route stands, by line and column.
    fn places(&self) -> HashMap<(u32, u32), Span> {
        let hosts = self.file.hosts.iter().flat_map(|host| &host.routes);
        let routes = self.file.routes.iter().flatten().chain(hosts);
        let place = |route: &Route| {
            let place = self.source.place(route.key.span);
            ((place.line, place.column), route.key.span)
        };
        routes.map(place).collect()
    }
}

fn span_of(route: &Arc<tariff::Route>, places: &HashMap<(u32, u32), Span>) -> Option<Span> {
    places.get(&(route.place.line, route.place.column)).copied()
}

fn told(collision: &Collision, places: &HashMap<(u32, u32), Span>) -> Mistake {
    let (code, label, other): (&'static Code, String, &str) = match collision {
        Collision::Duplicate { .. } => (&codes::DUPLICATE_ROUTE, "again here".into(), "first here"),
        Collision::SameMethod { method, .. } => (&codes::SAME_METHOD, format!("names {method}"), "so does this"),
        Collision::Crossing { witness, .. } => (&codes::CROSSING, format!("matches {witness}"), "so does this"),
        Collision::Hostless { .. } => (&codes::HOST, "this route".into(), ""),
        Collision::TooVaried { .. } => (&codes::RANGE, "from here on".into(), ""),
    };
    let routes = collision.routes();
    let mut spans = routes.iter().map(|route| span_of(route, places));
    // A duplicate is the later line; two routes that cross are equals, and the earlier comes first.
    let (first, second) = (spans.next().flatten(), spans.next().flatten());
    let (here, there) = match collision {
        Collision::Duplicate { .. } => (second, first),
        _ => (first, second),
    };
    let mistake = Mistake::error(code, here, collision.to_string()).label(label).help(collision.help());
    match there {
        Some(there) => mistake.related(there, other),
        None => mistake,
    }
}

fn told_loosened(lint: &Loosened, places: &HashMap<(u32, u32), Span>) -> Mistake {
    let methods: Vec<_> = lint.methods.iter().map(http::Method::as_str).collect();
    let methods = methods.join("|");
    let mistake = Mistake::warning(&codes::LOOSENED, span_of(&lint.narrower, places), lint.to_string())
        .label("the narrower path wins")
        .help(format!("if that is meant, name the method: {methods} {}", lint.narrower.pattern));
    match span_of(&lint.broader, places) {
        Some(broader) => mistake.related(broader, "does not count there"),
        None => mistake,
    }
}

fn told_undercut(lint: &Undercut, places: &HashMap<(u32, u32), Span>) -> Mistake {
    let dearer = &lint.dearer.pattern;
    let help = match &lint.through {
        Through::Methods(_) => format!("say what other methods cost there, for example  {dearer}: deny"),
        Through::Slash => "let both cost the same, unless your backend tells them apart".to_owned(),
    };
    let mistake = Mistake::warning(&codes::UNDERCUT, span_of(&lint.cheaper, places), lint.to_string())
        .label("asks less")
        .help(help);
    match span_of(&lint.dearer, places) {
        Some(dearer) => mistake.related(dearer, "than this"),
        None => mistake,
    }
}

fn told_detour(lint: &Detour, places: &HashMap<(u32, u32), Span>) -> Mistake {
    let mistake = Mistake::warning(&codes::DETOUR, span_of(&lint.cheaper, places), lint.to_string())
        .label("asks less")
        .help(format!("say what it costs there:  {}: {}", lint.way, lint.dearer.charge));
    match span_of(&lint.dearer, places) {
        Some(dearer) => mistake.related(dearer, "is asked for at the same path of the backend"),
        None => mistake,
    }
}
