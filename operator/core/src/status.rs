//! The status of a Task and of its Approvals: a bounded view of the record.

use std::collections::{BTreeMap, BTreeSet};

use countersign_crds::{
    ApprovalStatus, BudgetVerdict, CostStatus, PaymentStatus, PlanStatus, Progress, StepState, StepStatus, Task,
    TaskStatus,
};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::approval::{Tally, people, tally};
use crate::blocked::{BlockedReason, BlockedReasons};
use crate::budget::{Balance, LineKey, Scope};
use crate::condition::condition;
use crate::decide::{Turn, Turns};
use crate::escape::{excerpt, shown};
use crate::observed::{ExternalState, Network, Observed, PaymentView, ReportedApproval, TaskView};
use crate::record::{
    ApprovalRecord, ApprovalState, EndingCause, RecordedPlan, StepOutcome, StepRecord, TaskOutcome, TaskRecord,
};

/// How many steps a status lists.
const LISTED_STEPS: usize = 200;
/// How many characters a message in a status may have.
const MESSAGE_CHARS: usize = 256;

/// What holds a Task up although nothing is wrong with it.
pub(crate) struct Pauses<'a> {
    pub suspended: bool,
    pub turns: &'a Turns<'a>,
    pub network: &'a Network,
    pub blocked: &'a BlockedReasons,
    pub balances: &'a BTreeMap<LineKey, Balance>,
    pub external: &'a ExternalState,
}

/// The Task's status, read off the record.
pub(crate) fn project(now: Timestamp, task: &TaskView, record: &TaskRecord, pauses: &Pauses<'_>) -> TaskStatus {
    let steps: Vec<StepStatus> = record.plan.iter().flat_map(|plan| step_statuses(plan, record, pauses)).collect();
    let mut conditions = Vec::new();
    let mut add = |kind: &str, status: &str, reason: &str, message: String| {
        conditions.push(condition(now, task.generation, &task.conditions, (kind, status, reason), &message));
    };
    match (&record.plan, &pauses.blocked.planning) {
        (Some(plan), _) => add("Planned", "True", "Stamped", format!("{}, {} steps", plan.source, plan.steps.len())),
        (None, Some(blocked)) => add("Planned", "False", blocked.reason.as_str(), blocked.message.clone()),
        (None, None) => match &record.finished {
            Some(finished) => add("Planned", "False", &finished.reason, finished.message.clone()),
            None => add("Planned", "Unknown", "Planning", "the Plan is being made".to_owned()),
        },
    }
    if pauses.suspended && record.finished.is_none() {
        add("Suspended", "True", "Suspended", "nothing new starts; unset spec.suspend on the Task or its Agent".into());
    }
    let (status, phase, message) = phase(record, &steps, pauses);
    add("Succeeded", status, phase, message);
    conditions.extend(isolation(now, task, record, pauses.network));
    let mut progress = record.plan.as_ref().map(|_| progress(&steps));
    let steps = listed(steps);
    if let Some(progress) = &mut progress {
        progress.omitted = progress.total.saturating_sub(u32::try_from(steps.len()).unwrap_or(u32::MAX));
    }
    TaskStatus {
        observed_generation: task.generation,
        conditions,
        plan: record.plan.as_ref().map(|plan| PlanStatus { name: plan.name.clone(), digest: plan.digest.to_string() }),
        progress,
        cost: cost(record, pauses.balances),
        steps,
        started_at: Some(time(record.adopted_at)),
        finished_at: record.finished.as_ref().map(|finished| time(finished.at)),
    }
}

/// What the Task has cost, once anything of it had a price.
fn cost(record: &TaskRecord, balances: &BTreeMap<LineKey, Balance>) -> Option<CostStatus> {
    let decision = record.steps.values().filter_map(budget_of).max()?;
    let own = balances.iter().find(|(key, _)| key.scope == Scope::Task && key.subject == record.uid);
    let Balance { spent, held } = own.map(|(_, balance)| *balance).unwrap_or_default();
    Some(CostStatus { spent: spent.to_string(), held: held.to_string(), decision: Some(decision) })
}

/// What was decided last about a step's price.
fn budget_of(step: &StepRecord) -> Option<BudgetVerdict> {
    let rejected = step.reason.as_deref() == Some("OverBudget");
    let deferred = step.deferral.is_some();
    match (rejected, deferred) {
        (true, _) => Some(BudgetVerdict::Rejected),
        (false, true) => Some(BudgetVerdict::Deferred),
        (false, false) => step.attempts.last()?.reservation.as_ref().map(|reservation| reservation.verdict),
    }
}

