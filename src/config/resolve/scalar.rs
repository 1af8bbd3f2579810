//! Durations, sizes, words and flags: the value grammar of GATEWAY_YAML §4 without money.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{either, nearest, not_supported};
use crate::config::tree::Text;
use crate::primitives::Rate;

/// What takes a limit away that a route would inherit.
const NONE: &str = "none";

/// A duration, or its default. `None` when it is wrong; that has been noted.
pub(super) fn duration(
    text: Option<&Text>,
    default: Duration,
    sensible: RangeInclusive<Duration>,
    mistakes: &mut Mistakes,
) -> Option<Duration> {
    let Some(text) = text else { return Some(default) };
    let Some(duration) = parse_duration(&text.text) else {
        let mistake = Mistake::error(&codes::DURATION, text.span, format!("`{}` is not a duration", shown(&text.text)));
        mistakes.add(match text.text.parse::<u64>() {
            Ok(number) => mistake.label("seconds, minutes?").help(format!("write {number}s")),
            Err(_) => mistake.help("write a whole number and its unit: 250ms, 30s, 5m, 1h or 7d"),
        });
        return None;
    };
    if sensible.contains(&duration) {
        return Some(duration);
    }
    let bounds = format!("from {} to {}", span_of_time(*sensible.start()), span_of_time(*sensible.end()));
    mistakes.add(
        Mistake::error(&codes::RANGE, text.span, format!("`{}` is outside of what makes sense here", text.text))
            .help(format!("write a duration {bounds}")),
    );
    None
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A duration as the file would have it.
pub(super) fn span_of_time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        _ if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) && seconds > 60 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// A whole number, or its default.
pub(super) fn count(
    text: Option<&Text>,
    default: u32,
    sensible: RangeInclusive<u32>,
    mistakes: &mut Mistakes,
) -> Option<u32> {
    let Some(text) = text else { return Some(default) };
    let plain = text.text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.text.parse().ok().filter(|number| plain && sensible.contains(number));
    if number.is_none() {
        let message = format!("`{}` is not a number that is possible here", shown(&text.text));
        let help = format!("write a whole number from {} to {}", sensible.start(), sensible.end());
        mistakes.add(Mistake::error(&codes::NUMBER, text.span, message).help(help));
    }
    number
}

/// A size in bytes, or its default.
pub(super) fn size(text: Option<&Text>, default: u64, mistakes: &mut Mistakes) -> Option<u64> {
    let Some(text) = text else { return Some(default) };
    let size = parse_size(&text.text);
    if size.is_none() {
        let mistake = Mistake::error(&codes::SIZE, text.span, format!("`{}` is not a size", shown(&text.text)));
        mistakes.add(match text.text.parse::<u64>() {
            Ok(number) => mistake.label("bytes?").help(format!("write {number}B")),
            Err(_) => mistake.help("write a whole number and its unit: 512B, 64KiB, 1MiB or 10MB"),
        });
    }
    size
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// So many in a time, or the default; `none` takes a default away. The outer `None` when it is wrong; that has been noted.
pub(super) fn rate(text: Option<&Text>, default: Option<Rate>, mistakes: &mut Mistakes) -> Option<Option<Rate>> {
    let Some(text) = text else { return Some(default) };
    if &*text.text == NONE {
        return Some(None);
    }
    let rate = parse_rate(&text.text);
    if rate.is_none() {
        let message = format!("`{}` is not a rate", shown(&text.text));
        mistakes.add(
            Mistake::error(&codes::RATE, text.span, message).help("write 50 per 1s, or none; the time is 1ms to 1d"),
        );
    }
    rate.map(Some)
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (requests, per) = text.split_once(" per ")?;
    let digits = requests.bytes().all(|byte| byte.is_ascii_digit());
    let requests = requests.parse().ok().filter(|_| digits)?;
    let sensible = Duration::from_millis(1)..=Duration::from_secs(86_400);
    let per = parse_duration(per).filter(|per| sensible.contains(per))?;
    Some(Rate { requests, per })
}

/// As [`rate`], for a number of something that is there at once.
pub(super) fn at_once(
    text: Option<&Text>,
    default: Option<NonZeroU32>,
    mistakes: &mut Mistakes,
) -> Option<Option<NonZeroU32>> {
    match text {
        None => Some(default),
        Some(text) if &*text.text == NONE => Some(None),
        text => count(text, 1, 1..=1_000_000, mistakes).map(NonZeroU32::new),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..unit].parse().ok()?, &text[unit..]))
}

