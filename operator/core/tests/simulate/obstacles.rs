//! Whether a Task is feasible, and what keeps it from that.

use countersign_core::agent::Acting;
use countersign_core::observed::{Network, TemplateLookup};
use countersign_core::simulate::{RiskKind, StepDecision};
use countersign_crds::EffectClass;
use serde_json::json;

use crate::bed::{Bed, risks, step};

#[test]
fn what_nothing_stands_against_is_feasible() {
    let mut bed = Bed::plan(json!([
        {"name": "one", "skill": "echo", "input": {"n": "${task.parameters.n}"}},
        {"name": "two", "skill": "send", "needs": ["one"]},
    ]));
    bed.skill("send", json!({"effect": "Irreversible", "expectedDuration": "1s"}));
    let simulation = bed.simulate();
    assert!(simulation.feasible, "{:?}", simulation.obstacles);
    assert_eq!((simulation.version, simulation.namespace.as_str(), simulation.task.as_str()), (1, "team", "task"));
    let plan = simulation.plan.as_ref().unwrap();
    assert_eq!((plan.source.as_str(), plan.steps, plan.parallelism), ("inline plan", 2, 10));
    assert_eq!(simulation.irreversible_steps, ["two"]);
    let two = step(&simulation, "two");
    assert_eq!((two.decision, two.effect, two.irreversible), (StepDecision::Allow, EffectClass::Irreversible, true));
    assert_eq!(two.reasons[0].rule, "all");
    let [risk] = risks(&simulation, RiskKind::Irreversible)[..] else { panic!("{:?}", simulation.risks) };
    assert!(risk.message.contains("nobody is asked") && risk.steps == ["two"], "{risk:?}");
}

/// Not feasible, for this reason; and the step and words that go with it.
#[track_caller]
fn stands(bed: &Bed, of: Option<&str>, reason: &str, words: &str) {
    let simulation = bed.simulate();
    assert!(!simulation.feasible);
    let found =
        simulation.obstacles.iter().find(|obstacle| obstacle.step.as_deref() == of && obstacle.reason == reason);
    let obstacle = found.unwrap_or_else(|| panic!("{:?}", simulation.obstacles));
    assert!(obstacle.message.contains(words), "{obstacle:?}");
}

#[test]
fn a_task_that_cannot_start_says_why() {
    let one = json!([{"name": "only", "skill": "echo"}]);
    let with = |member: &str, value: serde_json::Value| {
        let mut spec = json!({"plan": {"steps": one}});
        spec[member] = value;
        Bed::new(spec)
    };
    stands(&with("suspend", json!(true)), None, "Suspended", "spec.suspend");
    stands(&with("cancel", json!(true)), None, "Cancelled", "spec.cancel");
    stands(&with("deadline", json!("2026-11-21T09:00:00Z")), None, "DeadlineExceeded", "is over");
    stands(&with("agentRef", json!({"name": "bond"})), None, "AgentNotFound", "there is no Agent \"bond\"");
    let mut bed = with("agentRef", json!({"name": "bond"}));
    let paused = json!({"allowedSkills": ["echo"], "suspend": true});
    bed.inputs.observed.agent = Acting::of("team", "bond", serde_json::from_value(paused).unwrap());
    stands(&bed, None, "Suspended", "the Agent \"bond\" is paused");
    let mut bed = Bed::plan(one.clone());
    bed.inputs.config.require_network_policy = true;
    assert!(bed.simulate().feasible);
    bed.inputs.observed.network = Network::NotTried;
    assert!(bed.simulate().feasible, "a canary will try before anything runs");
    assert_eq!(risks(&bed.simulate(), RiskKind::NetworkNotEnforced).len(), 1);
    bed.inputs.observed.network = Network::Open { reached: "10.0.0.1:443".into() };
    stands(&bed, None, "NetworkNotEnforced", "10.0.0.1:443");
    bed.inputs.config.require_network_policy = false;
    assert!(bed.simulate().feasible);
    assert!(risks(&bed.simulate(), RiskKind::NetworkNotEnforced)[0].message.contains("10.0.0.1:443"));
}

