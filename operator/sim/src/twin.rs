//! One Plan both ways: simulated, and run by an operator in a world without faults. What is recorded must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_core::budget::{Balance, Budgets, LineKey, Window};
use countersign_core::judge::PolicyJudge;
use countersign_core::money::Money;
use countersign_core::observed::{Network, Observed, PodState};
use countersign_core::policy::PolicySet;
use countersign_core::record::{AttemptState, Change};
use countersign_core::simulate::{History, Inputs, rehearse};
use countersign_crds::{PolicySpec, SkillSpec};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::actors;
use crate::check::{self, Violation};
use crate::draw::Draw;
use crate::operator::Operator;
use crate::world::{Pod, World};

/// How many instants a Plan may need.
const INSTANTS: usize = 10_000;

/// What a pair of runs came to, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Twins {
    /// Changes that both recorded.
    pub changes: u64,
    pub attempts: u64,
    pub deferred: u64,
    pub asked: u64,
    pub skipped: u64,
    pub rejected: u64,
    pub downgraded: u64,
}

/// Draws a Plan with all that bears on it, runs it in a world, simulates it with the outputs that the world gave, and
/// compares what was recorded, in its order.
///
/// # Errors
/// The two differ, or something must never be.
pub fn twins(seed: u64, judge: &PolicyJudge) -> Result<Twins, Violation> {
    let mut draw = Draw::new(seed);
    let mut twin = Twin::draw(&mut draw)?;
    let begun = twin.world.now;
    let inputs = twin.inputs();
    twin.run(judge, &mut draw)?;
    let world: Vec<String> = twin.world.kept.iter().flatten().filter_map(told).collect();
    let simulated = rehearse(begun, &inputs, judge).map_err(|error| Violation::new(error.to_string()))?;
    let simulation: Vec<String> = simulated.iter().filter_map(told).collect();
    for (index, (one, other)) in world.iter().zip(&simulation).enumerate() {
        if one != other {
            return Err(Violation::new(format!(
                "change {index}\n  in the world:  {one}\n  in simulation: {other}\n  before: {:#?}\n  Task: {}",
                &world[index.saturating_sub(6)..index],
                json!(inputs.observed.task.as_ref().map(|task| &task.spec)),
            )));
        }
    }
    if world.len() != simulation.len() {
        let more = world.iter().skip(simulation.len()).chain(simulation.iter().skip(world.len())).next();
        return Err(Violation::new(format!("{} changes, and {} simulated: {more:?}", world.len(), simulation.len())));
    }
    Ok(count(&simulated))
}

fn count(changes: &[Change]) -> Twins {
    let mut twins = Twins::default();
    for change in changes {
        twins.changes += 1;
        match change {
            Change::Intend { budget, .. } => {
                twins.attempts += 1;
                let verdict = budget.as_ref().map(|budget| budget.verdict);
                twins.downgraded += u64::from(verdict == Some(countersign_crds::BudgetVerdict::Downgraded));
            }
            Change::Defer { .. } => twins.deferred += 1,
            Change::RequestApproval { .. } => twins.asked += 1,
            Change::FinishStep { outcome, .. } => match outcome {
                countersign_core::record::StepOutcome::Skipped => twins.skipped += 1,
                countersign_core::record::StepOutcome::Rejected => twins.rejected += 1,
                _ => {}
            },
            _ => {}
        }
    }
    twins
}

/// A change with all that it says, but for who signed and how a pod is called.
fn told(change: &Change) -> Option<String> {
    let mut value = match change {
        Change::SignApproval { .. } => return None,
        Change::Adopt { .. }
        | Change::SnapshotPlan { .. }
        | Change::RequestApproval { .. }
        | Change::DecideApproval { .. }
        | Change::ExpireApproval { .. }
        | Change::SupersedeApproval { .. }
        | Change::WithdrawApproval { .. }
        | Change::Intend { .. }
        | Change::Defer { .. }
        | Change::Admit { .. }
        | Change::FinishAttempt { .. }
        | Change::FinishStep { .. }
        | Change::BeginEnding { .. }
        | Change::FinishTask { .. } => json!(change),
    };
    if let Some(members) = value.as_object_mut() {
        members.remove("podUid");
    }
    Some(value.to_string())
}

