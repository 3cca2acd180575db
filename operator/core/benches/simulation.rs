//! How long a simulation of the largest Plan takes: 2,000 steps, with expressions, a dozen rules and every kind of
//! budget. `cargo bench -p countersign-core --bench simulation`.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::cel::CelEvaluator;
use countersign_core::decide::Config;
use countersign_core::judge::PolicyJudge;
use countersign_core::observed::{Network, Observed, TaskView};
use countersign_core::policy::PolicySet;
use countersign_core::simulate::{History, Inputs, simulate};
use countersign_crds::SkillSpec;
use jiff::SignedDuration;
use serde_json::{Value, json};

const STEPS: usize = 2000;
const LAYER: usize = 20;
const RUNS: usize = 21;

fn main() {
    let judge = PolicyJudge::new(CelEvaluator::new());
    let now = "2026-11-21T09:00:00Z".parse().unwrap();
    for (name, budget) in [("plenty", "100000"), ("tight", "40"), ("none", "")] {
        let inputs = inputs(budget);
        let mut times: Vec<Duration> = (0..RUNS)
            .map(|_| {
                let (inputs, inner) = (inputs.clone(), judge.clone());
                let begun = Instant::now();
                let simulation =
                    judge.evaluator().within(Duration::from_secs(60), move || simulate(now, &inputs, &inner)).unwrap();
                let took = begun.elapsed();
                assert_eq!(simulation.steps.len(), STEPS, "{:?}", simulation.obstacles.first());
                took
            })
            .collect();
        times.sort();
        println!("{STEPS} steps, budget {name}: median {:?}, slowest {:?}", times[RUNS / 2], times[RUNS - 1]);
    }
}

fn inputs(budget: &str) -> Inputs {
    let rule = |name: &str, matches: &str, effect: &str| json!({"name": name, "match": matches, "effect": effect});
    let cluster = json!({
        "rules": [
            rule("reads", "skill.effect == 'Read'", "Allow"),
            rule("writes", "skill.effect == 'Write' && cost.micros < 5000000", "Allow"),
            rule("outside", "skill.effect == 'External'", "RequireApproval"),
            rule("for-good", "skill.effect == 'Irreversible'", "RequireApproval"),
            rule("large", "has(step.input.amount) && step.input.amount > 100000", "Deny"),
            rule("places", "skill.hosts.exists(h, h.endsWith('.invalid'))", "Deny"),
            rule("night", "task.priority == 'Low' && skill.effect == 'External'", "Deny"),
            rule("strangers", "request != null && request.user.startsWith('system:anonymous')", "Deny"),
        ],
        "budget": (!budget.is_empty()).then(|| json!({
            "cluster": {"monthly": "1000000"},
            "namespace": {"daily": budget, "perAttempt": "10", "timeZone": "Europe/Zurich"},
        })),
    });
    let own = json!({"rules": [
        rule("named", "step.name.startsWith('x')", "RequireApproval"),
        rule("agents", "agent != null && agent.priority == 'Low'", "RequireApproval"),
    ]});
    let policies = [("ops", "starter", cluster), ("team", "own", own)];
    let policies = policies
        .map(|(namespace, name, spec)| (namespace.to_owned(), name.to_owned(), serde_json::from_value(spec).unwrap()));
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
            policies: Arc::new(PolicySet::compile("ops", policies)),
            network: Network::Closed,
            ..Observed::of(task())
        },
        history: BTreeMap::from([(
            "price".to_owned(),
            History { runs: 200, p50: Duration::from_millis(800), p95: Duration::from_secs(3), mean_cost: None },
        )]),
        outputs: BTreeMap::new(),
    }
}

fn task() -> TaskView {
    let steps: Vec<Value> = (0..STEPS)
        .map(|n| {
            let (layer, place) = (n / LAYER, n % LAYER);
            let before = |layer: usize, place: usize| format!("s{}", layer * LAYER + place % LAYER);
            let needs: Vec<String> = (0..2).filter(|_| layer > 0).map(|k| before(layer - 1, place + k)).collect();
            let mut input =
                json!({"address": format!("${{task.parameters.address}}/{n}"), "amount": n, "note": "as ever"});
            if place.is_multiple_of(5) && layer > 0 {
                input["amount"] = json!(format!("${{steps.{}.output.amount}}", before(layer - 1, place)));
            }
            let skill = ["price", "store", "compute", "mail", "pay"][place % 5];
            let mut step = json!({"name": format!("s{n}"), "input": input, "needs": needs, "skill": skill,
                "retry": {"limit": 2}});
            if place == 7 && layer > 0 {
                step["when"] = json!(format!("steps.{}.output.amount > 3", before(layer - 1, place)));
            }
            step
        })
        .collect();
    let spec = json!({
        "requester": {"user": "dave", "groups": ["agents"]},
        "parameters": {"address": "https://api.example.com/v1"},
        "budget": "1000000",
        "plan": {"parallelism": 20, "steps": steps},
    });
    TaskView {
        uid: "uid".into(),
        namespace: "team".into(),
        name: "large".into(),
        generation: None,
        spec: serde_json::from_value(spec).unwrap(),
        on_behalf_of: None,
        mark: None,
        deleting: false,
        conditions: Vec::new(),
    }
}

fn skills() -> BTreeMap<String, SkillSpec> {
    let input = json!({"type": "object", "required": ["address"], "properties": {
        "address": {"type": "string", "maxLength": 256}, "amount": {"type": "integer"}, "note": {"type": "string"}}});
    let skill = |effect: &str, ceiling: &str, more: Value| {
        let mut spec = json!({"effect": effect, "builtin": {"name": "http_call"}, "input": input, "idempotent": true,
            "egress": [{"host": "api.example.com"}], "expectedDuration": "2s",
            "cost": {"ceiling": ceiling, "perAttempt": "0.01", "perCall": "0.02"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    };
    BTreeMap::from([
        ("price".to_owned(), skill("Read", "0.05", json!({}))),
        ("store".to_owned(), skill("Write", "0.1", json!({}))),
        ("compute".to_owned(), skill("Write", "1", json!({"downgradeTo": "small"}))),
        ("small".to_owned(), skill("Write", "0.02", json!({}))),
        ("mail".to_owned(), skill("External", "0.1", json!({}))),
        ("pay".to_owned(), skill("Irreversible", "2", json!({"idempotent": false}))),
    ])
}
