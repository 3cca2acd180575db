//! When each step began and ended, and which it waited for, read off the changes of a record.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use crate::record::{Change, RecordedPlan};

/// By step, in the Plan's order; times are counted from the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeline {
    pub starts: Vec<Duration>,
    pub ends: Vec<Duration>,
    /// The steps that began, in the order in which they did.
    pub order: Vec<usize>,
    /// The step whose end let it start.
    after: Vec<Option<usize>>,
}

impl Timeline {
    pub fn of(now: Timestamp, plan: &RecordedPlan, changes: &[Change]) -> Timeline {
        let places: HashMap<&str, usize> =
            plan.steps.iter().enumerate().map(|(place, step)| (step.name.as_str(), place)).collect();
        let place = |step: &str| places.get(step).copied();
        let count = plan.steps.len();
        let mut timeline = Timeline {
            starts: vec![Duration::ZERO; count],
            ends: vec![Duration::ZERO; count],
            order: Vec::with_capacity(count),
            after: vec![None; count],
        };
        let mut begun = vec![false; count];
        // When the needs of a step were met, and by which.
        let mut met: BTreeMap<usize, (Duration, usize)> = BTreeMap::new();
        let mut last_ended = None;
        let mut followers: HashMap<usize, Vec<usize>> = HashMap::new();
        let work: Vec<usize> =
            plan.steps.iter().enumerate().filter(|(_, step)| !step.finally).map(|(place, _)| place).collect();
        for (follower, step) in plan.steps.iter().enumerate() {
            let needed = step.all_needs().filter_map(|need| place(need.step));
            for before in needed.chain(if step.finally { work.as_slice() } else { &[] }.iter().copied()) {
                followers.entry(before).or_default().push(follower);
            }
        }
        for change in changes {
            let at = since(now, change.at());
            match change {
                Change::Intend { step, .. } => {
                    let Some(step) = place(step) else { continue };
                    timeline.begin(step, at, &mut begun, &met, last_ended);
                }
                Change::FinishStep { step, .. } => {
                    let Some(step) = place(step) else { continue };
                    let ran = begun[step];
                    timeline.begin(step, at, &mut begun, &met, last_ended);
                    timeline.ends[step] = at;
                    for follower in followers.get(&step).into_iter().flatten() {
                        met.insert(*follower, (at, step));
                    }
                    // What never ran gave no place back.
                    if ran {
                        last_ended = Some(step);
                    }
                }
                Change::Adopt { .. }
                | Change::SnapshotPlan { .. }
                | Change::RequestApproval { .. }
                | Change::SignApproval { .. }
                | Change::DecideApproval { .. }
                | Change::ExpireApproval { .. }
                | Change::SupersedeApproval { .. }
                | Change::WithdrawApproval { .. }
                | Change::Defer { .. }
                | Change::Admit { .. }
                | Change::FinishAttempt { .. }
                | Change::BeginEnding { .. }
                | Change::FinishTask { .. } => {}
            }
        }
        timeline
    }

    /// Only its first attempt begins a step.
    fn begin(
        &mut self,
        step: usize,
        at: Duration,
        begun: &mut [bool],
        met: &BTreeMap<usize, (Duration, usize)>,
        last_ended: Option<usize>,
    ) {
        if std::mem::replace(&mut begun[step], true) {
            return;
        }
        self.starts[step] = at;
        self.order.push(step);
        self.after[step] = match met.get(&step) {
            Some((met, need)) if *met == at => Some(*need),
            // It was not its needs that it waited for last.
            Some(_) | None if at > Duration::ZERO => last_ended.filter(|ended| self.ends[*ended] == at),
            Some(_) | None => None,
        };
    }

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

fn since(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