#[test]
fn a_plan_that_cannot_be_made_says_why_and_has_no_steps() {
    let mut bed = Bed::new(json!({"planRef": {"name": "weekly"}}));
    bed.inputs.observed.template = TemplateLookup::Missing { name: "weekly".into() };
    stands(&bed, None, "PlanNotFound", "there is no Plan \"weekly\"");
    assert!(bed.simulate().plan.is_none() && bed.simulate().steps.is_empty());
    let step = |more: serde_json::Value| {
        let mut step = json!({"name": "only", "skill": "echo"});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Bed::plan(json!([step]))
    };
    stands(&step(json!({"skill": "gone"})), None, "SkillNotInstalled", "steps[0] (only).skill");
    stands(&step(json!({"needs": ["only"]})), None, "InvalidPlan", "cycle");
    stands(&step(json!({"input": {"a": "${task.parameters.m}"}})), None, "InvalidPlan", "add it to spec.parameters");
    let bed = Bed::new(json!({"type": "odd"}));
    stands(&bed, None, "SkillNotInstalled", "generic-action");
}

#[test]
fn a_step_that_would_not_run_says_why_and_the_others_are_judged_all_the_same() {
    let mut bed = Bed::plan(json!([
        {"name": "one", "skill": "echo"},
        {"name": "two", "skill": "echo", "needs": ["one"]},
        {"name": "three", "skill": "buy", "needs": ["two"]},
    ]));
    bed.rule(json!({"name": "not-two", "match": "step.name == 'two'", "effect": "Deny", "message": "no"}));
    stands(&bed, Some("two"), "PolicyDenied", "policy ops/starter, rule not-two: no");
    let simulation = bed.simulate();
    let decisions: Vec<StepDecision> = simulation.steps.iter().map(|step| step.decision).collect();
    assert_eq!(decisions, [StepDecision::Allow, StepDecision::Deny, StepDecision::Allow]);
    assert_eq!(step(&simulation, "two").cost.maximum.to_string(), "0", "what does not run costs nothing");

    bed.policy(json!({"rules": [{"name": "never", "match": "false", "effect": "Allow"}]}));
    stands(&bed, Some("one"), "PolicyDenied", "no rule of any Policy allows it");

    let mut bed = Bed::plan(json!([{"name": "only", "skill": "buy"}]));
    bed.inputs.config.broker = false;
    stands(&bed, Some("only"), "NotYet", "no broker is installed");
    assert_eq!(bed.step("only").decision, StepDecision::Wait);

    let mut bed = Bed::plan(json!([{"name": "only", "skill": "echo", "when": "true", "input": {"n": "x"}}]));
    bed.skill("echo", json!({"input": {"properties": {"n": {"type": "integer"}}}}));
    stands(&bed, Some("only"), "InvalidInput", "input.n");
    assert_eq!(bed.step("only").decision, StepDecision::Invalid);

    let mut bed =
        Bed::new(json!({"agentRef": {"name": "bond"}, "plan": {"steps": [{"name": "only", "skill": "echo"}]}}));
    let elsewhere = json!({"allowedSkills": ["buy"]});
    bed.inputs.observed.agent = Acting::of("team", "bond", serde_json::from_value(elsewhere).unwrap());
    stands(&bed, Some("only"), "PolicyDenied", "may not use the Skill \"echo\"");
    assert_eq!(bed.step("only").reasons[0].policy, "agent");
}

#[test]
fn who_asks_is_known_or_nobody_can_sign() {
    let mut bed = Bed::plan(json!([{"name": "only", "skill": "echo", "approval": "Always"}]));
    assert!(bed.simulate().feasible);
    bed.inputs.observed.task.as_mut().unwrap().spec.requester = None;
    stands(&bed, Some("only"), "PolicyDenied", "nobody knows who asked");
}
