//! Points in time as filter values spell them.
//!
//! Source: filters `InvokedAfter` and `InvokedBefore`, AWS CLI reference of `describe-sessions`, read 2026-11; scripts
//! in the field send every form of ISO 8601 that their language prints.

use jiff::civil;
use jiff::tz::TimeZone;
use ravelin_model::Time;

/// The time that an ISO 8601 text names: a date, or a date and a time, extended or basic, with a fraction or without,
/// with an offset or without. What has no offset is UTC; a date alone is its midnight. `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<Time> {
    const CHARS_MAX: usize = 64;
    let text = text.trim();
    // A zone in brackets is no ISO 8601 and would make the answer depend on a time zone database.
    if text.len() > CHARS_MAX || text.contains('[') {
        return None;
    }
    let instant = match text.parse::<jiff::Timestamp>() {
        Ok(instant) => instant,
        Err(_without_offset) => text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    Some(Time::from_micros(instant.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_clients_send_names_the_same_instant() {
        let wanted = Some(Time::from_micros(1_535_500_800_000_000));
        for text in [
            "2018-08-29",
            "20180829",
            "2018-08-29T00:00:00Z",
            "2018-08-29t00:00:00z",
            "2018-08-29T00:00Z",
            "2018-08-29T00:00:00",
            "2018-08-29 00:00:00",
            "2018-08-29 00:00:00+00:00",
            "2018-08-29T00:00:00.000Z",
            "2018-08-29T00:00:00.000000000Z",
            "2018-08-29T00:00:00,000Z",
            "2018-08-29T02:00:00+02:00",
            "2018-08-29T02:00:00+0200",
            "2018-08-29T02:00:00+02",
            "2018-08-28T20:30:00-03:30",
            "20180829T000000Z",
            " 2018-08-29T00:00:00Z ",
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
        assert_eq!(parse("2018-08-29T00:00:00.000001Z"), wanted.map(|t| t.plus(std::time::Duration::from_micros(1))));
    }

    #[test]
    fn other_texts_name_none() {
        for text in [
            "",
            "yesterday",
            "1535500800",
            "2018-13-01",
            "2018-02-30T00:00:00Z",
            "2018-08-29T25:00:00Z",
            "29.08.2018",
            "2018-08-29T00:00:00[Europe/Rome]",
            "2018-08",
            &"2".repeat(1000),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
