//! What is not known before other steps have run is said to be so, and nothing is guessed.

use countersign_core::simulate::{RiskKind, StepDecision};
use serde_json::{Value, json};

use crate::bed::{Bed, range, risks, step};

/// The second step's input holds what the first returns, and something that is known.
fn chain(rules: Value) -> Bed {
    let mut bed = Bed::plan(json!([
        {"name": "one", "skill": "echo"},
        {"name": "two", "skill": "buy", "needs": ["one"],
         "input": {"amount": "${steps.one.output.amount}", "to": "${task.parameters.to}", "kind": "gift"}},
    ]));
    bed.policy(json!({"rules": rules}));
    bed
}

fn rule(name: &str, matches: &str, effect: &str) -> Value {
    json!({"name": name, "match": matches, "effect": effect, "message": name})
}

#[test]
fn rules_that_read_what_is_open_are_named_and_the_rest_are_judged() {
    let all = rule("all", "true", "Allow");
    for (rules, decision, undetermined, reasons) in [
        (json!([all]), StepDecision::Allow, vec![], vec!["all"]),
        (json!([all, rule("much", "step.input.amount > 100", "Deny")]), StepDecision::Allow, vec!["much"], vec!["all"]),
        // Another member of the same input is known, and so is one that is not there.
        (json!([all, rule("to", "step.input.to == 'alice'", "Deny")]), StepDecision::Deny, vec![], vec!["all", "to"]),
        (
            json!([
                all,
                rule("to", "step.input.to == 'alice'", "RequireApproval"),
                rule("no", "has(step.input.x)", "Deny")
            ]),
            StepDecision::RequireApproval,
            vec![],
            vec!["all", "to"],
        ),
        // All of it holds what is open.
        (
            json!([all, rule("any", "step.input.all(k, k != 'x')", "Deny")]),
            StepDecision::Allow,
            vec!["any"],
            vec!["all"],
        ),
        (json!([all, rule("size", "size(step.input) > 2", "Deny")]), StepDecision::Allow, vec!["size"], vec!["all"]),
        // Only what is open could allow it: that is neither yes nor no.
        (
            json!([rule("one", "step.name == 'one'", "Allow"), rule("few", "step.input.amount < 9", "Allow")]),
            StepDecision::Undetermined,
            vec!["few"],
            vec![],
        ),
        (
            json!([rule("one", "step.name == 'one'", "Allow"), rule("many", "step.input.amount > 9", "Deny")]),
            StepDecision::Deny,
            vec!["many"],
            vec!["no-rule-matched"],
        ),
    ] {
        let bed = chain(rules.clone());
        let found = bed.step("two");
        let names = |rules: &[countersign_core::simulate::Reason]| {
            rules.iter().map(|rule| rule.rule.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found.decision, decision, "{rules}: {found:?}");
        assert_eq!(names(&found.undetermined), undetermined, "{rules}");
        assert_eq!(names(&found.reasons), reasons, "{rules}");
        assert!(!found.certain);
        assert_eq!(found.not_known, ["input.amount"]);
        assert!(bed.step("one").certain);
    }
}

#[test]
fn what_is_open_is_a_risk_and_not_an_obstacle() {
    let few = "has(step.input.amount) && step.input.amount < 9";
    let bed = chain(json!([rule("one", "step.name == 'one'", "Allow"), rule("few", few, "Allow")]));
    let simulation = bed.simulate();
    assert!(simulation.feasible, "{:?}", simulation.obstacles);
    let [risk] = risks(&simulation, RiskKind::InputNotKnown)[..] else { panic!("{:?}", simulation.risks) };
    assert!(risk.steps == ["two"] && risk.message.contains("rules read that"), "{risk:?}");
    assert_eq!(range(&simulation), ["0.1", "0.1", "1"], "it counts as if it were allowed");
}

#[test]
fn the_schema_is_not_held_against_what_is_not_there_yet() {
    let mut bed = chain(json!([rule("all", "true", "Allow")]));
    bed.priced("buy", "1", json!({"input": {"required": ["amount"], "properties": {"kind": {"type": "string"}}}}));
    assert_eq!(bed.step("two").decision, StepDecision::Allow);
}

#[test]
fn a_member_that_fails_is_said_although_another_is_open() {
    let mut bed = chain(json!([rule("all", "true", "Allow")]));
    let plan = bed.inputs.observed.task.as_mut().unwrap().spec.plan.as_mut().unwrap();
    plan.steps[1].input.insert("bad".into(), json!("${1 / (task.parameters.n - 1)}"));
    let two = bed.step("two");
    assert_eq!(two.decision, StepDecision::Invalid);
    assert!(two.message.unwrap().contains("input.bad"));
}

#[test]
fn a_when_counts_as_far_as_it_is_known() {
    let with = |when: &str| {
        Bed::plan(json!([
            {"name": "one", "skill": "echo"},
            {"name": "two", "skill": "buy", "needs": ["one"], "when": when},
            {"name": "three", "skill": "echo", "needs": ["two"], "input": {"from": "${steps.two.output}"}},
        ]))
    };
    for (when, decision, certain, cost) in [
        ("task.parameters.n == 1", StepDecision::Allow, true, ["0.1", "0.1", "1"]),
        ("task.parameters.n == 2", StepDecision::Skip, true, ["0", "0", "0"]),
        ("steps.one.output.x == 1", StepDecision::Allow, false, ["0", "0.1", "1"]),
        ("task.parameters.n", StepDecision::Invalid, true, ["0", "0", "0"]),
    ] {
        let simulation = with(when).simulate();
        let two = step(&simulation, "two");
        assert_eq!((two.decision, two.certain), (decision, certain), "{when}");
        assert_eq!(two.not_known, if certain { vec![] } else { vec!["when"] });
        assert_eq!(range(&simulation), cost, "{when}");
        // The output of what is skipped is null, and that is known.
        assert_eq!(step(&simulation, "three").certain, decision == StepDecision::Skip, "{when}");
    }
}

#[test]
fn what_fails_only_if_it_is_reached_is_a_risk() {
    let mut bed = Bed::plan(json!([
        {"name": "one", "skill": "echo"},
        {"name": "two", "skill": "buy", "needs": ["one"], "when": "steps.one.output.x == 1"},
    ]));
    bed.rule(json!({"name": "no", "match": "step.name == 'two'", "effect": "Deny", "message": "never"}));
    let simulation = bed.simulate();
    assert!(simulation.feasible, "{:?}", simulation.obstacles);
    assert_eq!(step(&simulation, "two").decision, StepDecision::Deny);
    let [risk] = risks(&simulation, RiskKind::Conditional)[..] else { panic!("{:?}", simulation.risks) };
    assert!(risk.steps == ["two"] && risk.message.contains("if its when holds") && risk.message.contains("never"));
}

#[test]
fn what_the_step_before_returned_is_null_where_it_is_skipped() {
    let mut bed = Bed::plan(json!([
        {"name": "one", "skill": "echo", "when": "false"},
        {"name": "two", "skill": "echo", "after": [{"step": "one", "outcomes": ["Skipped"]}],
         "input": {"from": "${steps.one.output}"}},
    ]));
    bed.rule(json!({"name": "null", "match": "has(step.input.from) && step.input.from == null", "effect": "Deny"}));
    assert_eq!(bed.step("two").decision, StepDecision::Deny);
    assert!(bed.step("two").certain);
}

#[test]
fn what_needs_a_skipped_step_is_skipped_and_finally_steps_come_last() {
    let simulation = Bed::plan(json!([
        {"name": "clean", "skill": "buy", "finally": true},
        {"name": "one", "skill": "echo", "when": "false"},
        {"name": "two", "skill": "buy", "needs": ["one"]},
        {"name": "three", "skill": "echo", "needs": ["two"]},
        {"name": "other", "skill": "echo", "after": [{"step": "three", "outcomes": ["Skipped"]}]},
    ]))
    .simulate();
    let decisions = ["one", "two", "three", "other", "clean"].map(|name| step(&simulation, name).decision);
    use StepDecision::{Allow, Skip};
    assert_eq!(decisions, [Skip, Skip, Skip, Allow, Allow]);
    assert_eq!(range(&simulation), ["0.1", "0.1", "1"], "of the one that is bought");
}
