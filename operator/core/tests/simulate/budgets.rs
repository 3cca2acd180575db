//! What it costs, and whether that fits.

use countersign_core::agent::Acting;
use countersign_core::budget::{Scope, Window};
use countersign_core::simulate::{RiskKind, Simulation, StepDecision};
use countersign_crds::{AgentSpec, BudgetVerdict, Priority};
use serde_json::{Value, json};

use crate::bed::{Bed, range, risks, step};

/// One step that may cost one and reserves that.
fn buy() -> Bed {
    Bed::plan(json!([{"name": "only", "skill": "buy"}]))
}

/// Each of them may cost one.
fn buys(count: usize, parallelism: u32) -> Bed {
    let steps: Vec<Value> = (0..count).map(|n| json!({"name": format!("b{n}"), "skill": "buy"})).collect();
    Bed::new(json!({"plan": {"parallelism": parallelism, "steps": steps}}))
}

fn verdicts(simulation: &Simulation) -> Vec<(StepDecision, Option<BudgetVerdict>)> {
    simulation.steps.iter().map(|step| (step.decision, step.budget.as_ref().map(|budget| budget.verdict))).collect()
}

#[test]
fn what_fits_is_reserved_and_shown_in_every_limit() {
    let mut bed = buy();
    bed.budget(json!({"cluster": {"monthly": "100"}, "namespace": {"daily": "1.2", "perAttempt": "1"}}));
    bed.used(Scope::Namespace, Window::Day, "0.1", "0.05");
    let simulation = bed.simulate();
    assert!(simulation.feasible);
    let budget = bed.step("only").budget.unwrap();
    assert_eq!((budget.verdict, budget.amount.to_string(), budget.until), (BudgetVerdict::Allowed, "1".into(), None));
    let lines: Vec<String> = simulation
        .budgets
        .iter()
        .map(|line| {
            let amounts = [line.limit, line.spent_before, line.held_before, line.spent, line.held, line.left];
            let amounts = amounts.map(|amount| amount.to_string()).join(" ");
            format!("{:?} {:?} {:?} {amounts}", line.scope, line.subject, line.window)
        })
        .collect();
    assert_eq!(
        lines,
        ["Cluster \"\" Month 100 0 0 0.1 0 99.9", "Namespace \"team\" Day 1.2 0.1 0.05 0.2 0.05 0.95"],
        "at the expected cost"
    );
    assert_eq!(range(&simulation), ["0.1", "0.1", "1"]);
    assert!(risks(&simulation, RiskKind::BudgetScarce).is_empty());
}

#[test]
fn a_price_that_does_not_fit_defers_downgrades_or_rejects() {
    let with = |spent: &str, more: Value| {
        let mut bed = buy();
        bed.priced("cheap", "0.3", json!({}));
        bed.priced("buy", "1", more);
        bed.budget(json!({"namespace": {"daily": "2", "timeZone": "Europe/Zurich"}}));
        bed.used(Scope::Namespace, Window::Day, spent, "0");
        bed
    };
    // It waits for midnight in Zürich.
    let bed = with("1.5", json!({}));
    let simulation = bed.simulate();
    let only = step(&simulation, "only");
    let budget = only.budget.unwrap();
    assert_eq!(budget.verdict, BudgetVerdict::Deferred);
    assert_eq!(budget.until.unwrap().to_string(), "2026-11-21T23:00:00Z");
    assert!(budget.message.unwrap().contains("the namespace team has spent 1.5"));
    assert_eq!((only.decision, only.starts_after_seconds), (StepDecision::Allow, 14.0 * 3600.0));
    assert!(simulation.feasible, "it comes to its end by itself");
    assert_eq!(simulation.duration.p50_seconds, 14.0 * 3600.0 + 10.0);
    assert!(risks(&simulation, RiskKind::Deferred)[0].message.contains("2026-11-21T23:00:00Z"));
    let windows: Vec<&str> =
        simulation.budgets.iter().map(|line| if line.spent.micros() == 100_000 { "next" } else { "this" }).collect();
    assert_eq!(windows, ["this", "next"], "it is paid from the next day's");

    let bed = with("1.5", json!({"downgradeTo": "cheap"}));
    let only = bed.step("only");
    assert_eq!((only.skill.as_str(), only.downgraded_from.as_deref()), ("cheap", Some("buy")));
    let budget = only.budget.unwrap();
    assert_eq!((budget.verdict, budget.amount.to_string()), (BudgetVerdict::Downgraded, "0.3".to_owned()));
    assert!(only.reasons.iter().any(|reason| reason.policy == "budget" && reason.rule == "buy"));

    for (spent, more) in [("1.5", json!({"overBudget": "Reject"})), ("0", json!({"cost": {"ceiling": "3"}}))] {
        let bed = with(spent, more);
        let simulation = bed.simulate();
        assert_eq!(verdicts(&simulation), [(StepDecision::Deny, Some(BudgetVerdict::Rejected))]);
        assert!(!simulation.feasible && simulation.obstacles[0].reason == "OverBudget", "{:?}", simulation.obstacles);
        assert_eq!(range(&simulation), ["0", "0", "0"]);
    }
}