/// One of a few words, or the default.
pub(super) fn word<T: Copy>(
    text: Option<&Text>,
    words: &[(&str, T)],
    default: T,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let Some(text) = text else { return Some(default) };
    let found = words.iter().find(|(word, _)| *word == &*text.text).map(|(_, value)| *value);
    if found.is_none() {
        mistakes.add(wrong_word(text, words.iter().map(|(word, _)| *word)));
    }
    found
}

/// As `word`, for places where the design has words that this version refuses.
pub(super) fn word_built<T: Copy>(
    text: Option<&Text>,
    words: &[(&str, T)],
    later: &[&str],
    default: T,
    mistakes: &mut Mistakes,
) -> Option<T> {
    match text {
        Some(text) if later.contains(&&*text.text) => {
            mistakes.add(
                not_supported(&text.text, text.span)
                    .help(format!("write {}", either(words.iter().map(|(word, _)| *word)))),
            );
            None
        }
        text => word(text, words, default, mistakes),
    }
}

/// `true` or `false`, or the default.
pub(super) fn flag(text: Option<&Text>, default: bool, mistakes: &mut Mistakes) -> Option<bool> {
    word(text, &[("true", true), ("false", false)], default, mistakes)
}

/// None of the words that are possible.
pub(super) fn wrong_word<'w>(text: &Text, words: impl Iterator<Item = &'w str> + Clone) -> Mistake {
    let mistake =
        Mistake::error(&codes::WORD, text.span, format!("`{}` is not {}", shown(&text.text), either(words.clone())));
    match nearest(&text.text, words) {
        Some(near) => mistake.label(format!("did you mean `{near}`?")),
        None => mistake.help("write one of these words"),
    }
}

/// A text short enough for a message.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_names_its_unit() {
        let of = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(
            ["250ms", "30s", "5m", "1h", "7d"].map(of),
            [Some(250), Some(30_000), Some(300_000), Some(3_600_000), Some(604_800_000)]
        );
        for text in ["30", "", "s", "1.5s", "-1s", "30 s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(of(text), None, "{text} was read as a duration");
        }
    }

    #[test]
    fn a_size_names_its_unit() {
        assert_eq!(
            ["0B", "64KiB", "1MiB", "10MB"].map(parse_size),
            [Some(0), Some(65_536), Some(1_048_576), Some(10_000_000)]
        );
        for text in ["1048576", "1M", "1 MiB", "1mib", "-1B", "99999999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text} was read as a size");
        }
    }

    #[test]
    fn a_rate_names_its_number_and_its_time() {
        let of = |text| parse_rate(text).map(|rate| (rate.requests.get(), rate.per.as_millis()));
        assert_eq!(
            ["50 per 1s", "1 per 1d", "3 per 250ms"].map(of),
            [Some((50, 1000)), Some((1, 86_400_000)), Some((3, 250))]
        );
        for text in ["50", "50/s", "50 per s", "0 per 1s", "+5 per 1s", "50 per 0s", "50 per 2d", "5 per  1s", "10rps"]
        {
            assert_eq!(of(text), None, "{text} was read as a rate");
        }
    }

    #[test]
    fn a_duration_reads_back_as_it_was_written() {
        for text in ["250ms", "30s", "60s", "5m", "1h", "7d"] {
            assert_eq!(span_of_time(parse_duration(text).expect("a duration")), text);
        }
    }
}
