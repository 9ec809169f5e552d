//! Durations and sizes as people write them: a number and a unit, such as `10 min`, `1 h 30 min` or `256 KiB`.
//!
//! A bare number is refused: nobody remembers for long whether a limit was meant in seconds or milliseconds.

use std::time::Duration;

/// Words for each unit, the first being the one that messages use, and its length in milliseconds.
const UNITS: [(&[&str], u64); 6] = [
    (&["ms", "millisecond", "milliseconds"], 1),
    (&["s", "sec", "second", "seconds"], 1_000),
    (&["min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

/// The duration that `text` stands for.
///
/// # Errors
/// What is wrong and what would be right, ready to stand after the value.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("is empty; write a number and a unit, such as \"10 min\"".to_owned());
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let count: u64 = number.parse().map_err(|_| {
            let examples = "\"30 s\", \"10 min\", \"1 h 30 min\"";
            format!("is not a duration; write whole numbers, each with a unit: {examples}")
        })?;
        let Some((_, length)) = UNITS.iter().find(|(words, _)| words.contains(&unit)) else {
            let known: Vec<&str> = UNITS.iter().map(|(words, _)| words[0]).collect();
            let known = known.join(", ");
            return Err(if unit.is_empty() {
                format!("has no unit; write \"{count} s\" or \"{count} min\" (units: {known})")
            } else {
                format!("has the unknown unit {unit:?}; the units are {known}")
            });
        };
        millis = count
            .checked_mul(*length)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| "is too long; write a shorter duration".to_owned())?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(millis))
}

/// Each unit of a size and its length in bytes.
const SIZES: [(&str, u64); 6] =
    [("B", 1), ("kB", 1_000), ("KiB", 1 << 10), ("MB", 1_000_000), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// The number of bytes that `text` stands for.
///
/// # Errors
/// What is wrong and what would be right, ready to stand after the value.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let count: u64 =
        number.parse().map_err(|_| "is not a size; write a whole number and a unit, such as \"256 KiB\"".to_owned())?;
    let known = || SIZES.map(|(name, _)| name).join(", ");
    match SIZES.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => count.checked_mul(*bytes).ok_or_else(|| "is too large; write a smaller size".to_owned()),
        None if unit.is_empty() => {
            Err(format!("has no unit; write \"{count} B\" or \"{count} KiB\" (units: {})", known()))
        }
        None => Err(format!("has the unknown unit {unit:?}; the units are {}", known())),
    }
}

/// The duration in the largest unit that divides it: what [`duration`] reads back as the same.
pub(crate) fn in_words(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fitting = UNITS.iter().rev().find(|(_, length)| millis > 0 && millis.is_multiple_of(*length));
    let (words, length) = fitting.unwrap_or(&UNITS[1]);
    format!("{} {}", millis / length, words[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit_or_several() {
        for (text, millis) in [
            ("250 ms", 250),
            ("30s", 30_000),
            ("30 s", 30_000),
            ("10 min", 600_000),
            ("1 hour", 3_600_000),
            ("1 h 30 min", 5_400_000),
            ("1h30min", 5_400_000),
            ("400 d", 34_560_000_000),
            ("2 weeks", 1_209_600_000),
            ("0 s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_fix() {
        for (text, part) in [
            ("", "is empty"),
            ("600", "write \"600 s\" or \"600 min\""),
            ("10 m", "unknown unit \"m\"; the units are ms, s, min"),
            ("1.5 h", "has no unit"),
            ("-1 s", "is not a duration"),
            ("soon", "is not a duration"),
            ("10 min later", "is not a duration"),
            ("99999999999999999999 s", "is not a duration"),
            ("9999999999999999 d", "is too long"),
        ] {
            let error = duration(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        for (text, bytes) in [("1 B", 1), ("256 KiB", 262_144), ("64kB", 64_000), ("2 GiB", 2_147_483_648)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, part) in [
            ("", "is not a size"),
            ("lots", "is not a size"),
            ("262144", "write \"262144 B\" or \"262144 KiB\""),
            ("1 mb", "unknown unit \"mb\"; the units are B, kB, KiB"),
            ("99999999999999 GiB", "is too large"),
        ] {
            let error = size(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn words_read_back_as_the_same_duration() {
        for seconds in [0, 1, 59, 60, 90, 3600, 86_400, 604_800, 34_560_000] {
            let before = Duration::from_secs(seconds);
            assert_eq!(duration(&in_words(before)), Ok(before));
        }
        assert_eq!(in_words(Duration::from_secs(600)), "10 min");
        assert_eq!(in_words(Duration::from_secs(400 * 86_400)), "400 d");
    }
}