#[test]
fn what_would_fit_only_after_the_deadline_is_not_feasible() {
    let mut bed =
        Bed::new(json!({"deadline": "2026-11-21T18:00:00Z", "plan": {"steps": [{"name": "only", "skill": "buy"}]}}));
    bed.budget(json!({"namespace": {"daily": "2"}}));
    bed.used(Scope::Namespace, Window::Day, "1.5", "0");
    let simulation = bed.simulate();
    assert!(!simulation.feasible);
    assert!(simulation.obstacles[0].message.contains("after the Task's deadline"), "{:?}", simulation.obstacles);
}

#[test]
fn later_steps_see_what_earlier_ones_hold_and_spend() {
    // Each holds one while it runs and costs a tenth: two fit at once, and all of them one after the other.
    let mut bed = buys(4, 10);
    bed.budget(json!({"namespace": {"daily": "2.2"}}));
    let simulation = bed.simulate();
    let deferred = (StepDecision::Allow, Some(BudgetVerdict::Deferred));
    let allowed = (StepDecision::Allow, Some(BudgetVerdict::Allowed));
    assert_eq!(verdicts(&simulation), [allowed, allowed, deferred, deferred]);
    assert_eq!(step(&simulation, "b2").budget.unwrap().until, None, "it waits for what is given back");
    let starts: Vec<f64> = simulation.steps.iter().map(|step| step.starts_after_seconds).collect();
    assert_eq!(starts, [0.0, 0.0, 10.0, 10.0]);
    assert!(simulation.feasible);
    // One after the other nothing waits.
    let mut bed = buys(4, 1);
    bed.budget(json!({"namespace": {"daily": "2.2"}}));
    assert_eq!(verdicts(&bed.simulate()), [allowed; 4]);
    // What others hold may never come back.
    let mut bed = buys(1, 1);
    bed.budget(json!({"namespace": {"daily": "2.2"}}));
    bed.used(Scope::Namespace, Window::Day, "0.1", "2");
    let simulation = bed.simulate();
    assert_eq!(verdicts(&simulation), [deferred]);
    assert!(risks(&simulation, RiskKind::Deferred)[0].message.contains("nobody knows"));
}

#[test]
fn a_large_plan_goes_on_window_after_window() {
    let steps = 500;
    let mut bed = buys(steps, 100);
    bed.budget(json!({"namespace": {"hourly": "2.2"}}));
    let simulation = bed.simulate();
    assert!(simulation.feasible);
    // Each costs a tenth, and starts while one is free: the thirteenth of an hour is the last.
    assert_eq!(simulation.budgets.len(), steps.div_ceil(13));
    assert!(simulation.budgets.iter().all(|line| line.spent <= line.limit));
}

#[test]
fn a_plan_that_runs_past_midnight_is_paid_from_two_days() {
    let mut bed = buys(3, 1);
    bed.now = "2026-11-21T23:59:45Z".parse().unwrap();
    bed.priced("buy", "1", json!({"cost": {"ceiling": "1", "perAttempt": "1"}}));
    bed.budget(json!({"namespace": {"daily": "2"}}));
    let simulation = bed.simulate();
    let starts: Vec<f64> = simulation.steps.iter().map(|step| step.starts_after_seconds).collect();
    assert_eq!(starts, [0.0, 10.0, 20.0], "the third starts five seconds into the next day");
    let spent: Vec<String> = simulation.budgets.iter().map(|line| line.spent.to_string()).collect();
    assert_eq!(spent, ["2", "1"]);
    // On one day it would not fit.
    bed.now = "2026-11-21T12:00:00Z".parse().unwrap();
    assert_eq!(bed.simulate().steps[2].starts_after_seconds, 12.0 * 3600.0);
}

