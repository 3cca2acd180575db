//! What steps that did not succeed mean for others, and in which words.

use std::sync::Arc;

use countersign_core::causes::causes;
use countersign_core::check;
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::policy::PolicySet;
use countersign_core::record::{ApprovalState, Change, TaskRecord};
use countersign_crds::{PlanSpec, PolicySpec};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bed::{Bed, phase};

fn plan(steps: Value) -> Bed {
    Bed::new(json!({"plan": {"steps": steps}, "parameters": {"n": 1}}))
}

fn failed() -> Option<Value> {
    Some(json!({"status": "Failed", "message": "no answer"}))
}

/// State, reason and message of a step, as the status tells them.
fn step(decision: &ReconcileOutput, name: &str) -> (String, String, String) {
    let step = decision.status.as_ref().unwrap().steps.iter().find(|step| step.name == name).unwrap().clone();
    (format!("{:?}", step.state), step.reason.unwrap_or_default(), step.message.unwrap_or_default())
}

/// The steps that are started, with what they are given.
fn starts(decision: &ReconcileOutput) -> Vec<(String, Value)> {
    let start = |action: &ClusterAction| match action {
        ClusterAction::CreateJob { step, launch, .. } => Some((step.clone(), json!(launch.input))),
        _ => None,
    };
    decision.actions.iter().filter_map(start).collect()
}

