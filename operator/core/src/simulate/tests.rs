//! Any Plan, any rules, any budgets: what a simulation says is what the judge says, and what the operator then does.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_crds::{BudgetVerdict, PolicySpec, SkillSpec};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::budget::{Budgets, Window};
use crate::cel::CelEvaluator;
use crate::decide::{Evaluators, decide};
use crate::observed::Guard;
use crate::policy::PolicySet;
use crate::record::{Change, StepOutcome};

fn now() -> Timestamp {
    "2026-11-21T22:30:00.000001Z".parse().unwrap()
}

fn evaluator() -> CelEvaluator {
    // The machine may be busy with other tests.
    CelEvaluator::with_limit(Duration::from_secs(60))
}

/// What a drawn step is.
#[derive(Clone, Debug)]
struct Drawn {
    skill: usize,
    amount: u32,
    needs: Vec<prop::sample::Index>,
    /// Whether an input refers to what a step before returns, in part or whole, and its `when`.
    refers: u8,
    when: u8,
    always: bool,
    retry: bool,
    timeout: u8,
}

const SKILLS: [&str; 6] = ["free", "cheap", "dear", "ring", "vague", "final"];

fn drawn() -> impl Strategy<Value = Drawn> {
    let picks = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (0..SKILLS.len(), 0u32..9, picks, 0u8..6, 0u8..8, 0u8..8, any::<bool>(), 0u8..3).prop_map(
        |(skill, amount, needs, refers, when, always, retry, timeout)| Drawn {
            skill,
            amount,
            needs,
            refers,
            when,
            always: always == 0,
            retry,
            timeout,
        },
    )
}

fn plan(steps: &[Drawn], parallelism: u32) -> Value {
    let step = |(index, drawn): (usize, &Drawn)| {
        let needs: BTreeSet<usize> = drawn.needs.iter().filter(|_| index > 0).map(|pick| pick.index(index)).collect();
        let first = needs.first();
        let mut input = json!({"amount": drawn.amount, "to": format!("${{task.parameters.to}}-{}", drawn.amount % 3)});
        match (drawn.refers, first) {
            (0, Some(first)) => input["amount"] = json!(format!("${{steps.s{first}.output}}")),
            (1, Some(first)) => input["note"] = json!(format!("of ${{steps.s{first}.output.x}}")),
            // No Skill takes it.
            (2, _) if drawn.amount == 8 => input["amount"] = json!("many"),
            _ => {}
        }
        let mut step = json!({
            "name": format!("s{index}"), "skill": SKILLS[drawn.skill], "input": input,
            "needs": needs.iter().map(|need| format!("s{need}")).collect::<Vec<_>>(),
            "approval": if drawn.always { "Always" } else { "Policy" },
        });
        match (drawn.when, first) {
            (0, _) => step["when"] = json!("task.parameters.to == 'nobody'"),
            (1, _) => step["when"] = json!("task.parameters.to == 'x'"),
            (2, Some(first)) => step["when"] = json!(format!("steps.s{first}.output != null")),
            _ => {}
        }
        if drawn.retry {
            step["retry"] = json!({"limit": 2});
        }
        if drawn.timeout == 1 {
            step["timeout"] = json!("7s");
        }
        step
    };
    json!({"parallelism": parallelism, "steps": steps.iter().enumerate().map(step).collect::<Vec<_>>()})
}

