//! What to do about one Task, given all that is seen of it. The whole behaviour of the operator is here.
//!
//! [`decide`] is a function: no clock, no client, no randomness. Stages turn what is seen into changes of
//! the record until none follows; the actions and the status are then read off the record alone, so that
//! whatever was left undone by a crash is done by the next reconciliation.

mod actions;
mod approvals;
mod attempts;
mod compare;
mod ending;
mod launch;
mod outcome;
mod planning;
mod request;
mod requeue;
mod turn;
mod view;
mod worklist;

pub(crate) use planning::begin;
pub(crate) use turn::{NEED_NOT_MET, Turn, Turns, went_wrong};
pub(crate) use view::{Dozing, View};
pub(crate) use worklist::Worklist;

use std::collections::BTreeMap;

use countersign_crds::TaskStatus;
use jiff::{SignedDuration, Timestamp};

use crate::blocked::BlockedReasons;
use crate::budget::Budgets;
use crate::effect::ReconcileOutput;
use crate::judge::{Judge, PolicyJudge};
use crate::money::Money;
use crate::observed::{Observed, TaskView};
use crate::payment::PaymentNetwork;
use crate::record::{ApplyError, Change, Request, TaskRecord};
use crate::status;

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

/// What expressions are evaluated with. Planning needs it to see whether inputs fit; everything else asks the judge.
pub struct Evaluators<'a> {
    /// Judges each step that could start.
    pub judge: &'a dyn Judge,
    /// Evaluates the inputs that are known when the Plan snapshot is taken.
    pub evaluator: &'a crate::cel::CelEvaluator,
}

impl<'a> From<&'a PolicyJudge> for Evaluators<'a> {
    fn from(judge: &'a PolicyJudge) -> Self {
        Evaluators { judge, evaluator: judge.evaluator() }
    }
}

/// One reconciliation of a Task. `now` has microseconds, as the record keeps no more.
///
/// # Errors
/// A change that does not fit the record: a defect, reported and left alone rather than bent.
pub fn decide(
    now: Timestamp,
    config: &Config,
    observed: &Observed,
    evaluators: &Evaluators<'_>,
) -> Result<ReconcileOutput, ApplyError> {
    let budgets = budgets(now, observed);
    let view = View { now, config, observed, evaluators, budgets: &budgets, dozing: None };
    let mut record = observed.record.clone().map(Worklist::new);
    let mut blocked = BlockedReasons::default();
    let changes = settle(&view, &mut record, &mut blocked)?;
    let Some(record) = record.map(Worklist::into_record) else { return Ok(unrecorded(&view)) };
    let actions = actions::actions(&view, &record, &blocked);
    let status = observed.task.as_ref().map(|task| report(&view, task, &record, &blocked));
    // What was settled is shown as it is in the ledger then.
    let settled = settles(observed, &changes);
    let requeue = requeue::requeue(&view, &record, &blocked, !changes.is_empty(), settled);
    Ok(ReconcileOutput { changes, actions, status, requeue, blocked, record: Some(record) })
}

/// Of a Task of which nothing was recorded, also not now.
fn unrecorded(view: &View<'_>) -> ReconcileOutput {
    let blocked = BlockedReasons { planning: planning::waits(view), ..BlockedReasons::default() };
    let requeue = blocked.planning.as_ref().and_then(|blocked| blocked.requeue(view.now));
    let waiting = view.observed.task.as_ref().filter(|_| blocked.planning.is_some());
    let status = waiting.map(|task| {
        let (uid, namespace, name) = (task.uid.clone(), task.namespace.clone(), task.name.clone());
        report(view, task, &TaskRecord::adopt(uid, namespace, name, Request::default(), view.now), &blocked)
    });
    ReconcileOutput { changes: Vec::new(), actions: Vec::new(), status, requeue, blocked, record: None }
}

fn report(view: &View<'_>, task: &TaskView, record: &TaskRecord, blocked: &BlockedReasons) -> TaskStatus {
    let pauses = status::Pauses {
        suspended: view.suspended(),
        turns: &turn::Turns::of(record),
        network: &view.observed.network,
        blocked,
        balances: &view.observed.balances,
        external: &view.observed.external,
    };
    status::project(view.now, task, record, &pauses)
}

/// What limits bear on the Task now.
pub(crate) fn budgets(now: Timestamp, observed: &Observed) -> Budgets {
    let of = |task| Budgets::of(now, task, observed.agent.agent(), &observed.policies);
    observed.task.as_ref().map(of).unwrap_or_default()
}

/// All changes of the record that follow from what is seen, applied to it.
///
/// # Errors
/// As of [`decide`].
pub(crate) fn settle(
    view: &View<'_>,
    record: &mut Option<Worklist>,
    blocked: &mut BlockedReasons,
) -> Result<Vec<Change>, ApplyError> {
    let mut changes = Vec::new();
    loop {
        if let Some(record) = record.as_mut().filter(|record| record.is_any_asleep()) {
            record.rouse(|record, skill| view.money(record, skill, Money::ZERO));
        }
        let batch = advance(view, record.as_ref(), blocked);
        let over = batch.is_empty();
        for change in batch {
            apply(record, &change)?;
            changes.push(change);
        }
        if let (Some(record), Some(dozing)) = (record.as_mut(), view.dozing) {
            dozing.borrow_mut().drain(..).for_each(|Dozing { step, said }| record.doze(&step, said));
        }
        if over {
            return Ok(changes);
        }
    }
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

type Stage = fn(&View<'_>, &Worklist, &mut BlockedReasons) -> Vec<Change>;

fn apply(record: &mut Option<Worklist>, change: &Change) -> Result<(), ApplyError> {
    match (record.as_mut(), change) {
        (None, Change::Adopt { uid, namespace, name, spec: _, request, run: _, at }) => {
            let adopted = TaskRecord::adopt(uid.clone(), namespace.clone(), name.clone(), request.clone(), *at);
            *record = Some(Worklist::new(adopted));
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
fn advance(view: &View<'_>, record: Option<&Worklist>, blocked: &mut BlockedReasons) -> Vec<Change> {
    *blocked = BlockedReasons::default();
    let Some(record) = record else {
        return planning::adopt(view);
    };
    if record.finished.is_some() {
        return Vec::new();
    }
    let stages: [Stage; 8] = [
        ending::begin,
        planning::snapshot,
        attempts::follow,
        approvals::follow,
        ending::wind_up,
        turn::skip,
        launch::start,
        ending::give_up,
    ];
    for stage in stages {
        let changes = stage(view, record, blocked);
        if !changes.is_empty() {
            return changes;
        }
    }
    ending::finish(view, record)
}