struct Twin {
    world: World,
    history: BTreeMap<String, History>,
    outputs: BTreeMap<String, Arc<Value>>,
    policies: Arc<PolicySet>,
}

impl Twin {
    fn draw(draw: &mut Draw) -> Result<Twin, Violation> {
        let wrong = |error: serde_json::Error| Violation::new(format!("what was drawn cannot be read: {error}"));
        let mut world = World::new(&mut Draw::never(), false);
        let skills = skills(draw);
        let read = |(name, spec): (&String, &Value)| Ok((name.clone(), serde_json::from_value(spec.clone())?));
        world.api.skills =
            skills.iter().map(read).collect::<Result<BTreeMap<String, SkillSpec>, _>>().map_err(wrong)?;
        let count = 1 + draw.below(9);
        let steps: Vec<Value> = (0..count).map(|index| step(index, draw)).collect();
        let spec = json!({
            "requester": {"user": crate::world::REQUESTER, "groups": ["agents"]},
            "parameters": {"to": "x"},
            "plan": {"parallelism": 1 + draw.below(4), "steps": steps},
            "budget": draw.one_in(4).then(|| (1 + draw.below(9)).to_string()),
            "priority": if draw.one_in(4) { "Low" } else { "Normal" },
        });
        if let Some(task) = &mut world.api.task {
            task.spec = serde_json::from_value(spec).map_err(wrong)?;
        }
        let policy: PolicySpec = serde_json::from_value(policy(draw)).map_err(wrong)?;
        let own: PolicySpec = serde_json::from_value(json!({"rules": rules(draw, 12)})).map_err(wrong)?;
        let named = [("ops", "all", policy), ("ns", "own", own)];
        let policies = Arc::new(PolicySet::compile(
            "ops",
            named.map(|(namespace, name, spec)| (namespace.to_owned(), name.to_owned(), spec)),
        ));
        world.policies = Arc::clone(&policies);
        world.kept = Some(Vec::new());
        let mut history = BTreeMap::new();
        for name in skills.keys() {
            let p50 = std::time::Duration::from_secs(draw.below(9));
            // No Skill can cost less than a half.
            let mean = Money::from_micros(draw.below(6) * 100_000);
            world.costs.insert(name.clone(), mean);
            history.insert(name.clone(), History { runs: 9, p50, p95: p50, mean_cost: Some(mean) });
        }
        let outputs = (0..count).map(|index| (format!("s{index}"), Arc::new(json!({"n": draw.below(9), "to": "y"}))));
        let outputs = outputs.collect();
        let mut twin = Twin { world, history, outputs, policies };
        twin.spend(draw);
        Ok(twin)
    }

    /// Others have spent something of the hour.
    fn spend(&mut self, draw: &mut Draw) {
        let Some(task) = &self.world.api.task else { return };
        let hour = |key: &LineKey| key.window == Window::Hour;
        for line in Budgets::of(self.world.now, task, None, &self.policies).lines.iter().filter(|line| hour(&line.key))
        {
            // No limit is lower.
            let spent = Money::from_micros(draw.below(10) * 100_000);
            self.world.ledger.balances.insert(line.key.clone(), Balance { spent, held: Money::ZERO });
        }
    }

    fn inputs(&self) -> Inputs {
        let task = self.world.api.task.clone();
        let observed = task.map(Observed::of).map(|observed| Observed {
            skills: Arc::new(self.world.api.skills.clone()),
            policies: Arc::clone(&self.policies),
            balances: self.world.ledger.balances.clone(),
            network: Network::NotTried,
            namespace_uid: "place".into(),
            ..observed
        });
        Inputs {
            config: self.world.config.clone(),
            observed: observed.unwrap_or_else(|| unreachable!("a world begins with its Task")),
            history: self.history.clone(),
            outputs: self.outputs.clone(),
        }
    }