/// Whether the sandboxes' network is closed; of a Task that is over, as it was.
fn isolation(now: Timestamp, task: &TaskView, record: &TaskRecord, network: &Network) -> Option<Condition> {
    const KIND: &str = "NetworkIsolated";
    let last = task.conditions.iter().find(|condition| condition.type_ == KIND);
    let (status, reason, message) = match network {
        _ if record.finished.is_some() => return last.cloned(),
        Network::NotTried => return last.cloned(),
        Network::Closed => ("True", "Enforced", "a canary reached the broker and nothing else".to_owned()),
        Network::Open { reached } => ("False", "NotEnforced", format!("a canary in this namespace reached {reached}")),
    };
    Some(condition(now, task.generation, &task.conditions, (KIND, status, reason), &message))
}

/// The phase of a Task, as its status last said: the reason of its condition `Succeeded`.
pub fn phase_of(task: &Task) -> &str {
    let conditions = task.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().find(|c| c.type_ == "Succeeded").map_or("Pending", |c| c.reason.as_str())
}

/// Whether the status says that the Task is over.
pub fn is_over(task: &Task) -> bool {
    matches!(phase_of(task), "Completed" | "Failed" | "Rejected" | "Cancelled")
}

fn phase(record: &TaskRecord, steps: &[StepStatus], pauses: &Pauses<'_>) -> (&'static str, &'static str, String) {
    if let Some(finished) = &record.finished {
        let (status, phase) = match finished.outcome {
            TaskOutcome::Completed => ("True", "Completed"),
            TaskOutcome::Failed => ("False", "Failed"),
            TaskOutcome::Rejected => ("False", "Rejected"),
            TaskOutcome::Cancelled => ("False", "Cancelled"),
        };
        let message = match finished.outcome {
            TaskOutcome::Completed => finished.message.clone(),
            TaskOutcome::Failed | TaskOutcome::Rejected | TaskOutcome::Cancelled => {
                format!("{}: {}", finished.reason, finished.message)
            }
        };
        return (status, phase, message);
    }
    if record.plan.is_none() {
        let message = match &pauses.blocked.planning {
            Some(blocked) => format!("{}: {}", blocked.reason.as_str(), blocked.message),
            None => "the Plan is being made".to_owned(),
        };
        return ("Unknown", "Planning", message);
    }
    let running = steps.iter().filter(|step| step.state == StepState::Running).count();
    let waiting: Vec<&str> =
        steps.iter().filter(|s| s.state == StepState::WaitingApproval).filter_map(|s| s.approval.as_deref()).collect();
    if running == 0 && !waiting.is_empty() {
        return ("Unknown", "WaitingApproval", format!("waiting for approval {}", waiting.join(", ")));
    }
    let mut message = format!("{running} running, {} waiting for approval", waiting.len());
    if running == 0
        && let Some(waits) = waits_for(steps)
    {
        message = waits;
    }
    let why = match record.ending.as_ref().map(|ending| ending.cause) {
        None => "",
        Some(EndingCause::Cancelled) => "the Task was cancelled: ",
        Some(EndingCause::DeadlineExceeded) => "the Task's deadline passed: ",
        Some(EndingCause::Deleted) => "the Task object was deleted: ",
        Some(EndingCause::StepFailed) => "a step did not succeed: ",
    };
    ("Unknown", "Executing", format!("{why}{message}"))
}

/// What the first step that does not go on waits for, and how many others do not.
fn waits_for(steps: &[StepStatus]) -> Option<String> {
    let mut held = steps.iter().filter(|step| step.state == StepState::Pending && step.message.is_some());
    let first = held.next()?;
    let reason = first.reason.as_deref().unwrap_or("Pending");
    let others = match held.count() {
        0 => String::new(),
        others => format!("; {others} more wait"),
    };
    Some(format!("step {}: {reason}: {}{others}", first.name, first.message.as_deref().unwrap_or_default()))
}

fn progress(steps: &[StepStatus]) -> Progress {
    let count = |wanted: &[StepState]| {
        u32::try_from(steps.iter().filter(|step| wanted.contains(&step.state)).count()).unwrap_or(u32::MAX)
    };
    let total = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let failed = count(&[StepState::Failed, StepState::Rejected, StepState::Unknown]);
    let finished = failed + count(&[StepState::Succeeded, StepState::Skipped]);
    Progress {
        summary: format!("{finished}/{total}"),
        total,
        finished,
        running: count(&[StepState::Running]),
        waiting_approval: count(&[StepState::WaitingApproval]),
        failed,
        omitted: 0,
    }
}

