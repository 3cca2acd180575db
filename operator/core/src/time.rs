//! Durations and times in the forms that Kubernetes writes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// A `metav1.Duration` that is not negative: Go's notation (package time, `ParseDuration`), such as
/// `90s`, `1h30m` or `1.5h`; units are h, m, s, ms, us (or µs) and ns. It holds whole nanoseconds, at
/// most 2^63-1 of them (292 years), and is written as Go does, `1m30s` for `90s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(Duration);

/// Why a text is not the duration that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not in Go's notation; the first 40 characters of the text.
    #[error("{0:?} is not a duration; write numbers with units, such as \"90s\", \"1h30m\" or \"500ms\"")]
    Notation(String),
    /// Below zero; the first 40 characters of the text.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than 2^63-1 nanoseconds; the first 40 characters of the text.
    #[error("{0:?} is longer than 292 years")]
    TooLarge(String),
    /// A duration, but not one that is allowed here.
    #[error("{found} is not between {min} and {max}")]
    OutOfBounds {
        /// The duration that the text says.
        found: GoDuration,
        /// The shortest that is allowed.
        min: GoDuration,
        /// The longest that is allowed.
        max: GoDuration,
    },
}

/// The text is not a time as RFC 3339 writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time, such as \"2026-03-01T12:00:00Z\"")]
pub struct TimeError(String);

impl GoDuration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(Duration::from_secs(seconds as u64))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Parses a duration that must lie between `min` and `max`, both included.
    ///
    /// # Errors
    /// See [`DurationError`].
    pub fn parse_within(text: &str, min: Self, max: Self) -> Result<Self, DurationError> {
        let found = text.parse()?;
        if (min..=max).contains(&found) { Ok(found) } else { Err(DurationError::OutOfBounds { found, min, max }) }
    }
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.0
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let notation = || DurationError::Notation(shortened(text));
        let unsigned = match text.strip_prefix('-') {
            Some(rest) if parse_nanos(rest).is_some_and(|nanos| nanos > 0) => {
                return Err(DurationError::Negative(shortened(text)));
            }
            Some(rest) => rest,
            None => text.strip_prefix('+').unwrap_or(text),
        };
        let nanos = parse_nanos(unsigned).ok_or_else(notation)?;
        match u64::try_from(nanos) {
            Ok(nanos) if i64::try_from(nanos).is_ok() => Ok(Self(Duration::from_nanos(nanos))),
            _ => Err(DurationError::TooLarge(shortened(text))),
        }
    }
}

/// The sum of the parts, saturating; none if a part is malformed or there is none.
fn parse_nanos(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let mut total: u128 = 0;
    let mut rest = text;
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.saturating_add(part_nanos(digits, unit_nanos(unit)?)?);
        rest = after;
        if rest.is_empty() {
            return Some(total);
        }
    }
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // U+00B5, the micro sign, and U+03BC, the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// A decimal number of units; what is below a nanosecond is cut off, as Go does.
fn part_nanos(digits: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // Beyond these digits only the size matters: the sum is out of range, or below a nanosecond.
    let whole = whole.trim_start_matches('0');
    let whole: u128 = match whole {
        "" => 0,
        digits if digits.len() > 20 => u128::from(u64::MAX),
        digits => digits.parse().ok()?,
    };
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = match fraction {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    Some(whole * unit + fraction * unit / scale)
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("ns", 1), ("µs", 1_000), ("ms", 1_000_000)] {
            if nanos < size * 1000 {
                write_decimal(f, nanos, size)?;
                return f.write_str(unit);
            }
        }
        let minutes = nanos / (60 * NANOS_PER_SECOND);
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        write_decimal(f, nanos % (60 * NANOS_PER_SECOND), NANOS_PER_SECOND)?;
        f.write_str("s")
    }
}