    /// To the end of the Task, from one instant to the next in which something happens.
    fn run(&mut self, judge: &PolicyJudge, draw: &mut Draw) -> Result<(), Violation> {
        let mut operator = Operator::judging_by(judge.clone());
        for _ in 0..INSTANTS {
            let mut looks = 0;
            while operator.look_and_perform(&mut self.world)? {
                check::check(&mut self.world)?;
                self.everybody_does_their_part()?;
                looks += 1;
                if looks > INSTANTS / 10 {
                    return Err(Violation::new("what is done at one instant comes to no end"));
                }
            }
            if self.world.record.as_ref().is_some_and(|record| record.finished.is_some()) {
                return Ok(());
            }
            // A reconciliation now and then in between changes nothing.
            let looks = operator.requeue.filter(|_| draw.one_in(3));
            let next = self.instants().into_iter().chain(looks).filter(|at| *at > self.world.now).min();
            self.world.now = next.ok_or_else(|| Violation::new("the Task waits for nothing that comes"))?;
            self.end_pods();
        }
        Err(Violation::new("the Task does not come to its end"))
    }

    fn everybody_does_their_part(&mut self) -> Result<(), Violation> {
        actors::job_controller(&mut self.world, &mut Draw::never());
        self.start_pods()?;
        self.end_pods();
        actors::all_sign(&mut self.world);
        Ok(())
    }

    /// What was let in starts at once.
    fn start_pods(&mut self) -> Result<(), Violation> {
        for name in self.world.api.pods.keys().cloned().collect::<Vec<_>>() {
            let Some(pod) = self.world.api.pods.get(&name).cloned() else { continue };
            if !matches!(pod.state, PodState::Waiting { .. }) {
                continue;
            }
            check::check_start(&mut self.world, &pod.key, &pod.uid)?;
            let skill = self.attempt(&pod.key).map(|(_, skill)| skill).unwrap_or_default();
            let takes = self.history.get(&skill).map_or(0, |history| history.p50.as_secs());
            let ends_at = self.world.now + SignedDuration::from_secs(i64::try_from(takes).unwrap_or(0));
            self.world.api.pods.insert(name, Pod { state: PodState::Running, ends_at: Some(ends_at), ..pod });
        }
        Ok(())
    }

    /// What is done says what it returns.
    fn end_pods(&mut self) {
        let now = self.world.now;
        let done = |pod: &Pod| pod.state == PodState::Running && pod.ends_at.is_some_and(|at| at <= now);
        let done: BTreeSet<(String, String)> = self
            .world
            .api
            .pods
            .iter()
            .filter(|(_, pod)| done(pod))
            .map(|(name, pod)| (name.clone(), pod.key.clone()))
            .collect();
        for (name, key) in done {
            let step = self.attempt(&key).map(|(step, _)| step).unwrap_or_default();
            let output = self.outputs.get(&step).cloned().unwrap_or_default();
            actors::end_well(&mut self.world, &name, &output);
        }
    }

    /// The step and the Skill of an attempt.
    fn attempt(&self, key: &str) -> Option<(String, String)> {
        let steps = self.world.record.iter().flat_map(|record| &record.steps);
        let of = |(name, step): (&String, &countersign_core::record::StepRecord)| {
            let attempt = step.attempts.iter().find(|attempt| attempt.key == key)?;
            Some((name.clone(), attempt.skill.clone()))
        };
        steps.filter_map(of).next()
    }

    /// When something happens by itself.
    fn instants(&self) -> Vec<Timestamp> {
        let mut instants: Vec<Timestamp> = self.world.api.pods.values().filter_map(|pod| pod.ends_at).collect();
        let steps = || self.world.record.iter().flat_map(|record| record.steps.values()).filter(|step| step.is_open());
        let running = steps().any(|step| {
            step.live_attempt().is_some_and(|attempt| matches!(attempt.state, AttemptState::Admitted { .. }))
        });
        let waits = steps().any(|step| step.deferral.is_some());
        instants.extend(steps().filter_map(|step| step.deferral.as_ref()?.until));
        if let Some(task) = self.world.api.task.as_ref().filter(|_| running && waits) {
            let lines = Budgets::of(self.world.now, task, None, &self.policies).lines;
            instants.extend(lines.into_iter().filter_map(|line| line.ends_at));
        }
        instants
    }
}

