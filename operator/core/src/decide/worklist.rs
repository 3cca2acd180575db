//! The record of a Task while it is decided about, with what there is to look at in it: of a Plan of thousands of steps
//! a reconciliation touches those that could start, those that are under way, and those that a change was about.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;

use countersign_crds::Step;

use super::turn::{Turn, Turns, ends_the_task};
use crate::budget::{Fit, WhenAffordable};
use crate::money::Money;
use crate::record::{ApplyError, ApprovalRecord, ApprovalState, Change, StepRecord, TaskRecord};

/// A record that only changes alter, and an index of it that follows them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Worklist {
    record: TaskRecord,
    /// What was reserved since the balances were seen.
    reserved: Money,
    /// Whether something was settled since then, so that they show more held than is.
    settled: bool,
    /// Where each step stands in the Plan.
    places: HashMap<String, usize>,
    /// By place: the steps that need this one.
    followers: Vec<Vec<usize>>,
    /// The finally steps, by place.
    finally: Vec<usize>,
    /// The steps that have not ended, by place.
    open: BTreeSet<usize>,
    /// How many of those are no finally steps.
    open_work: usize,
    /// Those that ended so that the Task does, by place.
    wrong: BTreeSet<usize>,
    /// Those that could start as far as other steps go, by place; but for those asleep.
    ready: BTreeSet<usize>,
    /// Those whose turn never comes, by place.
    never: BTreeSet<usize>,
    /// Those that could start, and wait for money.
    asleep: Vec<Sleepers>,
    /// Those with an attempt under way, by name.
    live: BTreeSet<String>,
    /// The Approvals that people have not decided yet.
    requested: BTreeSet<String>,
    /// By step: the open Approvals that it could still run under.
    awaited: BTreeMap<String, BTreeSet<String>>,
}

/// Steps that wait for the money of one Skill.
#[derive(Clone, Debug, PartialEq)]
struct Sleepers {
    skill: String,
    /// What the budgets said of it, and of those that it could be downgraded to, when they were judged.
    said: Vec<Fit>,
    places: BTreeSet<usize>,
}

impl Deref for Worklist {
    type Target = TaskRecord;

    fn deref(&self) -> &TaskRecord {
        &self.record
    }
}

impl Worklist {
    pub fn new(record: TaskRecord) -> Worklist {
        let mut list = Worklist {
            record,
            reserved: Money::ZERO,
            settled: false,
            places: HashMap::new(),
            followers: Vec::new(),
            finally: Vec::new(),
            open: BTreeSet::new(),
            open_work: 0,
            wrong: BTreeSet::new(),
            ready: BTreeSet::new(),
            never: BTreeSet::new(),
            asleep: Vec::new(),
            live: BTreeSet::new(),
            requested: BTreeSet::new(),
            awaited: BTreeMap::new(),
        };
        list.index_plan();
        for name in list.record.approvals.keys().cloned().collect::<Vec<_>>() {
            list.index_approval(&name);
        }
        list
    }

    pub fn into_record(self) -> TaskRecord {
        self.record
    }

