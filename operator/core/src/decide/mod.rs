//! What to do about one Task, given all that is seen of it. The whole behaviour of the operator is here.
//!
//! [`decide`] is a function: no clock, no client, no randomness. Stages turn what is seen into changes of
//! the record until none follows; the deeds and the status are then read off the record alone, so that
//! whatever was left undone by a crash is done by the next look.

mod acts;
mod approvals;
mod attempts;
mod compare;
mod ending;
mod launch;
mod outcome;
mod planning;
mod request;
mod requeue;
mod view;

pub(crate) use launch::satisfied;
pub(crate) use request::MOST_STEPS;

use std::collections::BTreeMap;

use countersign_crds::TaskStatus;
use jiff::{SignedDuration, Timestamp};

use crate::blocked::BlockedReasons;
use crate::budget::Budgets;
use crate::effect::Decision;
use crate::judge::{Judge, PolicyJudge};
use crate::observed::{Observed, TaskView};
use crate::payment::PaymentNetwork;
use crate::record::{ApplyError, Change, Request, TaskRecord};
use crate::status;
use view::View;

/// What the platform team sets.
#[derive(Clone, Debug)]
pub struct Config {
    /// The runner's image, by digest.
    pub runner_image: String,
    /// Whether there is a broker, without which no Skill does anything beyond its sandbox.
    pub broker: bool,
    /// The networks that the signer pays on, and what each name stands for.
    pub networks: BTreeMap<String, PaymentNetwork>,
    /// Whether nothing runs where a pod could reach more than the broker.
    pub require_network_policy: bool,
    /// How long an attempt's pod may take to start.
    pub start_deadline: SignedDuration,
    /// How long something that is missing (a Skill, a Secret, an Agent, a template) is waited for.
    pub planning_deadline: SignedDuration,
}

/// Planning needs the evaluator, to see whether inputs fit; everything else asks the judge.
pub struct Bench<'a> {
    pub judge: &'a dyn Judge,
    pub fence: &'a crate::cel::Fence,
}

impl<'a> From<&'a PolicyJudge> for Bench<'a> {
    fn from(judge: &'a PolicyJudge) -> Self {
        Bench { judge, fence: judge.fence() }
    }
}

/// One look at a Task. `now` has microseconds, as the record keeps no more.
///
/// # Errors
/// A change that does not fit the record: a defect, reported and left alone rather than bent.
pub fn decide(now: Timestamp, config: &Config, observed: &Observed, bench: &Bench<'_>) -> Result<Decision, ApplyError> {
    let mut record = observed.record.clone();
    let mut changes = Vec::new();
    let mut blocked = BlockedReasons::default();
    let budgets = observed
        .task
        .as_ref()
        .map(|task| Budgets::of(now, task, observed.agent.agent(), &observed.policies))
        .unwrap_or_default();
    let view = View { now, config, observed, bench, budgets };
    loop {
        let batch = advance(&view, record.as_ref(), &mut blocked);
        if batch.is_empty() {
            break;
        }
        for change in batch {
            apply(&mut record, &change)?;
            changes.push(change);
        }
    }
    let Some(record) = record else { return Ok(unrecorded(&view)) };
    let acts = acts::acts(&view, &record, &blocked);
    let status = observed.task.as_ref().map(|task| report(&view, task, &record, &blocked));
    // What was settled is shown as it is in the ledger then.
    let settled = settles(observed, &changes);
    let requeue = requeue::requeue(&view, &record, &blocked, !changes.is_empty(), settled);
    Ok(Decision { changes, acts, status, requeue, blocked, record: Some(record) })
}

/// Of a Task of which nothing was recorded, also not now.
fn unrecorded(view: &View<'_>) -> Decision {
    let blocked = BlockedReasons { planning: planning::waits(view), ..BlockedReasons::default() };
    let requeue = blocked.planning.as_ref().and_then(|blocked| blocked.requeue(view.now));
    let waiting = view.observed.task.as_ref().filter(|_| blocked.planning.is_some());
    let status = waiting.map(|task| {
        let (uid, namespace, name) = (task.uid.clone(), task.namespace.clone(), task.name.clone());
        report(view, task, &TaskRecord::adopt(uid, namespace, name, Request::default(), view.now), &blocked)
    });
    Decision { changes: Vec::new(), acts: Vec::new(), status, requeue, blocked, record: None }
}

fn report(view: &View<'_>, task: &TaskView, record: &TaskRecord, blocked: &BlockedReasons) -> TaskStatus {
    let pauses = status::Pauses {
        suspended: view.suspended(),
        network: &view.observed.network,
        blocked,
        balances: &view.observed.balances,
        outside: &view.observed.outside,
    };
    status::project(view.now, task, record, &pauses)
}

/// Whether money moves with these changes.
fn settles(observed: &Observed, changes: &[Change]) -> bool {
    let Some(record) = &observed.record else { return false };
    let reserved = |step: &str| {
        let live = record.steps.get(step).and_then(|step| step.live_attempt());
        live.is_some_and(|attempt| attempt.reservation.is_some())
    };
    changes.iter().any(|change| match change {
        Change::FinishAttempt { step, .. } => reserved(step),
        Change::Intend { budget, .. } => budget.is_some(),
        _ => false,
    })
}

type Stage = fn(&View<'_>, &TaskRecord, &mut BlockedReasons) -> Vec<Change>;

fn apply(record: &mut Option<TaskRecord>, change: &Change) -> Result<(), ApplyError> {
    match (record.as_mut(), change) {
        (None, Change::Adopt { uid, namespace, name, spec: _, request, run: _, at }) => {
            *record = Some(TaskRecord::adopt(uid.clone(), namespace.clone(), name.clone(), request.clone(), *at));
            Ok(())
        }
        (None, _) => Err(ApplyError {
            task: String::new(),
            change: "first change",
            problem: "a record begins with adopt".to_owned(),
        }),
        (Some(record), change) => record.apply(change),
    }
}

/// The first stage that has something to say speaks; then everything is looked at again.
fn advance(view: &View<'_>, record: Option<&TaskRecord>, blocked: &mut BlockedReasons) -> Vec<Change> {
    *blocked = BlockedReasons::default();
    let Some(record) = record else {
        return planning::adopt(view);
    };
    if record.finished.is_some() {
        return Vec::new();
    }
    let stages: [Stage; 6] =
        [ending::begin, planning::stamp, attempts::follow, approvals::follow, ending::wind_up, launch::start];
    for stage in stages {
        let changes = stage(view, record, blocked);
        if !changes.is_empty() {
            return changes;
        }
    }
    ending::finish(view, record)
}