fn skills() -> BTreeMap<String, SkillSpec> {
    let skill = |more: Value| {
        let mut spec = json!({"effect": "Read", "builtin": {"name": "http_call"}, "idempotent": true, "timeout": "20s",
            "input": {"properties": {"amount": {"type": ["integer", "null"]}}}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    };
    let goes = json!([{"host": "api.example.com"}]);
    let priced = |ceiling: &str, more: Value| {
        let mut spec =
            json!({"egress": goes, "cost": {"ceiling": ceiling, "perAttempt": "0.1"}, "expectedDuration": "3s"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        skill(spec)
    };
    BTreeMap::from([
        ("free".to_owned(), skill(json!({}))),
        ("cheap".to_owned(), priced("0.5", json!({"overBudget": "Reject"}))),
        ("dear".to_owned(), priced("2", json!({"downgradeTo": "cheap", "effect": "External"}))),
        ("ring".to_owned(), priced("1", json!({"downgradeTo": "dear"}))),
        ("vague".to_owned(), skill(json!({"egress": goes}))),
        ("final".to_owned(), priced("1", json!({"effect": "Irreversible", "idempotent": false}))),
    ])
}

/// Rules of every kind, each of them there or not.
fn rules(which: u16) -> Vec<Value> {
    let plan = json!({"count": 2, "groups": ["a"], "scope": "Plan", "expiresAfter": "1h"});
    let all = [
        json!({"name": "all", "match": "true", "effect": "Allow"}),
        json!({"name": "few", "match": "step.input.amount < 5", "effect": "Allow"}),
        json!({"name": "many", "match": "has(step.input.amount) && step.input.amount > 7", "effect": "Deny"}),
        json!({"name": "to", "match": "step.input.to.endsWith('1')", "effect": "RequireApproval", "risk": "High", "approval": plan}),
        json!({"name": "dear", "match": "skill.name == 'ring'", "effect": "Downgrade"}),
        json!({"name": "out", "match": "skill.effect == 'External'", "effect": "RequireApproval", "approval": plan}),
        json!({"name": "name", "match": "step.name == 's3'", "effect": "Deny"}),
        json!({"name": "note", "match": "has(step.input.note)", "effect": "RequireApproval", "risk": "Medium"}),
        json!({"name": "whole", "match": "size(step.input) > 2", "effect": "Deny"}),
        json!({"name": "wrong", "match": "step.input.to > 3", "effect": "Allow"}),
    ];
    all.into_iter().enumerate().filter(|(bit, _)| which & (1 << bit) != 0).map(|(_, rule)| rule).collect()
}

/// What the drawn numbers come to.
fn drawn_inputs(steps: &[Drawn], parallelism: u32, which: u16, limits: [u8; 4], low: bool) -> Inputs {
    let amount = |tenths: u8| (tenths > 0).then(|| format!("{}.{}", tenths / 10, tenths % 10));
    let [hourly, daily, total, each] = limits.map(amount);
    let bounded = hourly.is_some() || daily.is_some() || each.is_some();
    let budget = json!({"hourly": hourly, "daily": daily, "perAttempt": each, "floorPercent": 30});
    let cluster: PolicySpec = serde_json::from_value(
        json!({"rules": rules(which | 1), "budget": bounded.then(|| json!({"namespace": budget}))}),
    )
    .unwrap();
    let own: PolicySpec = serde_json::from_value(json!({"rules": rules(which >> 4)})).unwrap();
    let spec = json!({
        "requester": {"user": "dave"}, "parameters": {"to": "x"}, "plan": plan(steps, parallelism),
        "budget": total, "priority": if low { "Low" } else { "Normal" },
    });
    Inputs {
        config: Config {
            runner_image: "runner@sha256:0".into(),
            broker: true,
            networks: Default::default(),
            require_network_policy: false,
            start_deadline: SignedDuration::from_secs(300),
            planning_deadline: SignedDuration::from_hours(1),
        },
        observed: Observed {
            skills: Arc::new(skills()),
            policies: Arc::new(PolicySet::compile(
                "ops",
                [("ops".to_owned(), "p".to_owned(), cluster), ("team".to_owned(), "q".to_owned(), own)],
            )),
            network: Network::Closed,
            guard: Guard::Whole,
            ..Observed::of(TaskView {
                uid: "uid".into(),
                namespace: "team".into(),
                name: "task".into(),
                generation: None,
                spec: serde_json::from_value(spec).unwrap(),
                on_behalf_of: None,
                mark: None,
                deleting: false,
                conditions: Vec::new(),
            })
        },
        history: BTreeMap::new(),
        outputs: BTreeMap::new(),
    }
}

/// As if others had spent so much of the day.
fn spent(inputs: &mut Inputs, tenths: u8) {
    let task = inputs.observed.task.as_ref().unwrap();
    let budgets = Budgets::of(now(), task, None, &inputs.observed.policies);
    let day = budgets.lines.iter().filter(|line| line.key.window == Window::Day);
    let spent = Money::from_micros(u64::from(tenths) * 100_000);
    let balance = Balance { spent, held: Money::ZERO };
    inputs.observed.balances = day.map(|line| (line.key.clone(), balance)).collect();
}

prop_compose! {
    fn any_inputs()(
        steps in prop::collection::vec(drawn(), 1usize..14),
        parallelism in 1u32..5,
        which in any::<u16>(),
        hourly in 0u8..40,
        daily in 0u8..60,
        total in 0u8..60,
        each in prop_oneof![Just(0u8), 1u8..30],
        low in any::<bool>(),
        before in 0u8..30,
    ) -> Inputs {
        let mut inputs = drawn_inputs(&steps, parallelism, which, [hourly, daily, total, each], low);
        spent(&mut inputs, before);
        inputs
    }
}

/// What `decide` does about each step in its first reconciliation.
fn first_look(inputs: &Inputs, judge: &PolicyJudge) -> Vec<(String, StepDecision, Option<BudgetVerdict>)> {
    let decision = decide(now(), &inputs.config, &inputs.observed, &Evaluators::from(judge)).unwrap();
    let mut found: Vec<(String, StepDecision, Option<BudgetVerdict>)> = Vec::new();
    for change in decision.changes {
        match change {
            Change::Intend { step, budget, .. } => {
                found.push((step, StepDecision::Allow, budget.map(|budget| budget.verdict)));
            }
            Change::RequestApproval { step, .. } => found.push((step, StepDecision::RequireApproval, None)),
            Change::Defer { step, .. } => found.push((step, StepDecision::Wait, Some(BudgetVerdict::Deferred))),
            Change::FinishStep { step, outcome, reason, budget, .. } => {
                let decision = match (outcome, reason.as_deref()) {
                    (StepOutcome::Skipped, Some("WhenFalse")) => StepDecision::Skip,
                    (StepOutcome::Rejected, _) => StepDecision::Deny,
                    (StepOutcome::Failed, _) => StepDecision::Invalid,
                    // For the end of another.
                    _ => continue,
                };
                found.push((step, decision, budget.map(|budget| budget.verdict)));
            }
            _ => {}
        }
    }
    // What waits for a signature is weighed again whenever something else starts, which nobody can foresee.
    let mut seen = BTreeSet::new();
    found.retain(|(step, _, _)| seen.insert(step.clone()));
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// To remember what was said of a step like it changes nothing.
    #[test]
    fn remembering_changes_nothing(inputs in any_inputs()) {
        let judge = PolicyJudge::new(evaluator());
        let remembered = simulate(now(), &inputs, &judge);
        let anew = simulate_as(now(), &inputs, &judge, |foresight| foresight.forgetful());
        prop_assert_eq!(remembered, anew);
    }

    /// What the operator does at its first look at the very Task is what was said.
    #[test]
    fn the_first_look_does_what_was_said(inputs in any_inputs()) {
        let judge = PolicyJudge::new(evaluator());
        let simulation = simulate(now(), &inputs, &judge);
        let first = first_look(&inputs, &judge);
        let by_name: BTreeMap<&str, &StepOutlook> =
            simulation.steps.iter().map(|step| (step.name.as_str(), step)).collect();
        for (step, decision, verdict) in &first {
            let said = by_name[step.as_str()];
            let budget = said.budget.as_ref().map(|budget| budget.verdict);
            prop_assert!(said.certain, "{step} was decided, so nothing of it was open");
            match verdict {
                Some(BudgetVerdict::Deferred) => prop_assert!(
                    budget == Some(BudgetVerdict::Deferred) || said.decision == StepDecision::Deny,
                    "{step} is deferred, and was said to be {said:?}"
                ),
                // Until it is signed for, others may take what it needs, and then it runs as something cheaper or not.
                _ if *decision == StepDecision::RequireApproval => prop_assert!(
                    said.decision == *decision
                        || said.decision == StepDecision::Deny
                        || budget == Some(BudgetVerdict::Downgraded),
                    "{step} asks, and was said to be {said:?}"
                ),
                _ => prop_assert_eq!((&said.decision, &budget), (decision, verdict), "{}", step),
            }
        }
        // A Plan that cannot be made is said to be none.
        prop_assert_eq!(simulation.plan.is_none(), first.is_empty() && simulation.steps.is_empty());
    }

    /// The books of a simulation: no limit is passed, the maximum is above what is expected, and that above the least.
    #[test]
    fn the_sums_hold(inputs in any_inputs()) {
        let simulation = simulate(now(), &inputs, &PolicyJudge::new(evaluator()));
        for step in &simulation.steps {
            let StepCost { minimum, expected, maximum, .. } = step.cost;
            prop_assert!(minimum <= expected && expected <= maximum);
        }
        for budget in &simulation.budgets {
            let waits = simulation.steps.iter().any(|step| step.budget.as_ref().is_some_and(|b| b.verdict == BudgetVerdict::Deferred));
            prop_assert!(waits || budget.spent.saturating_add(budget.held) <= budget.limit.max(budget.spent_before));
        }
        prop_assert!(simulation.duration.p50_seconds <= simulation.duration.p95_seconds);
        let asked: BTreeSet<&String> = simulation.approvals.iter().flat_map(|approval| &approval.steps).collect();
        for step in &simulation.steps {
            // What was asked for can be refused, or need it no more, once others have the money.
            prop_assert!(step.decision != StepDecision::RequireApproval || asked.contains(&step.name), "{step:?}");
            // What another came to may skip it after it was asked for together with others.
            let by_its_own_when = step.message.as_deref() == Some("its when is false");
            prop_assert!(!(by_its_own_when && asked.contains(&step.name)), "{step:?}");
        }
        let json = serde_json::to_value(&simulation).unwrap();
        prop_assert_eq!(serde_json::from_value::<Simulation>(json).unwrap(), simulation);
    }
}