    /// Applies one change, and what follows from it for what there is to look at.
    ///
    /// # Errors
    /// As of [`TaskRecord::apply`].
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        if let Change::FinishAttempt { step, .. } = change {
            let live = self.record.steps.get(step).and_then(StepRecord::live_attempt);
            self.settled |= live.is_some_and(|attempt| attempt.reservation.is_some());
        }
        self.record.apply(change)?;
        match change {
            Change::Adopt { .. } | Change::BeginEnding { .. } | Change::FinishTask { .. } => {}
            Change::SnapshotPlan { .. } => self.index_plan(),
            Change::RequestApproval { name, .. }
            | Change::SignApproval { name, .. }
            | Change::DecideApproval { name, .. }
            | Change::ExpireApproval { name, .. }
            | Change::SupersedeApproval { name, .. }
            | Change::WithdrawApproval { name, .. } => self.index_approval(name),
            Change::Intend { step, budget, .. } => {
                if let Some(decision) = budget {
                    self.reserved = self.reserved.saturating_add(decision.amount);
                }
                self.index_step(step);
            }
            Change::Admit { step, .. } => {
                self.index_step(step);
                self.index_approval_of(step);
            }
            Change::Defer { step, .. } | Change::FinishAttempt { step, .. } | Change::FinishStep { step, .. } => {
                self.index_step(step);
            }
        }
        Ok(())
    }

    /// The balances are seen anew, with all that is reserved.
    pub fn see_balances(&mut self) {
        self.reserved = Money::ZERO;
        self.settled = false;
    }

    /// Whether the balances show as held what is not any more: then nothing can be weighed.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// A step waits for money, and is not looked at until the budgets say something else of its Skill.
    pub fn doze(&mut self, step: &str, said: Vec<Fit>) {
        let Some(at) = self.places.get(step).copied().filter(|at| self.ready.remove(at)) else { return };
        let Some(skill) = self.step(step).map(|step| step.skill.clone()) else { return };
        match self.asleep.iter_mut().find(|group| group.skill == skill && group.said == said) {
            Some(group) => drop(group.places.insert(at)),
            None => self.asleep.push(Sleepers { skill, said, places: BTreeSet::from([at]) }),
        }
    }

    /// Whether any step is asleep.
    pub fn is_any_asleep(&self) -> bool {
        !self.asleep.is_empty()
    }

    /// Wakes the steps of whose Skill the budgets say something else now.
    pub fn rouse(&mut self, says: impl Fn(&Worklist, &str) -> Vec<Fit>) {
        let changed: Vec<bool> = self.asleep.iter().map(|group| says(self, &group.skill) != group.said).collect();
        let groups = std::mem::take(&mut self.asleep);
        for (group, changed) in groups.into_iter().zip(changed) {
            if changed {
                self.ready.extend(group.places);
            } else {
                self.asleep.push(group);
            }
        }
    }

    /// When the windows begin in which steps that are asleep may fit.
    pub fn windows(&self) -> impl Iterator<Item = jiff::Timestamp> {
        self.asleep.iter().flat_map(|group| &group.said).filter_map(|fit| match fit {
            Fit::Over(WhenAffordable::At(at)) => Some(*at),
            Fit::Over(WhenAffordable::GivenBack | WhenAffordable::Never) | Fit::Free | Fit::Fits | Fit::Unpriced => {
                None
            }
        })
    }

    /// The steps that wait for money, by name.
    pub fn asleep(&self) -> impl Iterator<Item = &str> {
        let places = self.asleep.iter().flat_map(|group| &group.places);
        places.filter_map(|at| Some(self.record.plan.as_ref()?.steps.get(*at)?.name.as_str()))
    }

    /// What was reserved since the balances were seen.
    pub fn reserved(&self) -> Money {
        self.reserved
    }

    /// A step of the Plan, by name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.record.plan.as_ref()?.steps.get(*self.places.get(name)?)
    }

    /// Whether a step has not ended.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether a step ended so that the Task does.
    pub fn went_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Whose turn it is.
    pub fn turns(&self) -> Turns<'_> {
        Turns { record: &self.record, work_is_over: self.open_work == 0 }
    }

    /// The steps that have not ended and whose turn never comes, in the Plan's order.
    pub fn never(&self) -> impl Iterator<Item = &Step> {
        self.record.plan.iter().flat_map(|plan| self.never.iter().filter_map(|at| plan.steps.get(*at)))
    }

    /// The steps that could start as far as other steps go, in the Plan's order.
    pub fn ready(&self) -> impl Iterator<Item = (&Step, &StepRecord)> {
        let steps = self.record.plan.iter().flat_map(|plan| self.ready.iter().filter_map(|at| plan.steps.get(*at)));
        steps.filter_map(|step| Some((step, self.record.steps.get(&step.name)?)))
    }

    /// The steps with an attempt under way, by name.
    pub fn live(&self) -> impl ExactSizeIterator<Item = (&String, &StepRecord)> {
        self.live.iter().map(|name| (name, &self.record.steps[name]))
    }

    /// The Approvals that people have not decided yet, by name.
    pub fn requested(&self) -> impl Iterator<Item = &ApprovalRecord> {
        self.requested.iter().filter_map(|name| self.record.approvals.get(name))
    }

    /// The open Approvals, by name.
    pub fn open_approvals(&self) -> impl Iterator<Item = &ApprovalRecord> {
        let names: BTreeSet<&String> = self.awaited.values().flatten().chain(&self.requested).collect();
        names.into_iter().filter_map(|name| self.record.approvals.get(name))
    }

    /// The open Approval that a step could still run under.
    pub fn awaited(&self, step: &str) -> Option<&ApprovalRecord> {
        self.record.approvals.get(self.awaited.get(step)?.first()?)
    }

    fn index_plan(&mut self) {
        let Some(plan) = &self.record.plan else { return };
        self.places = plan.steps.iter().enumerate().map(|(at, step)| (step.name.clone(), at)).collect();
        self.followers = vec![Vec::new(); plan.steps.len()];
        for (at, step) in plan.steps.iter().enumerate() {
            for need in step.all_needs().filter_map(|need| self.places.get(need.step)) {
                self.followers[*need].push(at);
            }
        }
        let finally = plan.steps.iter().enumerate().filter(|(_, step)| step.finally);
        self.finally = finally.map(|(at, _)| at).collect();
        // All of them, before it is asked whose turn it is.
        let is_open = |step: &Step| self.record.steps.get(&step.name).is_some_and(StepRecord::is_open);
        let open = plan.steps.iter().enumerate().filter(|(_, step)| is_open(step));
        self.open = open.map(|(at, _)| at).collect();
        self.open_work = self.open.iter().filter(|at| !plan.steps[**at].finally).count();
        for at in 0..self.followers.len() {
            self.index_place(at);
        }
    }

    /// The step itself, and those whose turn it may be now.
    fn index_step(&mut self, name: &str) {
        let Some(at) = self.places.get(name).copied() else { return };
        let was_open = self.open.contains(&at);
        self.index_place(at);
        if was_open && !self.open.contains(&at) {
            let work_is_over = self.open_work == 0 && self.step(name).is_some_and(|step| !step.finally);
            let finally = if work_is_over { self.finally.clone() } else { Vec::new() };
            for follower in self.followers[at].iter().copied().chain(finally).collect::<Vec<_>>() {
                self.index_place(follower);
            }
        }
    }

    fn index_place(&mut self, at: usize) {
        let Some(step) = self.record.plan.as_ref().and_then(|plan| plan.steps.get(at)) else { return };
        let Some(state) = self.record.steps.get(&step.name) else { return };
        let live = state.live_attempt().is_some();
        if !state.is_open() && self.open.remove(&at) && !step.finally {
            self.open_work -= 1;
        }
        let waits = state.is_open() && !live;
        let (ready, never) = match self.turns().of_step(step) {
            Turn::Later => (false, false),
            Turn::Now => (waits, false),
            Turn::Never { .. } => (false, waits),
        };
        set(&mut self.wrong, at, ends_the_task(step, state));
        set(&mut self.never, at, never);
        let dozes = self.asleep.iter().any(|group| group.places.contains(&at));
        set(&mut self.ready, at, ready && !dozes);
        if dozes && !ready {
            self.asleep.retain_mut(|group| {
                group.places.remove(&at);
                !group.places.is_empty()
            });
        }
        set(&mut self.live, step.name.clone(), live);
    }

    /// Its last attempt may have used up what it was signed for with.
    fn index_approval_of(&mut self, step: &str) {
        let attempt = self.record.steps.get(step).and_then(|step| step.attempts.last());
        if let Some(name) = attempt.and_then(|attempt| attempt.approval.clone()) {
            self.index_approval(&name);
        }
    }

    fn index_approval(&mut self, name: &str) {
        let Some(approval) = self.record.approvals.get(name) else { return };
        set(&mut self.requested, name.to_owned(), approval.state == ApprovalState::Requested);
        for step in approval.covers.keys() {
            let names = self.awaited.entry(step.clone()).or_default();
            set(names, name.to_owned(), approval.awaits(step));
            if names.is_empty() {
                self.awaited.remove(step);
            }
        }
    }
}

fn set<T: Ord>(all: &mut BTreeSet<T>, item: T, is_in: bool) {
    if is_in {
        all.insert(item);
    } else {
        all.remove(&item);
    }
}
