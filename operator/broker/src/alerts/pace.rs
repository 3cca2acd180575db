//! When an alert that was not delivered is tried again.

use std::time::Duration;

use countersign_service::backoff;

/// After that it is given up.
pub const TRIES: u32 = 10;
/// After the first try; each pause is three times the one before it.
const FIRST: Duration = Duration::from_secs(5);

/// How long to wait after this try: up to half as much again, drawn from the alert's id, so that alerts that failed
/// together do not come back together. `None` where it was the last.
pub fn again(id: i64, attempt: u32) -> Option<Duration> {
    if attempt >= TRIES {
        return None;
    }
    let pause = FIRST.saturating_mul(3_u32.saturating_pow(attempt.saturating_sub(1)));
    Some(backoff::spread(pause, id, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_are_spread_over_most_of_a_day_and_end_within_it() {
        for id in 1..1000 {
            let pauses: Vec<Duration> = (1..TRIES).map(|attempt| again(id, attempt).unwrap()).collect();
            assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
            let all: Duration = pauses.iter().sum();
            // With a minute for each try itself.
            let hours = (all + Duration::from_secs(60) * TRIES).as_secs_f64() / 3600.0;
            assert!((13.0..24.0).contains(&hours), "{hours} h");
            assert_eq!((again(id, TRIES), again(id, TRIES + 1), again(id, u32::MAX)), (None, None, None));
        }
    }

    #[test]
    fn alerts_that_failed_together_come_back_apart_and_always_alike() {
        let pauses: std::collections::BTreeSet<Duration> = (0..100).map(|id| again(id, 9).unwrap()).collect();
        assert!(pauses.len() > 70, "{}", pauses.len());
        for (id, attempt) in [(1, 1), (1, 5), (i64::MAX, 9), (i64::MIN, 0)] {
            assert_eq!(again(id, attempt), again(id, attempt));
        }
    }
}
