//! The time, as fine as PostgreSQL keeps it.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// Nothing is decided or recorded on a finer clock than the record's.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Trunc)).unwrap_or(now)
}
