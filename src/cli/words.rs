//! Words that several commands share.

use crate::primitives::{Address, Timestamp};

/// An error and all that caused it, in one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

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

/// `2026-11-22 13:05:09Z`
pub(super) fn moment(at: Timestamp) -> String {
    let seconds = at.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// Days since the epoch as a date of the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_read_them() {
        assert_eq!(moment(Timestamp::EPOCH), "1970-01-01 00:00:00Z");
        assert_eq!(moment(Timestamp::from_secs(1_767_225_600)), "2026-01-01 00:00:00Z");
        assert_eq!(moment(Timestamp::from_secs(1_709_208_000)), "2024-02-29 12:00:00Z");
    }

    #[test]
    fn s63_a_text_of_somebody_else_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n", 10), "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}");
        assert_eq!(printable("ö".repeat(9).as_str(), 3), "ööö…");
    }
}
