//! Durations and points in time as people write and read them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use std::time::Duration;

/// A duration such as `500ms`, `5s`, `90m`, `1h30m`, `7d`, `2w`. A bare number is refused: nobody knows its unit.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    const SHAPE: &str = "must be a number with a unit, such as 500ms, 5s, 30m, 2h, 7d or 1h30m";
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(SHAPE.to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| SHAPE.to_owned())?;
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "" => return Err(format!("has no unit, write {number}s, {number}m, {number}h or {number}d")),
            _ => return Err(SHAPE.to_owned()),
        };
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or("is too long")?;
        rest = after;
    }
    if total > Duration::from_secs(100 * 366 * 86_400) { Err("is longer than 100 years".to_owned()) } else { Ok(total) }
}

/// A point in time: `7d` (so long ago), a time in RFC 3339, or a local date with or without a time of day.
pub(crate) fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(span) = span(text) {
        return now.checked_sub(span).map_err(|_| "is too long ago".to_owned());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(civil::DateTime::from));
    match local.and_then(|local| local.to_zoned(TimeZone::system())) {
        Ok(zoned) => Ok(zoned.timestamp()),
        Err(_) => Err("must be how long ago, such as 7d, a date, such as 2026-11-21, or a time in RFC 3339".to_owned()),
    }
}

/// For clap: a moment relative to the present one.
pub(crate) fn moment_arg(text: &str) -> Result<Timestamp, String> {
    moment(text, Timestamp::now())
}

/// `12s ago`, `3m ago`, `in 5d`.
pub(crate) fn relative(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - then.as_second();
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("{} ago", length(Duration::from_secs(seconds.unsigned_abs()))),
        _ => format!("in {}", length(Duration::from_secs(seconds.unsigned_abs()))),
    }
}

/// `0s`, `42s`, `3m`, `2h 5m`, `4d 3h`: the largest unit, and the next one where it matters.
pub(crate) fn length(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit} {small}{small_unit}") }
    };
    if days > 0 {
        two(days, "d", hours % 24, "h")
    } else if hours > 0 {
        two(hours, "h", minutes % 60, "m")
    } else if minutes > 0 {
        format!("{minutes}m")
    } else {
        format!("{seconds}s")
    }
}

/// A time of the wire, which a newer server might write in ways that we do not read.
pub(crate) fn wire(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// `2026-11-21 23:28:54`, local, or `2026-11-21 22:28:54Z`.
pub(crate) fn absolute(at: Timestamp, utc: bool) -> String {
    if utc {
        at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
    } else {
        at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }
}

/// As [`absolute`], to the millisecond.
pub(crate) fn exact(at: Timestamp, utc: bool) -> String {
    if utc {
        at.strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string()
    } else {
        at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_units() {
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("2w"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(span("0s"), Ok(Duration::ZERO));
        assert!(span("30").expect_err("no unit").contains("30s"));
        for bad in [
            "",
            "s",
            "-1d",
            "1y",
            "1.5h",
            "5 s",
            "1h 30m",
            "5S",
            "99999999999999999999d",
            "9999999999999999d",
            "ä",
            "1µs",
        ] {
            assert!(span(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn moments_are_ago_or_absolute() {
        let now: Timestamp = "2026-11-21T22:28:54Z".parse().expect("a time");
        assert_eq!(moment("7d", now), Ok("2026-11-14T22:28:54Z".parse().expect("a time")));
        assert_eq!(moment("2026-11-20T00:00:00+01:00", now), Ok("2026-11-19T23:00:00Z".parse().expect("a time")));
        let midnight = moment("2026-11-20", now).expect("a date").to_zoned(TimeZone::system());
        assert_eq!(midnight.datetime().to_string(), "2026-11-20T00:00:00");
        assert!(moment("2026-11-20T10:30", now).is_ok());
        for bad in ["", "yesterday", "20", "2026-13-01", "7"] {
            assert!(moment(bad, now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (119, "1m"),
            (3600, "1h"),
            (7500, "2h 5m"),
            (86_400, "1d"),
            (97_200, "1d 3h"),
        ] {
            assert_eq!(length(Duration::from_secs(seconds)), text);
        }
        let now: Timestamp = "2026-11-21T22:28:54Z".parse().expect("a time");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        assert_eq!(relative(at("2026-11-21T22:25:54Z"), now), "3m ago");
        assert_eq!(relative(at("2026-11-26T22:28:54Z"), now), "in 5d");
        assert_eq!(relative(now, now), "now");
        assert_eq!(absolute(now, true), "2026-11-21 22:28:54Z");
        assert_eq!(exact(at("2026-11-21T22:28:54.123456Z"), true), "2026-11-21 22:28:54.123Z");
    }
}
