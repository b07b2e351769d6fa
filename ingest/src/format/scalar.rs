//! Times and dates from text and numbers.
//!
//! Timestamps are limited to the years that chrono's proleptic Gregorian calendar covers, about 262,000 before and
//! after year 0. That is a little less than 64-bit microseconds can hold, and it is what Polars and others compute
//! calendar fields with: a value beyond would only fail later, and with it a whole epoch instead of one record.

use chrono::{DateTime, Datelike, NaiveDate, Utc};

/// 1970-01-01 in chrono's count of days, which begins with 1 at 0001-01-01.
const EPOCH_DAY: i32 = 719_163;

const MIN_MILLIS: i64 = DateTime::<Utc>::MIN_UTC.timestamp_millis();
const MAX_MILLIS: i64 = DateTime::<Utc>::MAX_UTC.timestamp_millis();

/// Microseconds since 1970 of milliseconds since 1970; `None` beyond the calendar.
pub(crate) fn micros_of_millis(millis: i64) -> Option<i64> {
    in_calendar(millis).then(|| millis * 1000)
}

/// Whether a time in milliseconds since 1970 is within the calendar.
pub(crate) fn in_calendar(millis: i64) -> bool {
    (MIN_MILLIS..=MAX_MILLIS).contains(&millis)
}

/// Microseconds since 1970 of an RFC 3339 timestamp. Digits beyond microseconds are cut off, and a leap second
/// (`23:59:60`) is the second after it. `None` if the text is no such timestamp.
pub(crate) fn micros_of_rfc3339(text: &str) -> Option<i64> {
    micros_of_utc(text.as_bytes())
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros()))
}

/// Days since 1970 of a date written `YYYY-MM-DD`.
pub(crate) fn days_of_date(text: &str) -> Option<i32> {
    days(text.as_bytes().try_into().ok()?)
}

/// The day so many days after 1970-01-01; `None` beyond the calendar.
pub(crate) fn day(days: i32) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(days.checked_add(EPOCH_DAY)?)
}

/// The form that most producers write, `YYYY-MM-DDTHH:MM:SS[.f]Z` with up to nine digits, without a general parser.
/// `None` for any other.
fn micros_of_utc(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let (&[b'T', h1, h2, b':', m1, m2, b':', s1, s2], rest) = rest.split_first_chunk::<9>()? else {
        return None;
    };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match rest {
        b"Z" => 0,
        [b'.', digits @ .., b'Z'] => micros_of_fraction(digits)?,
        _ => return None,
    };
    let seconds = i64::from(days(date)?) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some(seconds * 1_000_000 + fraction)
}

fn micros_of_fraction(digits: &[u8]) -> Option<i64> {
    if !(1..=9).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    Some(digits.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')))
}

fn days(date: &[u8; 10]) -> Option<i32> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let day = NaiveDate::from_ymd_opt(year as i32, two(m1, m2)?, two(d1, d2)?)?;
    Some(day.num_days_from_ce() - EPOCH_DAY)
}

fn two(tens: u8, ones: u8) -> Option<u32> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| u32::from((tens - b'0') * 10 + (ones - b'0')))
}

/// Whether a JSON text nests objects and arrays deeper than `limit` levels.
pub(crate) fn nests_deeper(json: &str, limit: usize) -> bool {
    // Each level needs an opening and a closing byte.
    if json.len() <= 2 * limit {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    #[test]
    fn rfc3339_in_its_forms() {
        let second = 1_356_998_400_000_000;
        for (text, micros) in [
            ("2013-01-01T00:00:00Z", Some(second)),
            ("2013-01-01T00:00:00.5Z", Some(second + 500_000)),
            ("2013-01-01T00:00:00.123456Z", Some(second + 123_456)),
            ("2013-01-01T00:00:00.123456999Z", Some(second + 123_456)),
            ("2013-01-01T00:00:00.1234567890123Z", Some(second + 123_456)),
            ("2013-01-01T01:00:00+01:00", Some(second)),
            ("2012-12-31T19:00:00.25-05:00", Some(second + 250_000)),
            ("2013-01-01t00:00:00z", Some(second)),
            ("2012-12-31T23:59:60Z", Some(second)),
            ("1969-12-31T23:59:59.999999999Z", Some(-1)),
            ("2012-02-29T00:00:00Z", Some(1_330_473_600_000_000)),
            ("2013-02-29T00:00:00Z", None),
            ("2013-01-01T24:00:00Z", None),
            ("2013-01-01T00:60:00Z", None),
            ("2013-01-01T00:00:61Z", None),
            ("2013-01-01T00:00:00", None),
            ("2013-01-01T00:00:00.Z", None),
            ("2013-01-01T00:00:00.1x3Z", None),
            ("2013-01-01", None),
            ("2013-13-01T00:00:00Z", None),
            ("", None),
            ("２０１３-01-01T00:00:00Z", None),
        ] {
            assert_eq!(micros_of_rfc3339(text), micros, "{text}");
        }
    }

    #[test]
    fn dates() {
        for (text, days) in [
            ("1970-01-01", Some(0)),
            ("1969-12-31", Some(-1)),
            ("2013-01-01", Some(15_706)),
            ("2000-02-29", Some(11_016)),
            ("1900-02-29", None),
            ("2013-1-01", None),
            ("2013-01-01 ", None),
            ("2013/01/01", None),
            ("+013-01-01", None),
        ] {
            assert_eq!(days_of_date(text), days, "{text}");
        }
    }

    #[test]
    fn milliseconds_end_with_the_calendar() {
        assert_eq!(micros_of_millis(1_700_000_000_123), Some(1_700_000_000_123_000));
        assert_eq!(micros_of_millis(MAX_MILLIS), Some(MAX_MILLIS * 1000));
        assert_eq!(micros_of_millis(MIN_MILLIS), Some(MIN_MILLIS * 1000));
        for beyond in [MIN_MILLIS - 1, MAX_MILLIS + 1, i64::MIN, i64::MAX] {
            assert_eq!(micros_of_millis(beyond), None);
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!nests_deeper(&nested(20), 20));
        assert!(nests_deeper(&nested(21), 20));
        assert!(!nests_deeper(&format!("[{}]", ["[]"; 60].join(",")), 2));
        assert!(!nests_deeper(&format!(r#"["\"{}"]"#, "[".repeat(200)), 2));
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2013), failure_persistence: None, ..Default::default() })]

        #[test]
        fn agrees_with_chrono(seconds in -62_167_219_200_i64..253_402_300_800, nanos in 0_u32..1_000_000_000, digits in 0_usize..10) {
            let time = DateTime::from_timestamp(seconds, nanos).unwrap();
            let fraction = format!(".{nanos:09}");
            let fraction = if digits == 0 { "" } else { &fraction[..=digits] };
            let text = format!("{}{fraction}Z", time.format("%Y-%m-%dT%H:%M:%S"));
            let reference = DateTime::parse_from_rfc3339(&text).unwrap().timestamp_micros();
            prop_assert_eq!(micros_of_utc(text.as_bytes()), Some(reference));
            let date = time.date_naive();
            let days = date.signed_duration_since(NaiveDate::default()).num_days();
            prop_assert_eq!(days_of_date(&date.to_string()).map(i64::from), Some(days));
        }
    }
}
