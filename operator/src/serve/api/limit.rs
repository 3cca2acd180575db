//! How much one reader may ask for, and all of them together.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;

/// Requests at once, of all readers together.
const AT_ONCE: usize = 16;
/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u32 = 5;
/// Callers that are remembered before the quiet ones are forgotten.
const CALLERS: usize = 1024;

pub struct Limits {
    callers: DefaultKeyedRateLimiter<String>,
    requests: Semaphore,
}

impl Limits {
    pub fn new(requests_per_second: u32) -> Limits {
        let rate = NonZeroU32::new(requests_per_second).unwrap_or(NonZeroU32::MIN);
        let quota =
            Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1)));
        Limits { callers: RateLimiter::keyed(quota), requests: Semaphore::new(AT_ONCE) }
    }

    /// Held for as long as a request is answered.
    pub fn enter(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.requests.try_acquire().map_err(|_| Problem::unavailable("too many readers at once; try again"))
    }

    /// Counts a request of this caller.
    pub fn count(&self, caller: &str) -> Result<(), Problem> {
        if self.callers.len() > CALLERS {
            self.callers.retain_recent();
        }
        self.callers.check_key(&caller.to_owned()).map_err(|until| {
            let wait: Duration = until.wait_time_from(DefaultClock::default().now());
            Problem::too_many(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_share_of_its_own() {
        let limits = Limits::new(2);
        let allowed = |caller: &str| (0..100).filter(|_| limits.count(caller).is_ok()).count();
        assert!((10..=12).contains(&allowed("alice")), "five seconds' worth, and then no more");
        assert!((10..=12).contains(&allowed("bob")), "whatever alice did");
        let entered: Vec<_> = (0..AT_ONCE).map(|_| limits.enter().unwrap()).collect();
        assert!(limits.enter().is_err());
        drop(entered);
        assert!(limits.enter().is_ok());
    }
}