/// Those that a person looks for first, in the Plan's order.
fn listed(steps: Vec<StepStatus>) -> Vec<StepStatus> {
    if steps.len() <= LISTED_STEPS {
        return steps;
    }
    let rank = |state: StepState| match state {
        StepState::Failed | StepState::Rejected | StepState::Unknown => 0,
        StepState::WaitingApproval => 1,
        StepState::Running => 2,
        StepState::Ready => 3,
        StepState::Succeeded | StepState::Skipped => 4,
        StepState::Pending | StepState::Blocked => 5,
    };
    let mut order: Vec<(usize, StepStatus)> = steps.into_iter().enumerate().collect();
    order.sort_by_key(|(position, step)| (rank(step.state), *position));
    order.truncate(LISTED_STEPS);
    order.sort_by_key(|(position, _)| *position);
    order.into_iter().map(|(_, step)| step).collect()
}

fn step_statuses(plan: &RecordedPlan, record: &TaskRecord, pauses: &Pauses<'_>) -> Vec<StepStatus> {
    let mut approvals: BTreeMap<&str, &ApprovalRecord> = BTreeMap::new();
    for approval in record.approvals.values() {
        for step in approval.covers.keys() {
            let latest = approvals.entry(step).or_insert(approval);
            if approval.requested_at > latest.requested_at {
                *latest = approval;
            }
        }
    }
    let status = |step: &countersign_crds::Step| {
        let state = record.steps.get(&step.name)?;
        let approval = approvals.get(step.name.as_str()).copied();
        Some(step_status(step, state, approval, pauses))
    };
    plan.steps.iter().filter_map(status).collect()
}

fn step_status(
    step: &countersign_crds::Step,
    record: &StepRecord,
    approval: Option<&ApprovalRecord>,
    pauses: &Pauses<'_>,
) -> StepStatus {
    let (state, reason, message) = match record.state {
        StepOutcome::Open => open_state(step, record, approval, pauses),
        StepOutcome::Succeeded => (StepState::Succeeded, None, None),
        StepOutcome::Failed => (StepState::Failed, record.reason.clone(), record.message.clone()),
        StepOutcome::Skipped => (StepState::Skipped, record.reason.clone(), record.message.clone()),
        StepOutcome::Rejected => (StepState::Rejected, record.reason.clone(), record.message.clone()),
        StepOutcome::Unknown => (StepState::Unknown, record.reason.clone(), record.message.clone()),
    };
    let last = record.attempts.last();
    StepStatus {
        name: step.name.clone(),
        state,
        downgraded_to: last.map(|attempt| &attempt.skill).filter(|skill| **skill != step.skill).cloned(),
        budget: budget_of(record),
        attempt: last.map(|attempt| attempt.number),
        reason,
        message: message.map(|message| excerpt(&message, MESSAGE_CHARS)),
        approval: approval.map(|approval| approval.name.clone()),
        input_digest: last.map(|attempt| attempt.input_digest.to_string()),
        output_digest: record.output.as_ref().map(|output| output.digest.to_string()),
        output_bytes: record.output.as_ref().map(|output| output.bytes),
        payment: pauses.external.payments.get(&step.name).map(payment_status),
        anchor: pauses.external.anchors.get(&step.name).cloned(),
        finished_at: record.finished_at.map(time),
    }
}

fn payment_status(payment: &PaymentView) -> PaymentStatus {
    let PaymentView { id, mode, state, transaction, message } = payment;
    PaymentStatus {
        id: id.to_string(),
        mode: *mode,
        state: *state,
        transaction: transaction.clone(),
        message: message.as_deref().map(|message| excerpt(message, MESSAGE_CHARS)),
    }
}

fn open_state(
    step: &countersign_crds::Step,
    record: &StepRecord,
    approval: Option<&ApprovalRecord>,
    pauses: &Pauses<'_>,
) -> (StepState, Option<String>, Option<String>) {
    if let Some(blocked) = pauses.blocked.of(&step.name) {
        let said = (Some(blocked.reason.as_str().to_owned()), Some(blocked.message.clone()));
        return match blocked.reason {
            BlockedReason::PodPending | BlockedReason::PodUnchecked => (StepState::Running, None, None),
            BlockedReason::WaitingApproval => (StepState::WaitingApproval, None, None),
            BlockedReason::ParallelismReached if record.live_attempt().is_none() => (StepState::Ready, None, None),
            BlockedReason::EarlierRun
            | BlockedReason::PlanNotFound
            | BlockedReason::PlanAmbiguous
            | BlockedReason::AgentNotFound
            | BlockedReason::AgentAmbiguous
            | BlockedReason::AgentMismatch
            | BlockedReason::SkillNotInstalled
            | BlockedReason::SecretNotFound
            | BlockedReason::SecretChanging
            | BlockedReason::BrokerNotInstalled
            | BlockedReason::PaymentNetworkNotConfigured
            | BlockedReason::EvaluatorBusy
            | BlockedReason::EvaluatorTimedOut
            | BlockedReason::OutputNotLoaded(_)
            | BlockedReason::Deferred
            | BlockedReason::Suspended
            | BlockedReason::NetworkNotTried
            | BlockedReason::NetworkOpen
            | BlockedReason::GuardBroken
            | BlockedReason::Retrying
            | BlockedReason::ParallelismReached => (StepState::Pending, said.0, said.1),
        };
    }
    if record.live_attempt().is_some() {
        return (StepState::Running, None, None);
    }
    // Not judged now, for want of a place.
    if let Some(deferral) = record.deferral.as_ref() {
        let waits = match deferral.until {
            Some(until) => format!("waits until {until}"),
            None => "waits for some of it to be given back".to_owned(),
        };
        let message = format!("{}; {waits}", deferral.message);
        return (StepState::Pending, Some("Deferred".to_owned()), Some(message));
    }
    match pauses.turns.of_step(step) {
        Turn::Now => {}
        Turn::Later | Turn::Never { .. } => return (StepState::Blocked, None, None),
    }
    if let Some(approval) = approval.filter(|approval| approval.awaits(&step.name)) {
        let waits = approval.state == ApprovalState::Requested;
        return (if waits { StepState::WaitingApproval } else { StepState::Ready }, None, None);
    }
    (StepState::Ready, None, None)
}

