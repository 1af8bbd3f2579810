//! Words that several commands share.

use std::time::Duration;

use crate::primitives::calendar::civil;
pub(super) use crate::primitives::calendar::{instant, iso, moment};
pub(super) use crate::primitives::explain;
use crate::primitives::{Address, Clock, SystemClock, Timestamp};

/// A text of somebody else's, as short as this, that cannot steer the terminal it is shown on (S63).
pub(super) fn printable(text: &str, most: usize) -> String {
    let shown = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    let mut short: String = text.chars().take(most).map(shown).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

/// `0x1111…1111`: enough of an account to recognise it by.
pub(super) fn short(account: Address) -> String {
    let text = account.to_string();
    format!("{}…{}", &text[..6], &text[text.len() - 4..])
}

/// A moment as people write it: a date, a date with a time in UTC, or how long ago.
pub(super) fn when(text: &str) -> Result<Timestamp, String> {
    ago(text).or_else(|| date(text)).ok_or_else(|| {
        "write a date (2026-11-22), a moment in UTC (2026-11-22T13:05:00Z), or how long ago (90s, 30m, 24h, 7d)"
            .to_owned()
    })
}

fn ago(text: &str) -> Option<Timestamp> {
    let (count, seconds) = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let span = Duration::from_secs(count.parse::<u64>().ok()?.checked_mul(seconds)?);
    let now = SystemClock.now().as_millis();
    Some(Timestamp::from_millis(now.saturating_sub(u64::try_from(span.as_millis()).ok()?)))
}

fn date(text: &str) -> Option<Timestamp> {
    let (day, time) = text.strip_suffix('Z').unwrap_or(text).split_once(['T', ' ']).unwrap_or((text, "0:0:0"));
    let numbers = |text: &str, between| text.split(between).map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>();
    let [year, month, day] = *numbers(day, '-')? else { return None };
    let (hour, minute, second) = match *numbers(time, ':')? {
        [hour, minute] => (hour, minute, 0),
        [hour, minute, second] => (hour, minute, second),
        _ => return None,
    };
    let sensible = (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second < 60;
    // Counted back and compared, so that no month is too long.
    let days = days_of(year, month, day).filter(|days| civil(*days) == (year, month, day))?;
    sensible.then(|| Timestamp::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

/// A date of the Gregorian calendar as days since the epoch.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s63_a_text_of_somebody_else_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n", 10), "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}");
        assert_eq!(printable("ö".repeat(9).as_str(), 3), "ööö…");
    }

    #[test]
    fn a_moment_is_read_as_it_is_written() {
        for millis in [0, 951_782_400_000, 1_900_000_000_000, 4_102_444_799_000] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(when(&moment(at)), Ok(at));
            assert_eq!(when(&moment(at).replace(' ', "T")), Ok(at));
        }
        assert_eq!(when("2026-11-22"), when("2026-11-22T00:00Z"));
        for wrong in ["", "yesterday", "2026-02-30", "2026-13-01", "2026-11-22T24:00Z", "1969-12-31", "h", "-1d", "1w"]
        {
            assert!(when(wrong).is_err(), "{wrong}");
        }
        assert!(when("24h").is_ok_and(|day_ago| day_ago < SystemClock.now()));
    }
}
