//! What changed Policies would change: of a new Task, and of those on record.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_core::observed::TaskView;
use countersign_core::record::{RecordedPlan, Request, StepOutcome};
use countersign_core::simulate::{
    PastAttempt, PastStep, PastTask, Replay, StepDecision, Surroundings, Trial, compare, replay,
};
use countersign_crds::BudgetVerdict;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bed::{Bed, money, set};

fn allow() -> Value {
    json!({"rules": [{"name": "all", "match": "true", "effect": "Allow"}]})
}

fn strict() -> Value {
    json!({"rules": [
        {"name": "all", "match": "true", "effect": "Allow"},
        {"name": "much", "match": "has(step.input.n) && step.input.n > 10", "effect": "Deny"},
        {"name": "sign", "match": "step.name == 'two'", "effect": "RequireApproval", "risk": "Medium"}]})
}

#[test]
fn a_tried_policy_is_held_beside_those_of_today() {
    let bed = Bed::plan(json!([
        {"name": "one", "skill": "echo", "input": {"n": 99}},
        {"name": "two", "skill": "echo"},
        {"name": "three", "skill": "echo"},
    ]));
    let simulation =
        compare(bed.now, &bed.inputs, set(&[("ops", "starter", strict())]), vec!["ops/starter".into()], &bed.judge);
    assert!(!simulation.feasible);
    let comparison = simulation.comparison.unwrap();
    assert!(comparison.feasible_today);
    assert_eq!(comparison.policies, ["ops/starter"]);
    let found: Vec<(&str, StepDecision, StepDecision)> = comparison
        .differences
        .iter()
        .map(|difference| (difference.step.as_str(), difference.today.decision, difference.tried.decision))
        .collect();
    assert_eq!(
        found,
        [("one", StepDecision::Allow, StepDecision::Deny), ("two", StepDecision::Allow, StepDecision::RequireApproval)]
    );
    assert_eq!(comparison.differences[1].tried.required.as_ref().unwrap().count, 1);
    let same = compare(bed.now, &bed.inputs, set(&[("ops", "other", allow())]), Vec::new(), &bed.judge);
    assert!(same.comparison.unwrap().differences.is_empty(), "other words for the same are no difference");
}

/// A step, what it was given, what it returned, and what became of it.
type Was = (Value, Option<Value>, Option<Value>, StepOutcome);

/// A Task on record.
fn past(name: &str, minute: i64, steps: &[Was]) -> PastTask {
    let plan: Vec<Value> = steps.iter().map(|(step, ..)| step.clone()).collect();
    let spec = json!({"plan": {"steps": plan}, "parameters": {"n": 50}, "requester": {"user": "dave"}});
    let at = |offset: i64| {
        "2026-11-20T10:00:00Z".parse::<jiff::Timestamp>().unwrap() + SignedDuration::from_mins(minute + offset)
    };
    let task = TaskView {
        uid: format!("uid-{name}"),
        namespace: "team".into(),
        name: name.into(),
        generation: None,
        spec: serde_json::from_value(spec).unwrap(),
        on_behalf_of: None,
        mark: None,
        deleting: false,
        conditions: Vec::new(),
    };
    let plan = RecordedPlan {
        name: "plan".into(),
        digest: countersign_core::digest::Digest::of_bytes("plan"),
        source: "inline plan".into(),
        parallelism: 1,
        steps: task.spec.plan.clone().unwrap().steps,
        parameters: task.spec.parameters.clone(),
    };
    let step = |(index, (step, input, output, outcome)): (usize, &Was)| {
        let last = input.as_ref().map(|input| PastAttempt { number: 1, input: input.as_object().cloned() });
        let past = PastStep {
            outcome: *outcome,
            reason: (*outcome == StepOutcome::Skipped).then(|| "WhenFalse".to_owned()),
            at: at(i64::try_from(index).unwrap()),
            last,
            output: output.clone().map(Arc::new),
            cost: None,
        };
        (step["name"].as_str().unwrap().to_owned(), past)
    };
    let request = Request { requester: task.spec.requester.clone(), on_behalf_of: None };
    PastTask { plan, request, steps: steps.iter().enumerate().map(step).collect(), task }
}

