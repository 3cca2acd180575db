//! Threads with a large stack that run one job at a time within a time limit.
//!
//! A thread cannot be ended from outside. A job that overruns is left behind with its thread, which
//! ends with the job; the number of such threads is bounded, and beyond it nothing is started.

use super::turns::Turns;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Virtual memory; only the pages that are touched cost anything.
const STACK_BYTES: usize = 64 << 20;
const MAX_IDLE: usize = 4;
pub(super) const MAX_ABANDONED: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const ABANDONED: u8 = 2;

thread_local! {
    static ON_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Why a job gave no result.
#[derive(Debug)]
pub(super) enum Overrun {
    /// It did not end within the limit and was left behind.
    Timeout,
    /// [`MAX_ABANDONED`] jobs are still running long after their limit.
    Saturated,
    /// It panicked with this message.
    Panicked(String),
    /// The system gave no thread.
    NoThread(std::io::Error),
}

/// Workers that wait for a job, whose turn it is to have one, and a count of those that were left behind.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Sender<Job>>>,
    abandoned: Arc<AtomicUsize>,
    turns: Arc<Turns>,
}

impl Pool {
    /// Runs `job` on a worker and waits for it, at most for `limit`, and before that for a turn of whoever it is for.
    /// What is on a worker already stays there, within the limit of the job that it is part of.
    pub(super) fn run<T: Send + 'static>(
        &self,
        who: Option<&Arc<str>>,
        limit: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overrun> {
        if ON_WORKER.get() {
            return catch_unwind(AssertUnwindSafe(job))
                .map_err(|panic| Overrun::Panicked(panic_message(panic.as_ref())));
        }
        if self.abandoned.load(Ordering::SeqCst) >= MAX_ABANDONED {
            return Err(Overrun::Saturated);
        }
        let turn = match who.map(|who| self.turns.take(who)) {
            Some(None) => return Err(Overrun::Saturated),
            Some(Some(turn)) => Some(turn),
            None => None,
        };
        // Taken before a match, whose scrutinee would hold the lock to its end.
        let idle = self.idle().pop();
        let worker = match idle {
            Some(worker) => worker,
            None => spawn().map_err(Overrun::NoThread)?,
        };

        let state = Arc::new(AtomicU8::new(RUNNING));
        let (reply, result) = mpsc::channel();
        let boxed: Job = {
            let state = Arc::clone(&state);
            let abandoned = Arc::clone(&self.abandoned);
            let (turns, who) = (Arc::clone(&self.turns), who.map(Arc::clone));
            Box::new(move || {
                let outcome = catch_unwind(AssertUnwindSafe(job));
                if claim(&state, DONE) {
                    // The caller may have gone with its own thread; then nobody wants the result.
                    let _ = reply.send(outcome);
                } else {
                    drop(outcome);
                    if let Some(who) = &who {
                        turns.ended(who);
                    }
                    abandoned.fetch_sub(1, Ordering::SeqCst);
                }
            })
        };
        if worker.send(boxed).is_err() {
            return Err(Overrun::Panicked("the worker has ended".to_owned()));
        }

        let outcome = match result.recv_timeout(limit) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.abandoned.fetch_add(1, Ordering::SeqCst);
                who.inspect(|who| self.turns.left_behind(who));
                if claim(&state, ABANDONED) {
                    return Err(Overrun::Timeout);
                }
                // It ended in this very moment, and its result is on the way.
                who.inspect(|who| self.turns.ended(who));
                self.abandoned.fetch_sub(1, Ordering::SeqCst);
                result.recv().map_err(|_| Overrun::Panicked("the worker has ended".to_owned()))?
            }
        };
        drop(turn);
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(worker);
        }
        drop(idle);
        outcome.map_err(|panic| Overrun::Panicked(panic_message(panic.as_ref())))
    }

    /// How many jobs are still running after they were given up.
    #[cfg(test)]
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender<Job>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the running state of a job; false where the other side has ended it.
fn claim(state: &AtomicU8, end: u8) -> bool {
    state.compare_exchange(RUNNING, end, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// Starts a worker, which ends when its sender is dropped.
fn spawn() -> std::io::Result<Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new().name("cel".to_owned()).stack_size(STACK_BYTES).spawn(move || {
        ON_WORKER.set(true);
        for job in jobs {
            job();
        }
    })?;
    Ok(sender)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(30);

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < deadline, "not in time");
            thread::yield_now();
        }
    }

    #[test]
    fn a_worker_serves_again_and_survives_a_panic() {
        let pool = Pool::default();
        let first = pool.run(None, LONG, || thread::current().id()).unwrap();
        let panicked: Result<(), _> = pool.run(None, LONG, || panic!("as {}", "asked"));
        assert!(matches!(panicked, Err(Overrun::Panicked(message)) if message == "as asked"));
        assert_eq!(pool.run(None, LONG, || thread::current().id()).unwrap(), first);
    }

    #[test]
    fn what_is_on_a_worker_stays_there() {
        let pool = Arc::new(Pool::default());
        let inner = Arc::clone(&pool);
        let (outside, inside, panicked) = pool
            .run(None, LONG, move || {
                let inside = inner.run(None, LONG, || thread::current().id());
                let panicked: Result<(), _> = inner.run(None, LONG, || panic!("as asked"));
                (thread::current().id(), inside.unwrap(), panicked)
            })
            .unwrap();
        assert_eq!(outside, inside);
        assert!(matches!(panicked, Err(Overrun::Panicked(message)) if message == "as asked"));
    }

    #[test]
    fn overrunning_jobs_are_bounded_and_the_pool_recovers() {
        let pool = Pool::default();
        let release = Arc::new(std::sync::Barrier::new(MAX_ABANDONED + 1));
        for _ in 0..MAX_ABANDONED {
            let release = Arc::clone(&release);
            let overrun = pool.run(None, Duration::from_millis(1), move || {
                release.wait();
            });
            assert!(matches!(overrun, Err(Overrun::Timeout)));
        }
        assert_eq!(pool.abandoned(), MAX_ABANDONED);
        assert!(matches!(pool.run(None, LONG, || ()), Err(Overrun::Saturated)));
        release.wait();
        wait_until(|| pool.abandoned() == 0);
        assert_eq!(pool.run(None, LONG, || 7).unwrap(), 7);
    }

    #[test]
    fn many_threads_share_a_pool() {
        let pool = Pool::default();
        thread::scope(|scope| {
            for number in 0..32 {
                let pool = &pool;
                scope.spawn(move || assert_eq!(pool.run(None, LONG, move || number).unwrap(), number));
            }
        });
        assert!(pool.idle().len() <= MAX_IDLE);
    }
}