#[test]
fn low_priority_cannot_use_the_floor() {
    let agent = |priority: Priority| -> AgentSpec {
        serde_json::from_value(json!({"allowedSkills": ["buy"], "priority": priority})).unwrap()
    };
    let with = |priority: Priority| {
        let mut bed =
            Bed::new(json!({"agentRef": {"name": "batch"}, "plan": {"steps": [{"name": "only", "skill": "buy"}]}}));
        bed.priced("buy", "1", json!({"overBudget": "Reject"}));
        bed.budget(json!({"namespace": {"daily": "2", "floorPercent": 60}}));
        bed.inputs.observed.agent = Acting::of("team", "batch", agent(priority));
        bed
    };
    let simulation = with(Priority::Low).simulate();
    assert_eq!(verdicts(&simulation), [(StepDecision::Deny, Some(BudgetVerdict::Rejected))]);
    assert!(simulation.obstacles[0].message.contains("of which low priority may use 0.8"));
    assert_eq!(simulation.budgets[0].cap.map(|cap| cap.to_string()).as_deref(), Some("0.8"));
    let simulation = with(Priority::Normal).simulate();
    assert!(simulation.feasible && simulation.budgets[0].cap.is_none());
}

#[test]
fn a_price_that_nobody_knows_fits_no_budget_and_is_a_risk_without_one() {
    let with = |budget: Value| {
        let mut bed = Bed::plan(json!([{"name": "only", "skill": "vague"}, {"name": "free", "skill": "echo"}]));
        bed.skill("vague", json!({"egress": [{"host": "api.example.com"}]}));
        bed.budget(budget);
        bed.simulate()
    };
    let simulation = with(json!({"namespace": {"daily": "5"}}));
    assert_eq!(step(&simulation, "only").decision, StepDecision::Deny);
    assert_eq!(risks(&simulation, RiskKind::UnknownPrice)[0].steps, ["only"]);
    assert_eq!(step(&simulation, "free").decision, StepDecision::Allow);
    let simulation = with(Value::Null);
    assert!(simulation.feasible && !simulation.cost.complete);
    assert_eq!(risks(&simulation, RiskKind::EgressWithoutCeiling)[0].steps, ["only"]);
    assert!(risks(&simulation, RiskKind::UnknownPrice).is_empty());
}

#[test]
fn a_task_never_costs_more_than_its_budget() {
    let spec = json!({"budget": "1.5", "plan": {"parallelism": 1, "steps": [
        {"name": "a", "skill": "buy"}, {"name": "b", "skill": "buy"}, {"name": "c", "skill": "buy"}]}});
    let simulation = Bed::new(spec).simulate();
    assert_eq!(range(&simulation), ["0.3", "0.3", "1.5"], "three attempts could cost three");
    let line = &simulation.budgets[0];
    assert_eq!((line.scope, line.subject.as_str(), line.left.to_string().as_str()), (Scope::Task, "task", "1.2"));
}

#[test]
fn a_budget_that_is_nearly_used_up_is_said_to_be() {
    let mut bed = buy();
    bed.budget(json!({"cluster": {"daily": "2"}, "namespace": {"monthly": "2"}}));
    bed.used(Scope::Cluster, Window::Day, "0.9", "0");
    bed.used(Scope::Namespace, Window::Month, "1", "0");
    bed.priced("buy", "1", json!({"cost": {"ceiling": "0.9", "perAttempt": "0.7"}}));
    let messages: Vec<String> =
        risks(&bed.simulate(), RiskKind::BudgetScarce).iter().map(|risk| risk.message.clone()).collect();
    assert_eq!(
        messages,
        [
            "the budget of the day of the cluster will be used up to 80 percent",
            "the budget of the month of the namespace team will be used up to 85 percent"
        ]
    );
}
