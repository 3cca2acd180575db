//! The actions that are owed to a record: what it says should be in the cluster and is not, and the reverse.

use countersign_crds::{
    ApprovalSpec, CoveredStep, Effect, OwnedReference, PlanSpec, PolicyMode, RuleReference, SkillSpec, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::turn::{called_off_by_name, ends_what_runs};
use super::view::View;
use crate::blocked::{BlockedReason, BlockedReasons};
use crate::effect::ClusterAction;
use crate::mark::Mark;
use crate::observed::{Observed, PodState, TaskView};
use crate::record::{
    ApprovalRecord, AttemptOutcome, AttemptRecord, AttemptState, Covered, RecordedPlan, RuleDecision, TaskRecord,
};
use crate::status;

pub(super) fn actions(view: &View<'_>, record: &TaskRecord, blocked: &BlockedReasons) -> Vec<ClusterAction> {
    let mut actions = Vec::new();
    if let Some(task) = &view.observed.task {
        actions.extend(mark(view, task));
        actions.extend(plan(view, record, task));
    }
    // Those that outlived their Task are told as well that nothing comes of them.
    actions.extend(record.approvals.values().filter_map(|approval| report_or_create(view, approval)));
    for (name, step) in &record.steps {
        for attempt in &step.attempts {
            actions.extend(attempt_action(view, record, name, attempt, blocked));
        }
    }
    // Asked for once; from then on it is for the API server to do.
    let there = view.observed.task.as_ref().is_some_and(|task| !task.deleting);
    if there && status::ttl_expires_at(view.observed, record).is_some_and(|at| at <= view.now) {
        actions.push(ClusterAction::DeleteTask);
    }
    actions
}

/// Which run the Task is, where it does not say so yet: its own, or the one that it repeats.
fn mark(view: &View<'_>, task: &TaskView) -> Option<ClusterAction> {
    let Observed { namespace_uid, prior, .. } = view.observed;
    if task.mark.is_some() || task.deleting || namespace_uid.is_empty() {
        return None;
    }
    let task_uid = prior.as_ref().map_or(&task.uid, |prior| &prior.uid).clone();
    Some(ClusterAction::Mark { mark: Mark { namespace_uid: namespace_uid.clone(), task_uid } })
}

fn plan(view: &View<'_>, record: &TaskRecord, task: &TaskView) -> Option<ClusterAction> {
    let RecordedPlan { name, digest, source: _, parallelism, steps, parameters: _ } = record.plan.as_ref()?;
    if view.observed.plan_snapshot_exists || record.ending.is_some() || record.finished.is_some() {
        return None;
    }
    let spec = PlanSpec {
        task_ref: Some(owner(task)),
        digest: Some(digest.to_string()),
        requester: record.request.requester.clone(),
        parallelism: *parallelism,
        steps: steps.clone(),
    };
    Some(ClusterAction::CreatePlan { name: name.clone(), spec })
}

fn owner(task: &TaskView) -> OwnedReference {
    OwnedReference { name: task.name.clone(), uid: task.uid.clone() }
}

fn report_or_create(view: &View<'_>, approval: &ApprovalRecord) -> Option<ClusterAction> {
    let name = approval.name.clone();
    let Some(seen) = view.observed.approvals.get(&name) else {
        let task = view.observed.task.as_ref()?;
        let spec = approval_spec(task, approval).filter(|_| approval.is_open())?;
        return Some(ClusterAction::CreateApproval { name, spec: Box::new(spec) });
    };
    let reported = seen.reported.as_ref();
    let status = status::approval_status(view.now, approval, seen.generation, reported);
    if reported == status::reported(&status).as_ref() {
        return None;
    }
    Some(ClusterAction::ReportApproval { name, status })
}

fn approval_spec(task: &TaskView, approval: &ApprovalRecord) -> Option<ApprovalSpec> {
    let further = |(step, covered): (&String, &Covered)| {
        Some(CoveredStep { step: step.clone(), attempt: covered.attempt, subject: subject(covered)? })
    };
    // The record refuses an Approval that does not cover the step that asked.
    let first = approval.covers.get(&approval.step)?;
    Some(ApprovalSpec {
        task_ref: owner(task),
        step: approval.step.clone(),
        attempt: first.attempt,
        digest: approval.digest.to_string(),
        requester: approval.requester.clone(),
        on_behalf_of: approval.on_behalf_of.clone(),
        risk: approval.risk,
        scope: approval.scope,
        subject: subject(first)?,
        covers: approval
            .covers
            .iter()
            .filter(|(step, _)| **step != approval.step)
            .map(further)
            .collect::<Option<_>>()?,
        required: approval.required.clone(),
        expires_at: Time(approval.expires_at),
        approved: None,
        reason: None,
        decisions: Vec::new(),
    })
}

/// What will run, in words, read off what the digest is of; `None` where that was erased.
fn subject(covered: &Covered) -> Option<Subject> {
    let binding = covered.binding.as_ref()?;
    let contract = &binding.skill.spec;
    let rule = |rule: &RuleDecision| RuleReference {
        policy: rule.policy.clone(),
        rule: rule.rule.clone(),
        message: rule.message.clone(),
    };
    Some(Subject {
        skill: binding.skill.name.clone(),
        effect: contract.effect,
        input: binding.input.clone(),
        image: binding.image.clone(),
        command: command(contract),
        program: contract.builtin.as_ref().and_then(|builtin| builtin.program.clone()),
        egress: contract.egress.iter().map(ToString::to_string).collect(),
        payment: binding.payment.as_ref().map(ToString::to_string),
        cost_ceiling: contract.cost.as_ref().map(|cost| cost.ceiling.clone()),
        rules: covered.rules.iter().filter(|rule| bears(rule)).take(64).map(rule).collect(),
        // What the store knows besides is added when the Approval is made.
        earlier: Vec::new(),
        since_last_approved: None,
    })
}

/// What runs, as one line of JSON.
fn command(contract: &SkillSpec) -> Option<String> {
    match (&contract.image, &contract.builtin) {
        (Some(image), _) => Some(json!(image.command).to_string()),
        (None, Some(builtin)) => Some(builtin.name.as_str().to_owned()),
        (None, None) => None,
    }
}

/// Whether a rule asked for the signature, or for this Skill in the place of another.
fn bears(rule: &RuleDecision) -> bool {
    let tightens = match rule.effect {
        Effect::RequireApproval | Effect::Downgrade => true,
        Effect::Allow | Effect::Deny => false,
    };
    tightens && rule.mode == PolicyMode::Enforce
}

fn attempt_action(
    view: &View<'_>,
    record: &TaskRecord,
    step: &str,
    attempt: &AttemptRecord,
    blocked: &BlockedReasons,
) -> Option<ClusterAction> {
    let key = attempt.key.clone();
    let there = view.observed.jobs.contains(&key);
    let delete = || there.then(|| ClusterAction::DeleteJob { key: key.clone() });
    match &attempt.state {
        AttemptState::Intended => {
            let launch = attempt.launch.as_ref()?;
            let seen = there || view.observed.pods_of(&key).next().is_some();
            let owed = !seen && view.observed.task.is_some();
            // Said of what was compared in this reconciliation, and still is what would be decided.
            let same = blocked.of(step).is_some_and(|why| why.reason == BlockedReason::PodPending);
            let (key, step) = (key.clone(), step.to_owned());
            (owed && same).then(|| ClusterAction::CreateJob { key, step, launch: Box::new(launch.clone()) })
        }
        AttemptState::Admitted { pod_uid, .. } => {
            if called_off_by_name(record, step).is_some_and(ends_what_runs) {
                return delete();
            }
            let launch = attempt.launch.as_ref()?;
            let pod = view.observed.pods_of(&key).find(|pod| pod.uid == *pod_uid)?;
            // Said of what was compared in this reconciliation, as above.
            let begins = pod.state == PodState::Gated && blocked.of(step).is_none();
            begins.then(|| ClusterAction::AdmitPod {
                key: key.clone(),
                pod: pod.name.clone(),
                pod_uid: pod_uid.clone(),
                launch: Box::new(launch.clone()),
            })
        }
        AttemptState::Finished { outcome, .. } => match outcome {
            // Those may still have a pod, now or later.
            AttemptOutcome::Voided
            | AttemptOutcome::NotStarted
            | AttemptOutcome::Cancelled
            | AttemptOutcome::Unknown => delete(),
            // Those are over and kept to be looked at until their time to live is up.
            AttemptOutcome::Succeeded | AttemptOutcome::Failed | AttemptOutcome::TimedOut => None,
        },
    }
}
