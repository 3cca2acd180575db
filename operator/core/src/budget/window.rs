//! The windows in which a budget counts, and when they begin.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long a row of the ledger counts before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Window {
    /// Of UTC, so that no change of the clocks makes one longer or shorter.
    Hour,
    /// From midnight to midnight of a time zone: 23 or 25 hours where its clocks change.
    Day,
    /// A calendar month of a time zone.
    Month,
    /// For good.
    Total,
}

/// One window: from an instant on, up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first instant that is in it.
    pub starts_at: Timestamp,
    /// `None` where it never ends.
    pub ends_at: Option<Timestamp>,
}

/// This name is no time zone of the IANA database.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a time zone of the IANA database; write one such as \"Europe/Zurich\", or \"UTC\"")]
pub struct ZoneError(String);

/// The time zone of a name.
pub fn zone(name: &str) -> Result<TimeZone, ZoneError> {
    TimeZone::get(name).map_err(|_| ZoneError(name.to_owned()))
}

impl Window {
    /// All of them, the shortest first.
    pub const ALL: [Window; 4] = [Window::Hour, Window::Day, Window::Month, Window::Total];

    /// The variant's name, as JSON, the store and the labels of metrics have it: `Hour`.
    pub fn as_str(self) -> &'static str {
        match self {
            Window::Hour => "Hour",
            Window::Day => "Day",
            Window::Month => "Month",
            Window::Total => "Total",
        }
    }

    /// The window that an instant is in; `None` beyond the years that a calendar has.
    pub fn span(self, now: Timestamp, zone: &TimeZone) -> Option<Span> {
        let local = now.to_zoned(zone.clone());
        let (starts_at, ends_at) = match self {
            Window::Hour => {
                let into = SignedDuration::from_secs(now.as_second().rem_euclid(3600));
                let start = Timestamp::from_second(now.as_second()).ok()?.checked_sub(into).ok()?;
                (start, Some(start.checked_add(SignedDuration::from_hours(1)).ok()?))
            }
            // The first instant of a day may not be midnight, and the next may not be 24 hours later.
            Window::Day => {
                let start = local.start_of_day().ok()?;
                (start.timestamp(), Some(local.tomorrow().ok()?.start_of_day().ok()?.timestamp()))
            }
            Window::Month => {
                let start = local.first_of_month().ok()?.start_of_day().ok()?;
                let next = local.last_of_month().ok()?.tomorrow().ok()?.start_of_day().ok()?;
                (start.timestamp(), Some(next.timestamp()))
            }
            Window::Total => (Timestamp::UNIX_EPOCH, None),
        };
        Some(Span { starts_at, ends_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(window: Window, now: &str, name: &str) -> (String, String) {
        let span = window.span(now.parse().unwrap(), &zone(name).unwrap()).unwrap();
        (span.starts_at.to_string(), span.ends_at.map_or_else(String::new, |at| at.to_string()))
    }

    #[test]
    fn windows_begin_and_end_where_the_calendar_says() {
        for (window, now, zone, starts, ends) in [
            (Window::Hour, "2026-03-29T01:59:59.999999Z", "UTC", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
            (Window::Hour, "1969-12-31T23:30:00Z", "UTC", "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z"),
            (Window::Day, "2026-01-01T00:00:00Z", "UTC", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            (Window::Day, "2025-12-31T23:59:59.999999Z", "UTC", "2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z"),
            // 23 and 25 hours.
            (Window::Day, "2026-03-29T10:00:00Z", "Europe/Zurich", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Window::Day, "2026-10-25T10:00:00Z", "Europe/Zurich", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // The hour that comes twice is in one day, both times.
            (Window::Day, "2026-10-25T00:30:00Z", "Europe/Zurich", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            (Window::Day, "2026-10-25T01:30:00Z", "Europe/Zurich", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // A day that has no midnight begins at one.
            (Window::Day, "2024-04-26T10:00:00Z", "Africa/Cairo", "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"),
            (Window::Day, "2026-11-21T20:00:00Z", "Asia/Kathmandu", "2026-11-21T18:15:00Z", "2026-11-22T18:15:00Z"),
            (Window::Month, "2024-02-29T23:00:00Z", "UTC", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Window::Month, "2026-03-31T22:30:00Z", "Europe/Zurich", "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"),
            (Window::Total, "2026-03-31T22:30:00Z", "Europe/Zurich", "1970-01-01T00:00:00Z", ""),
        ] {
            assert_eq!(span(window, now, zone), (starts.to_owned(), ends.to_owned()), "{window:?} {now} {zone}");
        }
    }

    #[test]
    fn a_zone_that_is_none_is_named() {
        assert!(zone("Mars/Olympus").unwrap_err().to_string().contains("Mars/Olympus"));
    }

    proptest! {
        /// An instant is in its window, and the windows of a zone follow each other without a gap: whatever the
        /// clocks do, nothing is spent in two windows or in none.
        #[test]
        fn windows_cover_time_once(second in 0i64..4_000_000_000, which in 0usize..6) {
            let names = ["UTC", "Europe/Zurich", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Cairo", "Pacific/Apia"];
            let zone = zone(names[which]).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            for window in [Window::Hour, Window::Day, Window::Month] {
                let this = window.span(now, &zone).unwrap();
                let end = this.ends_at.unwrap();
                prop_assert!(this.starts_at <= now && now < end, "{window:?} {now} {this:?}");
                prop_assert_eq!(window.span(end, &zone).unwrap().starts_at, end);
                prop_assert_eq!(window.span(this.starts_at, &zone).unwrap(), this);
            }
        }
    }
}