/// Writes `nanos / unit`, a power of ten, without zeros at the end.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let mut fraction = nanos % unit;
    if fraction == 0 {
        return Ok(());
    }
    f.write_str(".")?;
    let mut place = unit;
    while fraction > 0 {
        place /= 10;
        write!(f, "{}", fraction / place)?;
        fraction %= place;
    }
    Ok(())
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Parses a time with its offset, `2026-03-01T12:00:00.5+01:00` (RFC 3339, section 5.6).
///
/// # Errors
/// Another form, also those that ISO 8601 or RFC 9557 allow beyond it.
pub fn parse_rfc3339(text: &str) -> Result<jiff::Timestamp, TimeError> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && bytes[..19].iter().zip(b"0000-00-00T00:00:00").all(|(found, wanted)| match wanted {
            b'0' => found.is_ascii_digit(),
            other => found.eq_ignore_ascii_case(other),
        })
        && bytes[19..]
            .iter()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b':' | b'+' | b'-' | b'Z' | b'z'));
    let parsed = if shaped { text.parse().ok() } else { None };
    parsed.ok_or_else(|| TimeError(shortened(text)))
}

/// Writes a time in UTC, with as many decimals as it has: `2026-03-01T11:00:00.5Z`.
pub fn format_rfc3339(time: jiff::Timestamp) -> String {
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_durations() {
        for (text, nanos, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("-0s", 0, "0s"),
            ("+5s", 5_000_000_000, "5s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("500ms", 500_000_000, "500ms"),
            ("1m0.05s", 60_050_000_000, "1m0.05s"),
            ("1.5us", 1_500, "1.5µs"),
            ("1.5µs", 1_500, "1.5µs"),
            ("1.5\u{3bc}s", 1_500, "1.5µs"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("30m1h", 5_400_000_000_000, "1h30m0s"),
            ("1.9ns", 1, "1ns"),
            ("0.3333333333333333333h", 1_199_999_999_999, "19m59.999999999s"),
            ("9223372036854775807ns", 9_223_372_036_854_775_807, "2562047h47m16.854775807s"),
        ] {
            let parsed: GoDuration = text.parse().unwrap();
            assert_eq!(parsed.get(), Duration::from_nanos(nanos), "{text}");
            assert_eq!(parsed.to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration() {
        for text in
            ["", "5", "s", "5 s", "1h 30m", ".s", "1..5s", "1d", "1e3s", "--1s", "+-1s", "5sec", "٣s", "P1D", "-"]
        {
            let error = text.parse::<GoDuration>().unwrap_err();
            assert_eq!(error, DurationError::Notation(text.to_owned()), "{text}");
        }
        assert_eq!("-1s".parse::<GoDuration>().unwrap_err().to_string(), "\"-1s\" is negative");
        for text in ["9223372036854775808ns", "2562048h", &format!("{}h", "9".repeat(1000))] {
            assert!(matches!(text.parse::<GoDuration>(), Err(DurationError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn bounds() {
        let (min, max) = (GoDuration::from_secs(1), GoDuration::from_secs(3600));
        assert_eq!(GoDuration::parse_within("1s", min, max), Ok(min));
        assert_eq!(GoDuration::parse_within("60m", min, max), Ok(max));
        assert_eq!(
            GoDuration::parse_within("61m", min, max).unwrap_err().to_string(),
            "1h1m0s is not between 1s and 1h0m0s"
        );
        assert!(GoDuration::parse_within("999ms", min, max).is_err());
    }

    #[test]
    fn times() {
        for (text, written) in [
            ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
            ("2026-03-01T12:00:00.500+01:00", "2026-03-01T11:00:00.5Z"),
        ] {
            assert_eq!(format_rfc3339(parse_rfc3339(text).unwrap()), written);
        }
        for text in [
            "",
            "2026-03-01",
            "2026-03-01 12:00:00Z",
            "2026-03-01T12:00:00",
            "2026-03-01T12:00Z",
            "2026-02-30T12:00:00Z",
            "2026-03-01T12:00:00+01:00[Europe/Berlin]",
            "1772366400",
        ] {
            assert!(parse_rfc3339(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanos in 0..=i64::MAX as u64) {
            let duration = GoDuration(Duration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            let json = serde_json::to_value(duration).unwrap();
            prop_assert_eq!(serde_json::from_value::<GoDuration>(json).unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in "[-+]?[0-9.hmsuµn]{0,40}", noise in ".{0,20}") {
            let _ = text.parse::<GoDuration>();
            let _ = noise.parse::<GoDuration>();
            let _ = parse_rfc3339(&noise);
        }
    }
}