fn names(decision: &ReconcileOutput) -> Vec<String> {
    starts(decision).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_step_behind_a_skipped_check_is_skipped_unless_it_says_otherwise() {
    let mut bed = plan(json!([
        {"name": "check", "skill": "echo", "when": "task.parameters.n > 5"},
        {"name": "pay", "skill": "echo", "needs": ["check"]},
        {"name": "receipt", "skill": "echo", "needs": ["pay"]},
        {"name": "tell", "skill": "echo", "after": [{"step": "check", "outcomes": ["Succeeded", "Skipped"]}]}]));
    let decision = bed.reconcile();
    let skipped = |name: &str, message: &str| {
        assert_eq!(step(&decision, name), ("Skipped".into(), "NeedNotMet".into(), message.into()));
    };
    skipped("pay", "step check is Skipped, and this one takes Succeeded");
    skipped("receipt", "step pay is Skipped, and this one takes Succeeded");
    assert_eq!(names(&decision), ["tell"]);
}

#[test]
fn a_step_is_skipped_only_when_all_that_it_needs_has_ended() {
    let mut bed = plan(json!([
        {"name": "check", "skill": "echo", "when": "task.parameters.n > 5"},
        {"name": "slow", "skill": "echo"},
        {"name": "both", "skill": "echo", "needs": ["check", "slow"]},
        {"name": "then", "skill": "echo", "after": [{"step": "both", "outcomes": ["Skipped"]}],
         "input": {"slow": "${steps.slow.outcome}"}}]));
    let decision = bed.reconcile();
    assert_eq!((step(&decision, "both").0, names(&decision)), ("Blocked".into(), vec!["slow".to_owned()]));
    bed.observed.outputs.insert("slow".into(), Arc::new(json!({})));
    let decision = bed.end_with(Some(crate::steps::good("{}")), "");
    assert_eq!(step(&decision, "both").0, "Skipped");
    assert_eq!(starts(&decision), [("then".to_owned(), json!({"slow": "Succeeded"}))]);
}

#[test]
fn a_failure_that_a_plan_allows_is_seen_by_others_and_named_at_the_end() {
    let mut bed = plan(json!([
        {"name": "probe", "skill": "echo", "onFailure": "Continue"},
        {"name": "instead", "skill": "echo", "after": [{"step": "probe", "outcomes": ["Failed"]}],
         "input": {"output": "${steps.probe.output}", "outcome": "${steps.probe.outcome}"}},
        {"name": "never", "skill": "echo", "needs": ["probe"]}]));
    let decision = bed.end_with(failed(), "");
    assert_eq!(starts(&decision), [("instead".to_owned(), json!({"output": null, "outcome": "Failed"}))]);
    assert_eq!(step(&decision, "never").1, "NeedNotMet");
    let (phase, message) = phase(&bed.end_with(Some(crate::steps::good("{}")), ""));
    assert_eq!(phase, "Completed");
    assert_eq!(message, "3 steps done; failed, after which the Task went on: probe");
}

#[test]
fn the_cause_of_a_failure_is_never_one_that_its_plan_allows() {
    let mut bed = plan(json!([
        {"name": "probe", "skill": "echo", "onFailure": "Continue"},
        {"name": "work", "skill": "echo", "after": [{"step": "probe", "outcomes": ["Failed"]}]}]));
    bed.end_with(failed(), "");
    let decision = bed.end_with(failed(), "");
    assert_eq!(phase(&decision).0, "Failed");
    let chain = causes(&decision.record.unwrap());
    let names: Vec<_> = chain.iter().map(|cause| (cause.kind, cause.name.as_str())).collect();
    assert_eq!(names[1], ("Step", "work"), "{names:?}");
}

#[test]
fn what_nobody_knows_the_end_of_ends_the_task_whatever_its_step_says() {
    let mut bed = plan(json!([
        {"name": "probe", "skill": "echo", "onFailure": "Continue"},
        {"name": "instead", "skill": "echo", "after": [{"step": "probe", "outcomes": ["Failed"]}]}]));
    bed.reconcile();
    bed.reconcile();
    bed.observed.pods.clear();
    let decision = bed.reconcile();
    assert_eq!(phase(&decision).0, "Failed");
    assert_eq!(step(&decision, "probe").0, "Unknown");
    assert_eq!(step(&decision, "instead").0, "Skipped");
}

#[test]
fn a_finally_step_sees_what_every_other_came_to() {
    let mut bed = plan(json!([
        {"name": "one", "skill": "echo"},
        {"name": "two", "skill": "echo", "needs": ["one"]},
        {"name": "tell", "skill": "echo", "finally": true, "when": "steps.one.outcome != 'Succeeded'",
         "input": {"text": "one is ${steps.one.outcome}, two is ${steps.two.outcome}"}}]));
    let decision = bed.reconcile();
    assert_eq!((step(&decision, "tell").0, names(&decision)), ("Blocked".into(), vec!["one".to_owned()]));
    let decision = bed.end_with(failed(), "");
    assert_eq!(starts(&decision), [("tell".to_owned(), json!({"text": "one is Failed, two is Skipped"}))]);
    assert_eq!(
        phase(&decision),
        ("Executing".into(), "a step did not succeed: 1 running, 0 waiting for approval".into())
    );
    let (phase, message) = phase(&bed.end_with(failed(), ""));
    assert_eq!(phase, "Failed");
    assert_eq!(message, "AttemptFailed: step one: no answer; finally, step tell: no answer");
}

#[test]
fn a_finally_step_that_fails_takes_away_only_success() {
    for (on_failure, expected) in [("EndTask", "Failed"), ("Continue", "Completed")] {
        let mut bed = plan(json!([
            {"name": "work", "skill": "echo"},
            {"name": "clean", "skill": "echo", "finally": true, "onFailure": on_failure},
            {"name": "tell", "skill": "echo", "finally": true, "after": [{"step": "clean", "outcomes": ["Failed"]}]}]));
        bed.end_with(Some(crate::steps::good("{}")), "");
        let decision = bed.end_with(failed(), "");
        assert_eq!(names(&decision), ["tell"], "the others go on");
        assert_eq!(phase(&bed.end_with(Some(crate::steps::good("{}")), "")).0, expected);
    }
}

#[test]
fn finally_steps_are_signed_for_apart_and_after_a_rejection() {
    let mut bed = plan(json!([
        {"name": "one", "skill": "echo"},
        {"name": "two", "skill": "echo"},
        {"name": "clean", "skill": "echo", "finally": true},
        {"name": "tell", "skill": "echo", "finally": true}]));
    let rule = json!({"rules": [{"name": "sign", "match": "true", "effect": "RequireApproval",
        "approval": {"scope": "Plan"}}]});
    let rule: PolicySpec = serde_json::from_value(rule).unwrap();
    bed.observed.policies = Arc::new(PolicySet::compile("ops", [("ops".to_owned(), "p".to_owned(), rule)]));
    let open = |record: &TaskRecord| -> Vec<String> {
        let open = record.approvals.values().filter(|approval| approval.state == ApprovalState::Requested);
        open.flat_map(|approval| approval.covers.keys().cloned()).collect()
    };
    let decision = bed.reconcile();
    assert_eq!(open(decision.record.as_ref().unwrap()), ["one", "two"]);
    bed.sign("alice", false);
    let decision = bed.reconcile();
    assert_eq!(open(decision.record.as_ref().unwrap()), ["clean", "tell"]);
    assert_eq!(phase(&decision).0, "WaitingApproval");
    bed.reconcile();
    bed.sign("alice", true);
    let decision = bed.reconcile();
    assert_eq!(names(&decision), ["clean", "tell"]);
    for _ in 0..2 {
        bed.end_with(Some(crate::steps::good("{}")), "");
        bed.observed.pods.pop();
    }
    assert_eq!(phase(&bed.reconcile()).0, "Rejected");
}

#[test]
fn a_finally_step_is_tried_again_after_a_cancellation() {
    let retry = json!({"limit": 1, "backoff": "10s"});
    let mut bed = plan(json!([
        {"name": "work", "skill": "echo", "retry": retry},
        {"name": "clean", "skill": "echo", "finally": true, "retry": retry}]));
    bed.reconcile();
    bed.reconcile();
    bed.observed.task.as_mut().unwrap().spec.cancel = true;
    bed.observed.pods.clear();
    let decision = bed.reconcile();
    assert_eq!(names(&decision), ["clean"], "what was cancelled is not tried again");
    assert!(phase(&decision).1.starts_with("the Task was cancelled: 1 running"), "{:?}", phase(&decision));
    let decision = bed.end_with(failed(), "");
    let again = decision.changes.iter().any(|c| matches!(c, Change::FinishAttempt { retry_at: Some(_), .. }));
    assert!(again, "{:?}", decision.changes);
    bed.now += SignedDuration::from_secs(20);
    let decision = bed.reconcile();
    assert_eq!(names(&decision), ["clean"]);
    bed.observed.pods.remove(0);
    let (phase, message) = phase(&bed.end_with(Some(crate::steps::good("{}")), ""));
    assert_eq!((phase.as_str(), message.as_str()), ("Cancelled", "Cancelled: the Task was cancelled"));
}

#[test]
fn needs_that_can_never_be_met_are_refused_with_field_and_fix() {
    let refused = |steps: Value, expected: &str| {
        let spec: PlanSpec = serde_json::from_value(json!({"steps": steps})).unwrap();
        let problems: Vec<String> =
            check::plan(&spec).err().unwrap_or_default().iter().map(|p| p.to_string()).collect();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
    };
    let a = json!({"name": "a", "skill": "k"});
    let b = |more: Value| {
        let mut step = json!({"name": "b", "skill": "k"});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        step
    };
    let after = |outcomes: Value| b(json!({"after": [{"step": "a", "outcomes": outcomes}]}));
    refused(
        json!([a, after(json!(["Failed"]))]),
        "spec.steps[1] (b).after[0]: a Task ends when step \"a\" failed; set onFailure: Continue there, or finally here",
    );
    refused(
        json!([a, after(json!(["Skipped", "Rejected"]))]),
        "a Task ends with a step that is Rejected; set finally here",
    );
    refused(json!([a, after(json!(["Unknown"]))]), "a Task ends with a step that is Unknown");
    refused(
        json!([a, b(json!({"needs": ["a"], "after": [{"step": "a", "outcomes": ["Skipped"]}]}))]),
        "spec.steps[1] (b).after[0]: step \"a\" is named before; name it once",
    );
    refused(
        json!([a, b(json!({"after": [{"step": "z", "outcomes": ["Skipped"]}]}))]),
        "spec.steps[1] (b).after[0]: there is no step \"z\"",
    );
    refused(
        json!([{"name": "a", "skill": "k", "finally": true}, b(json!({"needs": ["a"]}))]),
        "spec.steps[1] (b).needs[0]: step \"a\" is a finally step, which runs after this one",
    );
    refused(json!([{"name": "a", "skill": "k", "finally": true}]), "spec.steps: every step is a finally step");
    refused(
        json!([a, b(json!({"input": {"x": "${steps.a.outcome}"}}))]),
        "does not come before this one; add it to needs",
    );
    refused(
        json!([a, b(json!({"needs": ["a"], "input": {"x": "${steps.a.state}"}}))]),
        "a step has output and outcome",
    );
    let sound = json!([{"name": "a", "skill": "k", "onFailure": "Continue"}, after(json!(["Failed", "Skipped"])),
        {"name": "c", "skill": "k", "finally": true, "after": [{"step": "a", "outcomes": ["Rejected", "Unknown"]}],
         "input": {"x": "${steps.b.outcome}"}}]);
    assert_eq!(check::plan(&serde_json::from_value(json!({"steps": sound})).unwrap()), Ok(()));
}
