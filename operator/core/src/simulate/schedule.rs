//! When each step would start and end: list scheduling in the Plan's order, with as many at once as the Plan allows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

/// What the steps do when their turn comes. Times are counted from the beginning.
pub(super) trait Work {
    fn begin(&mut self, step: usize, at: Duration, turn: Turn) -> Begin;
    fn end(&mut self, step: usize, at: Duration);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It could start now.
    Start,
    /// It could but for a place: whatever comes before its start may be done.
    Ahead,
    /// It could, and waits for what nobody in the Plan will give back.
    Forced,
}

pub(super) enum Begin {
    /// Nothing is to be done before its start.
    Wait,
    /// It takes no time.
    Done,
    For(Duration),
    /// It starts now, but after all others that can.
    Behind,
    /// It has to wait, and so does whatever else is of the same class.
    Park {
        class: String,
        wake: Wake,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    At(Duration),
    /// When a step ends.
    AtAnEnd,
}

/// What came of it, by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub starts: Vec<Duration>,
    pub ends: Vec<Duration>,
    /// The step whose end let it start.
    after: Vec<Option<usize>>,
}

impl Times {
    pub fn end(&self) -> Duration {
        self.ends.iter().copied().max().unwrap_or_default()
    }

    /// The chain of steps that each waited for the one before, up to the last to end.
    pub fn critical_path(&self) -> Vec<usize> {
        let end = self.end();
        let mut at = self.ends.iter().position(|ends| *ends == end && end > Duration::ZERO);
        let mut path = Vec::new();
        while let Some(step) = at {
            path.push(step);
            at = self.after.get(step).copied().flatten();
        }
        path.reverse();
        path
    }
}

/// Steps that wait for the same.
struct Class {
    wake: Wake,
    steps: BTreeSet<usize>,
}

struct Schedule<'w, W> {
    work: &'w mut W,
    parallelism: usize,
    followers: Vec<Vec<usize>>,
    /// How many of its needs are not met.
    unmet: Vec<usize>,
    /// Those that go behind the others come last; else the Plan's order.
    ready: BTreeSet<(bool, usize)>,
    running: BinaryHeap<Reverse<(Duration, usize)>>,
    parked: BTreeMap<String, Class>,
    /// Of what was parked and is ready again: its class, of which one is tried after the other.
    woken: BTreeMap<usize, String>,
    /// When its needs were met.
    met_at: Vec<Duration>,
    last_ended: Option<usize>,
    times: Times,
}

/// `needs` holds for each step the steps that come before it.
pub(super) fn schedule<W: Work>(needs: &[BTreeSet<usize>], parallelism: u32, work: &mut W) -> Times {
    let count = needs.len();
    let mut followers = vec![Vec::new(); count];
    for (step, needs) in needs.iter().enumerate() {
        for need in needs {
            if let Some(followers) = followers.get_mut(*need) {
                followers.push(step);
            }
        }
    }
    let unmet: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    let ready = unmet.iter().enumerate().filter(|(_, unmet)| **unmet == 0).map(|(step, _)| (false, step)).collect();
    let mut schedule = Schedule {
        work,
        parallelism: parallelism.max(1) as usize,
        followers,
        unmet,
        ready,
        running: BinaryHeap::new(),
        parked: BTreeMap::new(),
        woken: BTreeMap::new(),
        met_at: vec![Duration::ZERO; count],
        last_ended: None,
        times: Times {
            starts: vec![Duration::ZERO; count],
            ends: vec![Duration::ZERO; count],
            after: vec![None; count],
        },
    };
    schedule.run();
    schedule.times
}