/// The reason of an Approval's condition `Approved`, and that condition's status.
fn approval_reason(state: &ApprovalState) -> (&'static str, &'static str) {
    match state {
        ApprovalState::Requested => ("Pending", "Unknown"),
        ApprovalState::Approved => ("Approved", "True"),
        ApprovalState::Consumed => ("Consumed", "True"),
        ApprovalState::Rejected => ("Rejected", "False"),
        ApprovalState::Expired => ("Expired", "False"),
        ApprovalState::Superseded { .. } => ("Superseded", "False"),
        ApprovalState::Withdrawn => ("Withdrawn", "False"),
    }
}

/// What an Approval's status says. `last` is what it said before.
pub(crate) fn approval_status(
    now: Timestamp,
    approval: &ApprovalRecord,
    generation: Option<i64>,
    last: Option<&ReportedApproval>,
) -> ApprovalStatus {
    let (reason, status) = approval_reason(&approval.state);
    let digest = approval.digest.to_string();
    let terms = approval.terms(&digest);
    let tally = tally(&terms, &approval.decisions);
    let signed = people(&terms, &approval.decisions).len();
    let who = |approved: bool| {
        let said: BTreeSet<String> =
            approval.decisions.iter().filter(|d| d.approved == approved).map(|d| shown(&d.user)).collect();
        said.into_iter().collect::<Vec<_>>().join(", ")
    };
    let message = match &approval.state {
        ApprovalState::Requested => match &tally {
            Tally::Waiting(missing) => {
                format!("waiting for {missing}; sign with kubectl patch: spec.approved and spec.reason")
            }
            Tally::Reached | Tally::Rejected { .. } => "it is being settled".to_owned(),
        },
        ApprovalState::Approved => format!("approved by {}", who(true)),
        ApprovalState::Consumed => format!("approved by {}, and used", who(true)),
        ApprovalState::Rejected => format!("rejected by {}", who(false)),
        ApprovalState::Expired => match &tally {
            Tally::Waiting(missing) => format!("it expired; it still lacked {missing}"),
            Tally::Reached | Tally::Rejected { .. } => "the signatures that it takes did not come in time".to_owned(),
        },
        ApprovalState::Superseded { changed } => {
            format!("what would run changed since: {}; it counts for nothing", changed.join(", "))
        }
        ApprovalState::Withdrawn => "the Task ended before it was used".to_owned(),
    };
    let takes = match &tally {
        Tally::Waiting(missing) => signed + missing.signatures(),
        Tally::Reached | Tally::Rejected { .. } => signed.max(approval.required.count as usize),
    };
    let before: Vec<Condition> = last.iter().map(|last| last.condition.clone()).collect();
    let condition = condition(now, generation, &before, ("Approved", status, reason), &message);
    ApprovalStatus {
        signed: Some(format!("{signed}/{takes}")),
        observed_generation: generation,
        conditions: vec![condition],
    }
}

/// What of an Approval's status is the operator's own.
pub fn reported(status: &ApprovalStatus) -> Option<ReportedApproval> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Approved")?;
    Some(ReportedApproval { condition: condition.clone(), signed: status.signed.clone() })
}

/// When a finished Task's object is to be deleted, where the Task says so.
pub(crate) fn ttl_expires_at(observed: &Observed, record: &TaskRecord) -> Option<Timestamp> {
    let finished = record.finished.as_ref()?;
    let seconds = observed.task.as_ref()?.spec.ttl_seconds_after_finished?;
    finished.at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// As the API server gives it back: in whole seconds, so that what was reported compares equal to what is read.
pub(crate) fn time(at: Timestamp) -> Time {
    let whole = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc);
    Time(at.round(whole).unwrap_or(at))
}
