//! What is shared between calls: how often a Skill may call, which hosts are given a rest, and how much may be held in
//! memory.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::judge::breaker::{Breaker, BreakerSettings, Outcome, Permit};
use crate::refusal::{Reason, Refusal};

/// Entries that are remembered before those that say nothing are forgotten.
const REMEMBERED: usize = 4096;

/// No room here panics while it holds a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls a minute, of all attempts of a Skill together, at this replica.
#[derive(Default)]
pub struct Rates {
    skills: Mutex<HashMap<(String, NonZeroU32), Arc<DefaultDirectRateLimiter>>>,
}

impl Rates {
    pub fn count(&self, skill: &str, per_minute: Option<u32>) -> Result<(), Refusal> {
        let Some(most) = per_minute.and_then(NonZeroU32::new) else { return Ok(()) };
        let limiter = {
            let mut skills = lock(&self.skills);
            if skills.len() >= REMEMBERED {
                skills.clear();
            }
            let new = || Arc::new(RateLimiter::direct(Quota::per_minute(most)));
            Arc::clone(skills.entry((skill.to_owned(), most)).or_insert_with(new))
        };
        limiter.check().map_err(|until| {
            let detail = format!("Skill {skill} may make {most} calls a minute, and has; callsPerMinute says so");
            Refusal::new(Reason::RateLimited, detail).after(until.wait_time_from(DefaultClock::default().now()))
        })
    }
}

/// A breaker for each host of each Skill, so that no Skill can shut a host for another.
pub struct Breakers {
    settings: BreakerSettings,
    hosts: Mutex<HashMap<Host, Breaker>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    pub skill: String,
    /// With its port.
    pub authority: String,
}

/// The right to one call. Dropped without a word it says that nothing was learnt.
pub struct CallPermit {
    breakers: Arc<Breakers>,
    host: Host,
    permit: Option<Permit>,
}

impl Breakers {
    pub fn new(settings: BreakerSettings) -> Breakers {
        Breakers { settings, hosts: Mutex::default() }
    }

    pub fn admit(self: &Arc<Self>, host: Host) -> Result<CallPermit, Refusal> {
        let mut hosts = lock(&self.hosts);
        if hosts.len() >= REMEMBERED {
            hosts.retain(|_, breaker| !breaker.is_idle());
        }
        match hosts.entry(host.clone()).or_default().admit(Instant::now()) {
            Ok(permit) => Ok(CallPermit { breakers: Arc::clone(self), host, permit: Some(permit) }),
            Err(wait) => {
                let detail = format!("{} failed several times in a row and is given a rest", host.authority);
                Err(Refusal::new(Reason::CircuitOpen, detail).after(wait))
            }
        }
    }
}

impl CallPermit {
    pub fn settle(mut self, outcome: Outcome) {
        self.hand_back(outcome);
    }

    fn hand_back(&mut self, outcome: Outcome) {
        let Some(permit) = self.permit.take() else { return };
        let mut hosts = lock(&self.breakers.hosts);
        if let Some(breaker) = hosts.get_mut(&self.host) {
            breaker.settle(Instant::now(), permit, outcome, &self.breakers.settings);
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.hand_back(Outcome::Nothing);
    }
}

/// Memory for bodies that must be read before they can be judged.
pub struct Buffers {
    kibibytes: Arc<Semaphore>,
}

impl Buffers {
    pub fn new(bytes: usize) -> Buffers {
        Buffers { kibibytes: Arc::new(Semaphore::new(bytes / 1024)) }
    }

    /// Held for as long as the bytes are.
    pub fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        Arc::clone(&self.kibibytes).try_acquire_many_owned(kibibytes).map_err(|_| {
            let detail = "the broker holds as many large requests as it can; try again";
            Refusal::new(Reason::Busy, detail).after(Duration::from_secs(1))
        })
    }
}

/// Gives back what turned out not to be needed.
pub fn shrink(mut held: OwnedSemaphorePermit, bytes: usize) -> OwnedSemaphorePermit {
    let needed = bytes.div_ceil(1024).min(held.num_permits());
    drop(held.split(held.num_permits() - needed));
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_skill_has_its_own_rate() {
        let rates = Rates::default();
        let allowed = |skill: &str, most| (0..20).filter(|_| rates.count(skill, most).is_ok()).count();
        assert_eq!((allowed("a", Some(5)), allowed("b", Some(7)), allowed("c", None)), (5, 7, 20));
        let refusal = rates.count("a", Some(5)).unwrap_err();
        assert_eq!(refusal.reason, Reason::RateLimited);
    }

    #[test]
    fn no_skill_shuts_a_host_for_another() {
        let settings = BreakerSettings { failures: 2, open: Duration::from_secs(60) };
        let breakers = Arc::new(Breakers::new(settings));
        let host = |skill: &str| Host { skill: skill.to_owned(), authority: "a.example:443".to_owned() };
        for _ in 0..2 {
            breakers.admit(host("a")).unwrap().settle(Outcome::Failure);
        }
        assert_eq!(breakers.admit(host("a")).map(drop).unwrap_err().reason, Reason::CircuitOpen);
        assert!(breakers.admit(host("b")).is_ok());
    }

    #[test]
    fn memory_is_given_back() {
        let buffers = Buffers::new(10 * 1024);
        let held = buffers.take(9 * 1024).unwrap();
        assert_eq!(buffers.take(2 * 1024).map(drop).unwrap_err().reason, Reason::Busy);
        let held = shrink(held, 1025);
        assert!(buffers.take(9 * 1024).is_err() && buffers.take(8 * 1024).is_ok());
        drop(held);
        assert!(buffers.take(10 * 1024).is_ok());
    }
}
