//! An expression that takes more than its time: tried again as long as it may be the machine's fault, and then given up
//! by name. What nobody tried is given up by nobody.

use std::time::Duration;

use countersign_core::cel::CelEvaluator;
use countersign_core::effect::ReconcileOutput;
use countersign_core::judge::PolicyJudge;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bed::{Bed, phase};

const LONG: &str = "task.parameters.l.all(a, task.parameters.l.all(b, a + b >= 0))";

/// These steps, of a Task whose parameter `l` has so many elements.
fn bed(elements: u32, steps: Value) -> Bed {
    let list: Vec<u32> = (0..elements).collect();
    Bed::new(json!({"parameters": {"l": list}, "plan": {"parallelism": 2, "steps": steps}}))
}

fn one() -> Value {
    json!([{"name": "only", "skill": "echo", "when": LONG}])
}

/// Nothing is evaluated in time at the next reconciliation, and something is tried: nobody has used up the turns before.
fn slow(bed: &mut Bed) {
    bed.judge = PolicyJudge::new(CelEvaluator::with_limit(Duration::from_micros(1)));
}

fn fast(bed: &mut Bed) {
    bed.judge = PolicyJudge::new(CelEvaluator::with_limit(Duration::from_secs(60)));
}

fn reason<'a>(decision: &'a ReconcileOutput, step: &str) -> &'a str {
    decision.blocked.of(step).map_or("", |blocked| blocked.reason.as_str())
}

/// Looks at it for so long, at which `check` looks as well; nothing is evaluated in time, nor at the reconciliation
/// after that.
fn wait(bed: &mut Bed, time: SignedDuration, check: impl Fn(&ReconcileOutput)) {
    let end = bed.now + time;
    while bed.now < end {
        slow(bed);
        let decision = bed.reconcile();
        assert!(decision.requeue.is_some_and(|at| at <= bed.now + SignedDuration::from_secs(1)), "it is tried again");
        check(&decision);
        bed.now += SignedDuration::from_mins(5);
    }
    bed.now = end;
    slow(bed);
}

#[test]
fn a_step_whose_expression_is_never_in_time_fails_by_name_when_it_was_tried_for_long_enough() {
    let mut bed = bed(200, one());
    slow(&mut bed);
    let deadline = bed.config.planning_deadline;
    wait(&mut bed, deadline, |decision| {
        assert_eq!(reason(decision, "only"), "EvaluatorTimedOut");
        assert!(decision.blocked.of("only").is_some_and(|blocked| blocked.message.contains(LONG)));
    });
    let (phase, message) = phase(&bed.reconcile());
    assert!(phase == "Failed" && message.starts_with("EvaluatorTimedOut"), "{phase}: {message}");
    for said in [LONG, "planningDeadlineSeconds", "let the expression go through less"] {
        assert!(message.contains(said), "{said}: {message}");
    }
}

#[test]
fn a_step_whose_expression_is_in_time_before_that_goes_on() {
    let mut bed = bed(200, one());
    slow(&mut bed);
    wait(&mut bed, SignedDuration::from_mins(55), |decision| assert_eq!(reason(decision, "only"), "EvaluatorTimedOut"));
    fast(&mut bed);
    bed.reconcile();
    assert!(bed.observed.record.as_ref().unwrap().steps["only"].live_attempt().is_some());
}

#[test]
fn whatever_is_tried_anew_is_tried_for_as_long_again() {
    let mut bed = bed(200, one());
    slow(&mut bed);
    for _ in 0..3 {
        wait(&mut bed, SignedDuration::from_mins(55), |decision| {
            assert_eq!(reason(decision, "only"), "EvaluatorTimedOut");
        });
        bed.observed.task.as_mut().unwrap().spec.suspend = true;
        assert_eq!(reason(&bed.reconcile(), "only"), "Suspended");
        bed.observed.task.as_mut().unwrap().spec.suspend = false;
    }
    // What was missing for as long counts for nothing here.
    let skill = std::sync::Arc::make_mut(&mut bed.observed.skills).remove("echo").unwrap();
    fast(&mut bed);
    let mut missing = 0;
    while missing < 11 {
        assert_eq!(reason(&bed.reconcile(), "only"), "SkillNotInstalled");
        bed.now += SignedDuration::from_mins(5);
        missing += 1;
    }
    std::sync::Arc::make_mut(&mut bed.observed.skills).insert("echo".into(), skill);
    slow(&mut bed);
    bed.reconcile();
    bed.now += SignedDuration::from_mins(30);
    slow(&mut bed);
    assert_eq!(reason(&bed.reconcile(), "only"), "EvaluatorTimedOut");
}

#[test]
fn what_the_evaluator_has_no_turn_for_waits_for_ever() {
    let mut bed = bed(200, one());
    bed.busy = true;
    for _ in 0..50 {
        assert_eq!(reason(&bed.reconcile(), "only"), "EvaluatorBusy");
        bed.now += SignedDuration::from_hours(1);
    }
    bed.busy = false;
    fast(&mut bed);
    bed.reconcile();
    assert!(bed.observed.record.as_ref().unwrap().steps["only"].live_attempt().is_some());
}

#[test]
fn what_was_not_tried_for_want_of_time_does_not_fail_with_what_was() {
    let steps = json!([{"name": "long", "skill": "echo", "when": LONG, "onFailure": "Continue"},
        {"name": "other", "skill": "echo", "when": LONG}]);
    let mut bed = bed(200, steps);
    slow(&mut bed);
    let deadline = bed.config.planning_deadline;
    wait(&mut bed, deadline, |decision| {
        assert_eq!((reason(decision, "long"), reason(decision, "other")), ("EvaluatorTimedOut", "EvaluatorBusy"));
    });
    bed.reconcile();
    slow(&mut bed);
    assert_eq!(reason(&bed.reconcile(), "other"), "EvaluatorTimedOut", "it is tried at last");
    let steps = &bed.observed.record.as_ref().unwrap().steps;
    assert!(!steps["long"].is_open() && steps["other"].is_open());
    fast(&mut bed);
    bed.reconcile();
    assert!(bed.observed.record.as_ref().unwrap().steps["other"].live_attempt().is_some());
}

#[test]
fn an_attempt_that_is_never_judged_in_time_before_its_pod_is_let_in_never_began() {
    let mut bed = bed(3, one());
    fast(&mut bed);
    bed.reconcile();
    slow(&mut bed);
    let deadline = bed.config.planning_deadline;
    wait(&mut bed, deadline, |decision| assert_eq!(reason(decision, "only"), "EvaluatorTimedOut"));
    let (phase, message) = phase(&bed.reconcile());
    assert!(phase == "Failed" && message.starts_with("NotStarted") && message.contains(LONG), "{phase}: {message}");
}

#[test]
fn a_rule_that_is_never_in_time_is_named() {
    let mut bed = bed(200, json!([{"name": "only", "skill": "echo"}]));
    let long = LONG.replace("task.parameters.l", "[1, 2, 3]");
    bed.rules(json!([{"name": "big", "match": long, "effect": "Allow"}]));
    slow(&mut bed);
    let deadline = bed.config.planning_deadline;
    wait(&mut bed, deadline, |decision| assert_eq!(reason(decision, "only"), "EvaluatorTimedOut"));
    let (phase, message) = phase(&bed.reconcile());
    assert!(phase == "Failed" && message.contains("the rule \"big\" of the Policy"), "{phase}: {message}");
}
