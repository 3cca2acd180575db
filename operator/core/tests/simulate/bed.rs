//! A Task that could be created, and all that bears on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::agent::acting;
use countersign_core::budget::{Balance, Budgets, Scope, Window};
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::Config;
use countersign_core::judge::PolicyJudge;
use countersign_core::money::Money;
use countersign_core::observed::{Network, Observed, TaskView, TemplateLookup};
use countersign_core::policy::PolicySet;
use countersign_core::simulate::{Inputs, Risk, RiskKind, Simulation, StepOutlook, simulate};
use countersign_crds::SkillSpec;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub const NOW: &str = "2026-11-21T09:00:00Z";

pub struct Bed {
    pub now: Timestamp,
    pub inputs: Inputs,
    pub judge: PolicyJudge,
}

impl Bed {
    /// Of a Task with this spec, which dave asks for and every rule allows.
    pub fn new(spec: Value) -> Bed {
        let mut spec = spec;
        spec.as_object_mut().unwrap().entry("requester").or_insert(json!({"user": "dave", "groups": ["agents"]}));
        let task = TaskView {
            uid: "simulated".into(),
            namespace: "team".into(),
            name: "task".into(),
            generation: None,
            spec: serde_json::from_value(spec).unwrap(),
            on_behalf_of: None,
            mark: None,
            deleting: false,
            conditions: Vec::new(),
        };
        let observed = Observed {
            template: TemplateLookup::NoneForType,
            agent: acting("team", task.spec.agent_ref.as_ref(), task.spec.requester.as_ref(), []),
            network: Network::Closed,
            ..Observed::of(task)
        };
        let config = Config {
            runner_image: "runner@sha256:0".into(),
            broker: true,
            networks: Default::default(),
            require_network_policy: false,
            start_deadline: SignedDuration::from_secs(300),
            planning_deadline: SignedDuration::from_hours(1),
        };
        let judge = PolicyJudge::new(CelEvaluator::with_limit(Duration::from_secs(60)));
        let inputs = Inputs { config, observed, history: BTreeMap::new(), outputs: BTreeMap::new() };
        let mut bed = Bed { now: NOW.parse().unwrap(), inputs, judge };
        bed.policy(json!({"rules": [{"name": "all", "match": "true", "effect": "Allow"}]}));
        bed.skill("echo", json!({"idempotent": true, "expectedDuration": "2s"}));
        bed.priced("buy", "1", json!({}));
        bed
    }

    /// Of these steps.
    pub fn plan(steps: Value) -> Bed {
        Bed::new(json!({"plan": {"steps": steps}, "parameters": {"n": 1, "to": "alice"}}))
    }

    /// The Policy of the operator's namespace.
    pub fn policy(&mut self, spec: Value) {
        self.policies(&[("ops", "starter", spec)]);
    }

    pub fn policies(&mut self, policies: &[(&str, &str, Value)]) {
        self.inputs.observed.policies = Arc::new(set(policies));
    }

    /// As if only the rule of this effect were there, beside one that allows.
    pub fn rule(&mut self, rule: Value) {
        let all = json!({"name": "all", "match": "true", "effect": "Allow"});
        self.policy(json!({"rules": [all, rule]}));
    }

    pub fn budget(&mut self, budget: Value) {
        let rules = json!([{"name": "all", "match": "true", "effect": "Allow"}]);
        self.policy(json!({"rules": rules, "budget": budget}));
    }

    pub fn skill(&mut self, name: &str, more: Value) {
        let mut spec = json!({"effect": "Read", "builtin": {"name": "generic_action"}, "timeout": "60s"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: SkillSpec = serde_json::from_value(spec).unwrap();
        Arc::make_mut(&mut self.inputs.observed.skills).insert(name.to_owned(), spec);
    }

    /// A Skill that goes outside, takes ten seconds and costs a tenth each attempt, and so much at most.
    pub fn priced(&mut self, name: &str, ceiling: &str, more: Value) {
        let mut spec = json!({"expectedDuration": "10s", "egress": [{"host": "api.example.com"}],
            "cost": {"ceiling": ceiling, "perAttempt": "0.1"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.skill(name, spec);
    }

    /// Others have spent and hold so much in a window.
    pub fn used(&mut self, scope: Scope, window: Window, spent: &str, held: &str) {
        let observed = &mut self.inputs.observed;
        let budgets =
            Budgets::of(self.now, observed.task.as_ref().unwrap(), observed.agent.agent(), &observed.policies);
        let line = budgets.lines.iter().find(|line| line.key.scope == scope && line.key.window == window).unwrap();
        let balance = Balance { spent: money(spent), held: money(held) };
        observed.balances.insert(line.key.clone(), balance);
    }

    pub fn simulate(&self) -> Simulation {
        simulate(self.now, &self.inputs, &self.judge)
    }

    /// What becomes of one step.
    pub fn step(&self, name: &str) -> StepOutlook {
        step(&self.simulate(), name)
    }
}

pub fn step(simulation: &Simulation, name: &str) -> StepOutlook {
    let found = simulation.steps.iter().find(|step| step.name == name);
    found.unwrap_or_else(|| panic!("no step {name}: {:?}", simulation.obstacles)).clone()
}

pub fn risks(simulation: &Simulation, kind: RiskKind) -> Vec<&Risk> {
    simulation.risks.iter().filter(|risk| risk.kind == kind).collect()
}

pub fn money(text: &str) -> Money {
    text.parse().unwrap()
}

pub fn set(policies: &[(&str, &str, Value)]) -> PolicySet {
    PolicySet::compile(
        "ops",
        policies.iter().map(|(namespace, name, spec)| {
            ((*namespace).to_owned(), (*name).to_owned(), serde_json::from_value(spec.clone()).unwrap())
        }),
    )
}

/// The least, the expected and the most, as text.
pub fn range(simulation: &Simulation) -> [String; 3] {
    let cost = &simulation.cost;
    [cost.minimum, cost.expected, cost.maximum].map(|money| money.to_string())
}
