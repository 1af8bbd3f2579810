//! Moments as they are written: in the Gregorian calendar, in UTC.

use super::Timestamp;

/// `2026-11-22 13:05:09Z`
pub fn moment(at: Timestamp) -> String {
    let seconds = at.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// `2026-11-22 13:05:09.123Z`
pub fn instant(at: Timestamp) -> String {
    let seconds = moment(at);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at.as_millis() % 1000)
}

/// `2026-11-22T13:05:09.123Z`, of milliseconds since the epoch.
pub fn iso(millis: u64) -> String {
    instant(Timestamp::from_millis(millis)).replacen(' ', "T", 1)
}

/// Days since the epoch as a date of the Gregorian calendar: year, month and day.
pub fn civil(days: u64) -> (u64, u64, u64) {
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
}
