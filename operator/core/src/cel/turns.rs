//! Whose turn it is to evaluate: a few at once, and nobody more than their share.
//!
//! Each namespace evaluates on all threads but one, so that another finds one that is free or soon will be. Where several
//! wait, the one that was served longest ago is next. Who has used much time of late does not wait in line at all: what
//! they ask for is to be asked again in a moment, so that nobody stands behind it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long somebody waits for a turn.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whoever has used more than this of late waits no more. What was used counts half after each [`HALF_LIFE`].
const FLOOD: Duration = Duration::from_millis(500);
const HALF_LIFE: Duration = Duration::from_secs(1);

/// How many shares are held before those that are idle are dropped.
const MANY: usize = 256;

/// Hands out turns.
pub(super) struct Turns {
    at_once: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Counts turns, to tell who was served when.
    clock: u64,
    shares: HashMap<Arc<str>, Share>,
}

/// How somebody stands.
struct Share {
    running: usize,
    waiting: usize,
    /// Jobs that were given up and still run.
    left_behind: usize,
    served: u64,
    spent: Duration,
    as_of: Instant,
}

/// A turn; it ends when this is dropped.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    who: Arc<str>,
    begun: Instant,
}

impl Default for Turns {
    /// As many as there are processors, between two and four.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self::new(processors.clamp(2, 4))
    }
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once, state: Mutex::default(), changed: Condvar::new() }
    }

    /// A turn for somebody; `None` where they have to ask again later.
    pub(super) fn take(&self, who: &Arc<str>) -> Option<Turn<'_>> {
        let now = Instant::now();
        let deadline = now + PATIENCE;
        let mut state = self.lock();
        if state.shares.len() > MANY {
            state.forget_idle();
        }
        state.share(who, now).waiting += 1;
        loop {
            if state.is_next(who, self.at_once) {
                state.running += 1;
                state.clock += 1;
                let clock = state.clock;
                let share = state.share(who, Instant::now());
                share.waiting -= 1;
                share.running += 1;
                share.served = clock;
                return Some(Turn { turns: self, who: Arc::clone(who), begun: Instant::now() });
            }
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let share = state.share(who, now);
            if left.is_zero() || share.left_behind > 0 || share.spent > FLOOD {
                state.share(who, now).waiting -= 1;
                drop(state);
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A job of theirs was given up and runs on; until it ends they get no turn.
    pub(super) fn left_behind(&self, who: &Arc<str>) {
        self.lock().share(who, Instant::now()).left_behind += 1;
    }

    /// A job that was given up has ended.
    pub(super) fn ended(&self, who: &Arc<str>) {
        let mut state = self.lock();
        let share = state.share(who, Instant::now());
        share.left_behind = share.left_behind.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.running -= 1;
        let share = state.share(&self.who, Instant::now());
        share.running -= 1;
        share.spent += self.begun.elapsed();
        drop(state);
        self.turns.changed.notify_all();
    }
}

impl State {
    fn share(&mut self, who: &Arc<str>, now: Instant) -> &mut Share {
        let fresh = || Share { running: 0, waiting: 0, left_behind: 0, served: 0, spent: Duration::ZERO, as_of: now };
        let share = self.shares.entry(Arc::clone(who)).or_insert_with(fresh);
        let passed = now.saturating_duration_since(share.as_of).as_secs_f64() / HALF_LIFE.as_secs_f64();
        share.spent = share.spent.mul_f64(0.5_f64.powf(passed));
        share.as_of = now;
        share
    }

    /// Whether nobody else who waits and may run was served longer ago.
    fn is_next(&self, who: &Arc<str>, at_once: usize) -> bool {
        let most = (at_once - 1).max(1);
        let may = |share: &Share| share.running < most && share.left_behind == 0;
        let Some(mine) = self.shares.get(who).filter(|share| may(share)) else { return false };
        let sooner = |other: &Share| other.waiting > 0 && may(other) && other.served < mine.served;
        self.running < at_once && !self.shares.values().any(sooner)
    }

    /// Drops who neither runs nor waits and has used nothing of late.
    fn forget_idle(&mut self) {
        let now = Instant::now();
        self.shares.retain(|_, share| {
            let idle = share.running == 0 && share.waiting == 0 && share.left_behind == 0;
            !idle || now.saturating_duration_since(share.as_of) < 16 * HALF_LIFE
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn one_who_floods_leaves_a_thread_to_others() {
        let turns = Turns::new(2);
        let (noisy, quiet): (Arc<str>, Arc<str>) = ("noisy".into(), "quiet".into());
        let first = turns.take(&noisy).unwrap();
        assert!(turns.take(&noisy).is_none(), "the other thread is not theirs");
        let other = turns.take(&quiet).unwrap();
        drop(first);
        assert!(turns.take(&noisy).is_some());
        drop(other);
    }

    #[test]
    fn whoever_left_a_job_behind_gets_nothing_until_it_ends() {
        let turns = Turns::new(2);
        let noisy: Arc<str> = "noisy".into();
        drop(turns.take(&noisy).unwrap());
        turns.left_behind(&noisy);
        assert!(turns.take(&noisy).is_none());
        turns.ended(&noisy);
        assert!(turns.take(&noisy).is_some());
    }

    #[test]
    fn nobody_waits_long_behind_many_who_flood() {
        let turns = Turns::new(2);
        let stop = AtomicBool::new(false);
        let mut longest = Duration::ZERO;
        thread::scope(|scope| {
            for n in 0..32 {
                let (turns, stop) = (&turns, &stop);
                let who: Arc<str> = format!("noisy-{}", n % 4).into();
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match turns.take(&who) {
                            Some(turn) => {
                                let until = Instant::now() + Duration::from_millis(20);
                                while Instant::now() < until {
                                    std::hint::spin_loop();
                                }
                                drop(turn);
                            }
                            None => thread::yield_now(),
                        }
                    }
                });
            }
            let quiet: Arc<str> = "quiet".into();
            for _ in 0..20 {
                let asked = Instant::now();
                assert!(turns.take(&quiet).is_some());
                longest = longest.max(asked.elapsed());
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(longest < Duration::from_millis(500), "{longest:?}");
    }
}
