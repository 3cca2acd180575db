//! A circuit breaker: after failures in a row nothing is sent for a while, then one call at a time tries.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// In a row, until it opens.
    pub failures: u32,
    /// How long it stays open.
    pub open: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One call is trying.
    HalfOpen,
}

/// The right to one call; it is handed back with what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Nothing was learnt of the host.
    Nothing,
}

/// While another call tries.
const WHILE_TRYING: Duration = Duration::from_secs(1);

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { state: State::Closed { failures: 0 } }
    }
}

impl Breaker {
    /// A permit, or how long to wait before asking again.
    pub fn admit(&mut self, now: Instant) -> Result<Permit, Duration> {
        match self.state {
            State::Closed { .. } => Ok(Permit { probe: false }),
            State::Open { until } if now < until => Err(until - now),
            State::Open { .. } => {
                self.state = State::HalfOpen;
                Ok(Permit { probe: true })
            }
            State::HalfOpen => Err(WHILE_TRYING),
        }
    }

    pub fn settle(&mut self, now: Instant, permit: Permit, outcome: Outcome, settings: &BreakerSettings) {
        let BreakerSettings { failures: most, open } = *settings;
        self.state = match (&self.state, permit.probe, outcome) {
            (State::HalfOpen, true, Outcome::Success) => State::Closed { failures: 0 },
            (State::HalfOpen, true, Outcome::Failure) => State::Open { until: now + open },
            (State::HalfOpen, true, Outcome::Nothing) => State::Open { until: now },
            (State::Closed { .. }, _, Outcome::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, _, Outcome::Failure) if failures + 1 >= most => {
                State::Open { until: now + open }
            }
            (State::Closed { failures }, _, Outcome::Failure) => State::Closed { failures: failures + 1 },
            // A call that began before it opened says nothing of how the host is now.
            (state @ (State::Open { .. } | State::HalfOpen), _, _) => state.clone(),
            (state @ State::Closed { .. }, _, Outcome::Nothing) => state.clone(),
        };
    }

    /// Whether forgetting it changes nothing.
    pub fn is_idle(&self) -> bool {
        self.state == State::Closed { failures: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, open: Duration::from_secs(30) };

    /// `s`, `f` and `n` are calls that succeed, fail and teach nothing; a digit waits that many times ten seconds; `A`
    /// and `D` expect that a call would be admitted or denied.
    fn play(script: &str) {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for (at, step) in script.chars().enumerate() {
            let outcome = match step {
                's' => Outcome::Success,
                'f' => Outcome::Failure,
                'n' => Outcome::Nothing,
                'A' | 'D' => {
                    assert_eq!(breaker.clone().admit(now).is_ok(), step == 'A', "{script}, at {at}: {breaker:?}");
                    continue;
                }
                digit => {
                    now += Duration::from_secs(u64::from(digit.to_digit(10).unwrap()) * 10);
                    continue;
                }
            };
            let permit = breaker.admit(now).unwrap_or_else(|wait| panic!("{script}, at {at}: wait {wait:?}"));
            breaker.settle(now, permit, outcome, &SETTINGS);
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        for script in [
            "AsssA",
            "ffA",
            "fffD",
            "ffsffA",
            "ffnfD",
            "ffnA",
            "fffD2D1A",
            "fff3sA",
            "fff3sffAfD",
            "fff3fD2D1A",
            "fff3nA",
            "fff3nsA",
            "fff9fD3fD3sA",
        ] {
            play(script);
        }
    }

    #[test]
    fn one_call_tries_at_a_time_and_late_ones_do_not_count() {
        let mut breaker = Breaker::default();
        let start = Instant::now();
        let early: Vec<Permit> = (0..5).map(|_| breaker.admit(start).unwrap()).collect();
        for permit in &early[..3] {
            breaker.settle(start, *permit, Outcome::Failure, &SETTINGS);
        }
        assert_eq!(breaker.admit(start), Err(SETTINGS.open));
        breaker.settle(start, early[3], Outcome::Success, &SETTINGS);
        assert!(breaker.admit(start).is_err(), "a late success does not close it");
        let later = start + SETTINGS.open;
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.admit(later), Err(WHILE_TRYING));
        breaker.settle(later, early[4], Outcome::Success, &SETTINGS);
        assert!(breaker.admit(later).is_err(), "only the one that tries decides");
        breaker.settle(later, probe, Outcome::Success, &SETTINGS);
        assert!(breaker.admit(later).is_ok() && breaker.is_idle());
    }

    proptest! {
        #[test]
        fn it_never_stays_shut_for_ever(steps in prop::collection::vec((0..3u8, 0..60u64), 0..60)) {
            let mut breaker = Breaker::default();
            let mut now = Instant::now();
            for (outcome, wait) in steps {
                now += Duration::from_secs(wait);
                let outcome = [Outcome::Success, Outcome::Failure, Outcome::Nothing][usize::from(outcome)];
                if let Ok(permit) = breaker.admit(now) {
                    breaker.settle(now, permit, outcome, &SETTINGS);
                }
            }
            prop_assert!(breaker.admit(now + SETTINGS.open).is_ok());
        }
    }
}