fn try_on(tasks: &[PastTask], tried: Value) -> Replay {
    let bed = Bed::plan(json!([]));
    let around = Surroundings {
        config: bed.inputs.config.clone(),
        skills: Arc::clone(&bed.inputs.observed.skills),
        agents: BTreeMap::new(),
        secrets: Arc::default(),
    };
    let today = set(&[("ops", "starter", allow())]);
    let tried = set(&[("ops", "starter", tried)]);
    let trial = Trial { today: &today, tried: &tried, names: vec!["ops/starter".into()] };
    replay(bed.now, "team", &around, tasks, trial, &bed.judge)
}

#[test]
fn recorded_steps_are_judged_again_with_what_they_were_given() {
    let one = json!({"name": "one", "skill": "echo", "input": {"n": "${task.parameters.n}"}});
    let two = json!({"name": "two", "skill": "echo", "needs": ["one"], "input": {"n": "${steps.one.output.n}"}});
    let done = StepOutcome::Succeeded;
    let tasks = [
        // What it was given counts, and not what its Plan says today.
        past(
            "late",
            60,
            &[
                (one.clone(), Some(json!({"n": 3, "text": "${not.a.template}"})), Some(json!({"n": 99})), done),
                (two.clone(), None, None, StepOutcome::Rejected),
            ],
        ),
        past(
            "early",
            0,
            &[(one.clone(), Some(json!({"n": 11})), None, done), (two.clone(), None, None, StepOutcome::Open)],
        ),
        // Erased since.
        past("erased", 40, &[(one.clone(), Some(Value::Null), None, done)]),
        past("skipped", 30, &[(one, None, None, StepOutcome::Skipped), (two, None, None, StepOutcome::Open)]),
    ];
    let found = try_on(&tasks, strict());
    assert_eq!((found.version, found.namespace.as_str(), found.tasks), (1, "team", 4));
    let differences: Vec<(&str, &str, StepDecision, StepOutcome)> =
        found.differences.iter().map(|d| (d.task.as_str(), d.step.as_str(), d.tried.decision, d.outcome)).collect();
    assert_eq!(
        differences,
        [("early", "one", StepDecision::Deny, done), ("late", "two", StepDecision::Deny, StepOutcome::Rejected)],
        "the oldest first"
    );
    let unjudged: Vec<(&str, &str)> = found.unjudged.iter().map(|u| (u.task.as_str(), u.step.as_str())).collect();
    assert_eq!(unjudged, [("early", "two"), ("erased", "one")]);
    assert!(found.unjudged[0].why.contains("\"one\" returned, which is not on record"));
    assert!(found.unjudged[1].why.contains("what it was given is not on record"));
    assert_eq!(found.steps, 4);
    assert!(try_on(&tasks, allow()).differences.is_empty());
}

#[test]
fn budgets_that_are_tried_begin_empty_and_hold_what_the_tasks_cost() {
    let buy = json!({"name": "buy", "skill": "buy"});
    let mut tasks: Vec<PastTask> = (0..4)
        .map(|n| past(&format!("t{n}"), n, &[(buy.clone(), Some(json!({})), None, StepOutcome::Succeeded)]))
        .collect();
    for task in &mut tasks {
        task.steps.get_mut("buy").unwrap().cost = Some(money("0.6"));
    }
    let mut tried = allow();
    tried["budget"] = json!({"namespace": {"daily": "2"}});
    let found = try_on(&tasks, tried);
    let deferred: Vec<(&str, Option<BudgetVerdict>)> =
        found.differences.iter().map(|d| (d.task.as_str(), d.tried.budget)).collect();
    // After 1.2 there is no room for one more that may cost 1.
    assert_eq!(deferred, [("t2", Some(BudgetVerdict::Deferred)), ("t3", Some(BudgetVerdict::Deferred))]);
}

#[test]
fn what_cannot_be_judged_today_either_is_named() {
    let gone = json!({"name": "one", "skill": "gone"});
    let found = try_on(&[past("t", 0, &[(gone, Some(json!({})), None, StepOutcome::Succeeded)])], strict());
    assert!(found.differences.is_empty());
    assert!(found.unjudged[0].why.contains("the Skill \"gone\" is not installed"));
}
