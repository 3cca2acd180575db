//! How much one reader may ask for, and all of them together; and how often the API server is asked who somebody is, for
//! one address and for all, as anybody can make up a token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::problem::Problem;

/// Requests at once, of all readers together.
const AT_ONCE: usize = 16;
/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u32 = 5;
/// Callers, and addresses, that are remembered before the quiet ones are forgotten.
const REMEMBERED: usize = 1024;
/// How many callers' worth of tokens one address may send: several readers share one behind a proxy, and one that asks too
/// much is to keep nothing from the others.
const CALLERS_OF_ADDRESS: u32 = 10;
/// The same of all addresses together.
const CALLERS_IN_ALL: u32 = 40;
/// Tokens of one address that are reviewed at once; more of them wait.
const REVIEWS_OF_ADDRESS: usize = 4;
/// The same of all addresses together.
const REVIEWS_IN_ALL: usize = 16;
/// For how long a token waits for its review, and that for its answer.
const REVIEW: Duration = Duration::from_secs(10);

pub struct Limits {
    callers: DefaultKeyedRateLimiter<String>,
    requests: Semaphore,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    all: DefaultDirectRateLimiter,
    reviews: Arc<Semaphore>,
    reviews_of: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// Held for as long as a token is reviewed.
struct Reviewing {
    _of_address: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Limits {
    pub fn new(requests_per_second: u32) -> Limits {
        let rate = NonZeroU32::new(requests_per_second).unwrap_or(NonZeroU32::MIN);
        let of = |callers| {
            let rate = rate.saturating_mul(some(callers));
            Quota::per_second(rate).allow_burst(rate.saturating_mul(some(BURST_SECONDS)))
        };
        Limits {
            callers: RateLimiter::keyed(of(1)),
            requests: Semaphore::new(AT_ONCE),
            addresses: RateLimiter::keyed(of(CALLERS_OF_ADDRESS)),
            all: RateLimiter::direct(of(CALLERS_IN_ALL)),
            reviews: Arc::new(Semaphore::new(REVIEWS_IN_ALL)),
            reviews_of: Mutex::default(),
        }
    }

    /// What the review of a token says that came from this address, within what it and all of them may ask.
    pub async fn review<T>(&self, address: IpAddr, review: impl Future<Output = T>) -> Result<T, Problem> {
        let address = counted(address);
        if self.addresses.len() > REMEMBERED {
            self.addresses.retain_recent();
        }
        self.addresses.check_key(&address).map_err(|until| Problem::too_many(seconds(&until)))?;
        let busy = |_| Problem::unavailable("too many tokens to review at once; try again");
        self.all.check().map_err(busy)?;
        let reviewed = async {
            let reviewing = self.reviewing(address).await;
            let answer = review.await;
            drop(reviewing);
            answer
        };
        tokio::time::timeout(REVIEW, reviewed)
            .await
            .map_err(|_| Problem::unavailable("the API server does not say in time who you are; try again"))
    }

    /// Waits for a turn among those of the address, and then among all.
    async fn reviewing(&self, address: IpAddr) -> Option<Reviewing> {
        let own = self.reviews_of(address);
        // Neither is ever closed.
        let of_address = own.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.reviews).acquire_owned().await.ok()?;
        Some(Reviewing { _of_address: of_address, _of_all: of_all })
    }

    fn reviews_of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut known = self.reviews_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reviews) = known.get(&address).and_then(Weak::upgrade) {
            return reviews;
        }
        if known.len() >= REMEMBERED {
            known.retain(|_, reviews| reviews.strong_count() > 0);
        }
        let reviews = Arc::new(Semaphore::new(REVIEWS_OF_ADDRESS));
        known.insert(address, Arc::downgrade(&reviews));
        reviews
    }

    /// Held for as long as a request is answered.
    pub fn enter(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.requests.try_acquire().map_err(|_| Problem::unavailable("too many readers at once; try again"))
    }

    /// Counts a request of this caller.
    pub fn count(&self, caller: &str) -> Result<(), Problem> {
        if self.callers.len() > REMEMBERED {
            self.callers.retain_recent();
        }
        self.callers.check_key(&caller.to_owned()).map_err(|until| Problem::too_many(seconds(&until)))
    }
}

fn some(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// What counts as one address: of IPv6 its network of 64 bits, of which one machine may have every address.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

fn seconds(until: &NotUntil<<DefaultClock as Clock>::Instant>) -> u32 {
    let wait: Duration = until.wait_time_from(DefaultClock::default().now());
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
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

    #[test]
    fn one_machine_is_one_address_however_it_is_written() {
        let counted = |text: &str| counted(text.parse().unwrap()).to_string();
        assert_eq!(counted("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::ffff:2"));
        assert_ne!(counted("2001:db8::1"), counted("2001:db8:0:1::1"));
    }

    #[tokio::test]
    async fn addresses_that_went_away_are_forgotten() {
        let limits = Limits::new(100_000);
        for n in 0..2 * 1024u32 {
            assert!(limits.review(IpAddr::V4(n.into()), async {}).await.is_ok());
        }
        assert!(limits.reviews_of.lock().unwrap().len() <= REMEMBERED);
    }
}
