//! `screening`: who is not sold to, with the lists that the file names.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderName;

use super::Surroundings;
use super::scalar::{duration, shown, span_of_time, word};
use crate::config::codes;
use crate::config::lists::{self, ListFile, Trouble};
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, Words};
use crate::config::tree::Text;
use crate::gate::rails::screening::{
    AddressList, Clients, Countries, Country, ListError, RangeError, Ranges, Screening, WhenStale,
};
use crate::primitives::{Clock, SystemClock, Timestamp};
use crate::proxy::Proxies;

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// What `screening` means, and the files that it rests on, usable or not. `None` when something is wrong with it; that
/// has been noted.
pub(super) fn resolve(
    raw: &raw::Screening,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> (Option<Screening>, Vec<ListFile>) {
    let stale = [("deny", WhenStale::Deny), ("warn", WhenStale::Warn)];
    let when_stale = word(raw.when_stale.as_ref(), &stale, WhenStale::default(), mistakes);
    let countries = raw.countries.as_ref().map(|countries| self::countries(countries, mistakes));
    let clients =
        raw.clients.as_ref().map_or_else(|| Some(Clients::default()), |clients| self::clients(clients, mistakes));
    let mut files = Vec::new();
    let lists: Vec<_> =
        raw.lists.iter().map(|list| self::list(list, when_stale, around, &mut files, mistakes)).collect();
    let screening = || {
        let countries = match countries {
            None => None,
            Some(countries) => Some(countries?),
        };
        Some(Screening {
            lists: lists.into_iter().collect::<Option<_>>()?,
            when_stale: when_stale?,
            countries,
            clients: clients?,
        })
    };
    (screening(), files)
}

fn list(
    raw: &raw::List,
    when_stale: Option<WhenStale>,
    around: &Surroundings<'_>,
    files: &mut Vec<ListFile>,
    mistakes: &mut Mistakes,
) -> Option<AddressList> {
    let max_age = match &raw.max_age {
        None => None,
        Some(text) => Some(duration(Some(text), YEAR, SECOND..=YEAR, mistakes)?),
    };
    let (file, text) = lists::read(&around.directory.join(&*raw.file.text));
    files.push(file);
    // One from the future would never grow old.
    let believed = |dated: Timestamp| dated.min(SystemClock.now());
    let parsed = text.and_then(|(text, dated)| {
        AddressList::parse(&text, &raw.file.text, believed(dated), max_age).map_err(Trouble::NotAList)
    });
    match parsed {
        Ok(list) => {
            warn_if_stale(&list, &raw.file, when_stale, mistakes);
            Some(list)
        }
        Err(trouble) => {
            mistakes.add(unusable(&raw.file, &trouble));
            None
        }
    }
}

fn unusable(file: &Text, trouble: &Trouble) -> Mistake {
    let mistake = Mistake::error(&codes::LIST, file.span, format!("`{}` is not a list: {trouble}", shown(&file.text)));
    mistake.help(match trouble {
        Trouble::Unreadable(_) => "relative paths start at the directory of this file",
        Trouble::NotAList(ListError::Empty) => "put the list there, or remove it here if nobody is to be on it",
        Trouble::NotAList(ListError::Line(_)) | Trouble::NotText => {
            "write one address a line: 0x and 40 hexadecimal digits; # begins a comment"
        }
        Trouble::NotAFile | Trouble::TooLarge | Trouble::NotAList(ListError::TooLong) => {
            "name a file with one address a line"
        }
    })
}

/// Not an error: a process that is started again must serve its free routes whatever became of a list.
fn warn_if_stale(list: &AddressList, file: &Text, when_stale: Option<WhenStale>, mistakes: &mut Mistakes) {
    let now = SystemClock.now();
    let Some(max_age) = list.max_age.filter(|_| list.is_stale(now)) else { return };
    let message = format!("`{}` was last written more than {} ago", shown(&file.text), span_of_time(max_age));
    let mistake = Mistake::warning(&codes::STALE, file.span, message).help("fetch the list anew");
    mistakes.add(match when_stale {
        Some(WhenStale::Warn) => mistake.note("payments are screened with it all the same"),
        _ => mistake.note("routes with a price say 503 until it is"),
    });
}

fn countries(raw: &raw::Countries, mistakes: &mut Mistakes) -> Option<Countries> {
    let header = HeaderName::try_from(&*raw.header.text).ok();
    if header.is_none() {
        let message = format!("`{}` is not the name of a header field", shown(&raw.header.text));
        mistakes.add(Mistake::error(&codes::SCREENING, raw.header.span, message).help("write header: CF-IPCountry"));
    }
    let from = believed(&raw.from, "this would believe whoever asks where they are", mistakes);
    let deny = raw.deny.texts.iter().map(|text| country(text, mistakes)).collect::<Vec<_>>();
    let deny: Option<BTreeSet<_>> = deny.into_iter().collect();
    let named = named(&raw.deny, "XX", mistakes);
    Some(Countries { header: header?, from: from?, deny: deny.filter(|_| named)? })
}

fn country(text: &Text, mistakes: &mut Mistakes) -> Option<Country> {
    let country = Country::parse(text.text.as_bytes());
    if country.is_none() {
        let message = format!("`{}` is not a country", shown(&text.text));
        let help = "write the two letters of ISO 3166-1, or what your proxy says: KP, T1";
        mistakes.add(Mistake::error(&codes::SCREENING, text.span, message).help(help));
    }
    country
}

fn clients(raw: &raw::Clients, mistakes: &mut Mistakes) -> Option<Clients> {
    let allow = raw.allow.as_ref().map(|allow| ranges(allow, mistakes));
    let deny = raw.deny.as_ref().map_or_else(|| Some(Ranges::default()), |deny| ranges(deny, mistakes));
    let allow = match allow {
        None => None,
        Some(allow) => Some(allow?),
    };
    Some(Clients { allow, deny: deny? })
}

/// Proxies whose word about their clients counts: networks, and `unix:` for whoever comes by a Unix socket.
pub(super) fn proxies(raw: &Words, mistakes: &mut Mistakes) -> Option<Proxies> {
    let foolish = "this would believe whoever asks from which address they do";
    let (sockets, texts): (Vec<_>, Vec<_>) = raw.texts.iter().cloned().partition(|text| &*text.text == raw::SOCKET);
    if texts.is_empty() && !sockets.is_empty() {
        return Some(Proxies::new(Ranges::default(), true));
    }
    let addresses = believed(&Words { key: raw.key, texts }, foolish, mistakes)?;
    Some(Proxies::new(addresses, !sockets.is_empty()))
}

/// Networks whose word counts. Were everybody in one, `foolish` says, whoever asks could say anything.
fn believed(raw: &Words, foolish: &str, mistakes: &mut Mistakes) -> Option<Ranges> {
    let everybody = |text: &&Text| Ranges::parse_one(&text.text).is_ok_and(|range| range.prefix_len() == 0);
    for everybody in raw.texts.iter().filter(everybody) {
        mistakes
            .add(Mistake::error(&codes::SCREENING, everybody.span, foolish).help("name the addresses of your proxy"));
    }
    ranges(raw, mistakes)
}

fn ranges(raw: &Words, mistakes: &mut Mistakes) -> Option<Ranges> {
    let named = named(raw, "203.0.113.0/24", mistakes);
    let ranges: Vec<_> = raw.texts.iter().map(|text| range(text, mistakes)).collect();
    ranges.into_iter().collect::<Option<Ranges>>().filter(|_| named)
}

fn range(text: &Text, mistakes: &mut Mistakes) -> Option<ipnet::IpNet> {
    let refuse = |why: &RangeError| {
        Mistake::error(&codes::SCREENING, text.span, format!("`{}` is not a range: {why}", shown(&text.text)))
    };
    match Ranges::parse_one(&text.text) {
        Ok(range) => Some(range),
        Err(why) => {
            mistakes.add(match &why {
                RangeError::Inside(whole) => {
                    refuse(&why).help(format!("write {whole}, or {} for this address alone", whole_address(text)))
                }
                RangeError::Unreadable => refuse(&why).help("write 203.0.113.0/24, 2001:db8::/32, or an address"),
            });
            None
        }
    }
}

fn whole_address(text: &Text) -> &str {
    text.text.split('/').next().unwrap_or_default()
}

/// Whether a list of words names anything. An empty one says nothing that leaving it out would not say better.
fn named(raw: &Words, example: &str, mistakes: &mut Mistakes) -> bool {
    if raw.texts.is_empty() {
        mistakes.add(
            Mistake::error(&codes::SCREENING, raw.key, "the list is empty").help(format!("name some: [{example}]")),
        );
    }
    !raw.texts.is_empty()
}
