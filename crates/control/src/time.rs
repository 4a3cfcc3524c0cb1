//! Wall-clock times as text (RFC 3339), without a calendar library.

use sinew_types::UnixMicros;

/// `2026-07-01T12:34:56.789Z` for microseconds since 1970.
pub fn rfc3339(unix: UnixMicros) -> String {
    let (seconds, millis) = (unix / 1_000_000, unix / 1000 % 1000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Seconds since 1970 of a time as [`rfc3339`] writes it; fractions are cut off.
pub fn unix_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between| -> Option<[u64; 3]> {
        let all: Result<Vec<_>, _> = text.split(between).map(str::parse).collect();
        all.ok()?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    let in_range = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    let in_day = hour < 24 && minute < 60 && second < 61;
    (in_range && in_day).then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// The inverse of [`civil`].
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Gregorian date of a day number since 1970-01-01. Years are counted from March, so that the
/// leap day is the last of its year and months have a regular length (30.6 days on average).
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // days from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use super::{rfc3339, unix_seconds};

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000), expected);
            assert_eq!(unix_seconds(expected), Some(seconds), "{expected}");
        }
        assert_eq!(rfc3339(1_234_567), "1970-01-01T00:00:01.234Z");
    }

    #[test]
    fn what_is_no_such_time_is_none() {
        for text in [
            "",
            "2026-07-01",
            "2026-07-01T12:34:56",
            "2026-13-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "a-b-cTd:e:fZ",
        ] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
        assert_eq!(unix_seconds("1970-01-02T00:00:01Z"), Some(86_401));
    }
}