fn skills(draw: &mut Draw) -> BTreeMap<String, Value> {
    let goes = json!([{"host": "api.example.com"}]);
    let output = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}});
    let skill = |effect: &str, ceiling: Option<String>, next: Option<&str>, reject: bool| {
        let mut spec = json!({
            "effect": effect, "builtin": {"name": "http_call"}, "timeout": "30s", "output": output, "egress": goes,
            "input": {"properties": {"amount": {"type": ["integer", "null"]}}},
            "overBudget": if reject { "Reject" } else { "Defer" },
            "cost": {"ceiling": ceiling.clone().unwrap_or_else(|| "0".to_owned()), "perAttempt": "0"},
        });
        if ceiling.is_none() {
            spec["egress"] = json!([]);
            spec["cost"] = Value::Null;
        }
        if let Some(next) = next {
            spec["downgradeTo"] = json!(next);
        }
        spec
    };
    BTreeMap::from([
        ("free".to_owned(), skill("Read", None, None, false)),
        ("cheap".to_owned(), skill("Read", Some("0.5".into()), None, draw.one_in(4))),
        ("dear".to_owned(), skill("External", Some((1 + draw.below(3)).to_string()), Some("cheap"), draw.one_in(4))),
        ("ring".to_owned(), skill("Write", Some("1".into()), draw.one_in(2).then_some("dear"), draw.one_in(4))),
        ("final".to_owned(), skill("Irreversible", Some("1".into()), None, draw.one_in(4))),
    ])
}

fn step(index: u64, draw: &mut Draw) -> Value {
    let needs: Vec<String> = (0..index).filter(|_| draw.one_in(3)).map(|need| format!("s{need}")).collect();
    let skill = *draw.pick(&["free", "cheap", "dear", "ring", "final"]).unwrap_or(&"free");
    let mut step = json!({
        "name": format!("s{index}"), "skill": skill, "needs": needs,
        "input": {"amount": draw.below(9), "to": "${task.parameters.to}"},
        "approval": if draw.one_in(8) { "Always" } else { "Policy" },
    });
    if let Some(need) = needs.first() {
        match draw.below(5) {
            0 => step["input"]["amount"] = json!(format!("${{steps.{need}.output.n}}")),
            1 => step["input"]["note"] = json!(format!("of ${{steps.{need}.output}}")),
            // A number is asked of what may have been skipped, and then there is none.
            2 => step["when"] = json!(format!("steps.{need}.output.n > {}", draw.below(9))),
            3 => step["when"] = json!(format!("steps.{need}.output != null")),
            _ => {}
        }
    } else if draw.one_in(8) {
        step["when"] = json!("task.parameters.to == 'nobody'");
    }
    step
}

fn policy(draw: &mut Draw) -> Value {
    let amount = |draw: &mut Draw, chance: u64| draw.one_in(chance).then(|| (1 + draw.below(5)).to_string());
    let budget = json!({"hourly": amount(draw, 2), "total": amount(draw, 8), "floorPercent": 30});
    let cluster = json!({"hourly": amount(draw, 4), "perAttempt": amount(draw, 8)});
    let mut all = vec![json!({"name": "all", "match": "true", "effect": "Allow"})];
    all.extend(rules(draw, 8));
    json!({"rules": all, "budget": {"namespace": budget, "cluster": cluster}})
}

/// Each of these now and then.
fn rules(draw: &mut Draw, chance: u64) -> Vec<Value> {
    let plan = json!({"count": 2, "groups": ["security"], "scope": "Plan", "expiresAfter": "1h"});
    let rules = [
        json!({"name": "many", "match": "step.input.amount != null && step.input.amount > 7", "effect": "Deny"}),
        json!({"name": "few", "match": "step.input.amount == 3", "effect": "RequireApproval", "approval": plan}),
        json!({"name": "dear", "match": "skill.name == 'ring'", "effect": "Downgrade"}),
        json!({"name": "out", "match": "skill.effect == 'External'", "effect": "RequireApproval", "approval": plan}),
        json!({"name": "name", "match": "step.name == 's3'", "effect": "Deny"}),
        json!({"name": "note", "match": "has(step.input.note)", "effect": "RequireApproval", "risk": "Medium"}),
        json!({"name": "write", "match": "skill.effect == 'Write'", "effect": "RequireApproval", "approval": plan}),
        json!({"name": "low", "match": "task.priority == 'Low'", "effect": "RequireApproval", "risk": "High"}),
    ];
    rules.into_iter().filter(|_| draw.one_in(chance)).collect()
}
