//! Whose signatures will be asked for.

use countersign_core::simulate::{RiskKind, StepDecision};
use countersign_crds::{ApprovalScope, RiskClass};
use serde_json::json;

use crate::bed::{Bed, risks};

#[test]
fn who_signs_is_said_in_words_and_in_numbers() {
    let mut bed = Bed::plan(json!([{"name": "pay", "skill": "echo"}]));
    bed.rule(json!({"name": "four-eyes", "match": "true", "effect": "RequireApproval", "risk": "High", "approval":
        {"count": 2, "groups": ["treasury", "ops"], "expiresAfter": "30m", "serviceAccounts": ["team/bot"]}}));
    let simulation = bed.simulate();
    assert_eq!(bed.step("pay").decision, StepDecision::RequireApproval);
    let [asked] = &simulation.approvals[..] else { panic!("{:?}", simulation.approvals) };
    assert_eq!((asked.steps.as_slice(), asked.count, asked.risk), (&["pay".to_owned()][..], 2, RiskClass::High));
    assert_eq!((asked.groups.join(" "), asked.scope), ("treasury ops".to_owned(), ApprovalScope::Step));
    assert_eq!(asked.expires_after_seconds, 1800);
    assert_eq!(
        asked.from,
        "2 different people other than dave, each with the right to approve riskclasses/high in namespace team; among them somebody of each of: treasury, ops; of service accounts only team/bot"
    );
    let [risk] = risks(&simulation, RiskKind::ApprovalExpiresSoon)[..] else { panic!("{:?}", simulation.risks) };
    assert!(risk.message.contains("within 30m"), "{risk:?}");
    assert!(simulation.feasible, "people can sign");
}

#[test]
fn a_step_that_asks_by_itself_asks_for_one() {
    let bed =
        Bed::plan(json!([{"name": "pay", "skill": "echo", "approval": "Always"}, {"name": "b", "skill": "echo"}]));
    let simulation = bed.simulate();
    let [asked] = &simulation.approvals[..] else { panic!("{:?}", simulation.approvals) };
    assert_eq!((asked.count, asked.risk, asked.expires_after_seconds), (1, RiskClass::Low, 86_400));
    assert!(asked.from.starts_with("one person other than dave, with the right to approve riskclasses/low"));
    assert!(asked.from.ends_with("no service account"));
}

#[test]
fn one_signature_is_for_all_steps_that_are_known_where_the_rules_let_it() {
    let mut bed = Bed::plan(json!([
        {"name": "a", "skill": "echo", "input": {"n": 1}},
        {"name": "b", "skill": "echo", "needs": ["a"], "input": {"n": 2}},
        {"name": "c", "skill": "echo", "needs": ["b"], "input": {"n": "${steps.b.output}"}},
        {"name": "d", "skill": "echo", "approval": "Always"},
        {"name": "e", "skill": "echo", "input": {"n": 9}},
    ]));
    let plan = |count: u32, group: &str| json!({"count": count, "groups": [group], "scope": "Plan"});
    bed.policy(json!({"rules": [
        {"name": "all", "match": "true", "effect": "RequireApproval", "approval": plan(1, "x")},
        {"name": "b", "match": "step.name == 'b'", "effect": "RequireApproval", "risk": "High", "approval": plan(3, "y")},
        {"name": "e", "match": "step.name == 'e'", "effect": "RequireApproval", "approval": {"scope": "Step"}}]}));
    let simulation = bed.simulate();
    let asked: Vec<(String, u32, ApprovalScope, RiskClass)> = simulation
        .approvals
        .iter()
        .map(|asked| (asked.steps.join(" "), asked.count, asked.scope, asked.risk))
        .collect();
    assert_eq!(
        asked,
        [
            ("a b".to_owned(), 3, ApprovalScope::Plan, RiskClass::High),
            ("d".to_owned(), 1, ApprovalScope::Step, RiskClass::Low),
            ("e".to_owned(), 1, ApprovalScope::Step, RiskClass::Low),
            ("c".to_owned(), 1, ApprovalScope::Step, RiskClass::Low),
        ]
    );
    assert_eq!(simulation.approvals[0].groups, ["x", "y"]);
}

#[test]
fn whoever_signs_late_may_miss_the_deadline() {
    let with = |deadline: &str| {
        let bed = Bed::new(json!({"deadline": deadline, "plan": {"steps": [
            {"name": "pay", "skill": "echo", "approval": "Always"}]}}));
        risks(&bed.simulate(), RiskKind::Deadline).iter().map(|risk| risk.message.clone()).collect::<String>()
    };
    // It takes two seconds usually, and sixty at most.
    assert!(with("2026-11-21T09:00:01Z").contains("usually takes longer"));
    assert!(with("2026-11-21T09:00:30Z").contains("if its steps take long"));
    assert!(with("2026-11-22T09:00:00Z").contains("whoever signs late"));
}