impl<W: Work> Schedule<'_, W> {
    fn run(&mut self) {
        let mut now = Duration::ZERO;
        loop {
            self.begin_all(now);
            let ends = self.running.peek().map(|Reverse((at, _))| *at);
            let wakes = self.parked.values().filter_map(|class| match class.wake {
                Wake::At(at) => Some(at),
                Wake::AtAnEnd => None,
            });
            match ends.into_iter().chain(wakes).min() {
                Some(next) => {
                    now = now.max(next);
                    self.advance(now);
                }
                None => match self.first_parked() {
                    Some(step) => drop(self.begin(step, now, Turn::Forced)),
                    None => return,
                },
            }
        }
    }

    /// Round by round, as [`crate::decide`] does: of those that are ready when a round begins, as many as have a place,
    /// and one at least, which may have something to do before its start.
    fn begin_all(&mut self, now: Duration) {
        loop {
            let free = self.parallelism.saturating_sub(self.running.len());
            let turn = if free > 0 { Turn::Start } else { Turn::Ahead };
            let round = self.ready.iter().take_while(|(behind, _)| !behind).take(free.max(1));
            let mut any = false;
            for step in round.map(|(_, step)| *step).collect::<Vec<_>>() {
                self.ready.remove(&(false, step));
                any |= self.begin(step, now, turn);
            }
            if any {
                continue;
            }
            match self.ready.first().copied().filter(|_| free > 0) {
                Some(behind @ (_, step)) => {
                    self.ready.remove(&behind);
                    self.begin(step, now, Turn::Start);
                }
                None => return,
            }
        }
    }

    /// What ends now ends, and what waited for now is tried again.
    fn advance(&mut self, now: Duration) {
        let mut ended = false;
        while let Some(Reverse((at, step))) = self.running.peek().copied()
            && at <= now
        {
            self.running.pop();
            self.work.end(step, now);
            self.last_ended = Some(step);
            self.complete(step, now);
            ended = true;
        }
        let due = |class: &Class| match class.wake {
            Wake::At(at) => at <= now,
            Wake::AtAnEnd => ended,
        };
        let classes: Vec<String> =
            self.parked.iter().filter(|(_, class)| due(class)).map(|(name, _)| name.clone()).collect();
        classes.iter().for_each(|class| self.wake_next(class));
    }

    /// Whether anything came of it.
    fn begin(&mut self, step: usize, now: Duration, turn: Turn) -> bool {
        let class = self.woken.remove(&step);
        let again = match self.work.begin(step, now, turn) {
            Begin::Wait => {
                self.ready.insert((false, step));
                self.woken.extend(class.map(|class| (step, class)));
                return false;
            }
            Begin::Behind => {
                self.ready.insert((true, step));
                None
            }
            Begin::Park { class, wake } => {
                let parked = self.parked.entry(class.clone()).or_insert(Class { wake, steps: BTreeSet::new() });
                parked.wake = wake;
                parked.steps.insert(step);
                Some(class)
            }
            Begin::Done => {
                self.started(step, now);
                self.complete(step, now);
                None
            }
            Begin::For(duration) => {
                self.started(step, now);
                self.running.push(Reverse((now.saturating_add(duration), step)));
                None
            }
        };
        if let Some(class) = class.filter(|class| again.as_ref() != Some(class)) {
            self.wake_next(&class);
        }
        true
    }

    fn started(&mut self, step: usize, now: Duration) {
        if self.met_at[step] < now {
            // It was not its needs that it waited for last.
            self.times.after[step] = self.last_ended.filter(|ended| self.times.ends[*ended] == now);
        }
        self.times.starts[step] = now;
    }

    fn complete(&mut self, step: usize, now: Duration) {
        self.times.ends[step] = now;
        for follower in std::mem::take(&mut self.followers[step]) {
            self.unmet[follower] -= 1;
            if self.unmet[follower] == 0 {
                self.times.after[follower] = Some(step);
                self.met_at[follower] = now;
                self.ready.insert((false, follower));
            }
        }
    }

    fn wake_next(&mut self, name: &str) {
        let Some(class) = self.parked.get_mut(name) else { return };
        if let Some(step) = class.steps.pop_first() {
            self.ready.insert((false, step));
            self.woken.insert(step, name.to_owned());
        }
        if class.steps.is_empty() {
            self.parked.remove(name);
        } else {
            // Until the one that is tried says more.
            class.wake = Wake::AtAnEnd;
        }
    }

    fn first_parked(&mut self) -> Option<usize> {
        let (name, step) = self
            .parked
            .iter()
            .filter_map(|(name, class)| Some((name.clone(), *class.steps.first()?)))
            .min_by_key(|(_, step)| *step)?;
        let class = self.parked.get_mut(&name)?;
        class.steps.remove(&step);
        if class.steps.is_empty() {
            self.parked.remove(&name);
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests;
