//! What a signature is bound to, and what is not bound; and that nothing else has a say in a verdict.

use std::collections::BTreeMap;

use countersign_core::agent::Acting;
use countersign_core::binding::Binding;
use countersign_core::cel::CelEvaluator;
use countersign_core::effect::ReconcileOutput;
use countersign_core::judge::{Case, Judge, Judgement, PolicyJudge};
use countersign_core::observed::TaskView;
use countersign_core::payment::PaymentNetwork;
use countersign_core::policy::PolicySet;
use countersign_core::record::{AttemptOutcome, Change, RecordedPlan, Request, RuleDecision};
use countersign_crds::{AgentSpec, Effect, Identity, PolicyMode, PolicySpec, SkillSpec, Step};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::bed::Bed;

/// A step of a Task that acts for an Agent, under these rules.
fn acting(rules: Value) -> Bed {
    let mut bed =
        Bed::new(json!({"agentRef": {"name": "bond"}, "plan": {"steps": [{"name": "only", "skill": "echo"}]}}));
    bed.observed.agent = agent("Normal");
    bed.rules(rules);
    bed
}

fn agent(priority: &str) -> Acting {
    let spec = json!({"allowedSkills": ["echo"], "priority": priority});
    Acting::of("team", "bond", serde_json::from_value(spec).unwrap())
}

fn rule(name: &str, matches: &str, effect: &str) -> Value {
    json!({"name": name, "match": matches, "effect": effect})
}

fn asks_for(name: &str, matches: &str, count: u32) -> Value {
    json!({"name": name, "match": matches, "effect": "RequireApproval", "approval": {"count": count}})
}

/// What voided an Approval in this reconciliation.
fn superseded(decision: &ReconcileOutput) -> Vec<String> {
    let changed = |change: &'_ Change| match change {
        Change::SupersedeApproval { changed, .. } => Some(changed.clone()),
        _ => None,
    };
    decision.changes.iter().find_map(changed).unwrap_or_default()
}

/// How many signatures are asked for in this reconciliation.
fn asked(decision: &ReconcileOutput) -> Vec<u32> {
    let required = |change: &'_ Change| match change {
        Change::RequestApproval { required, .. } => Some(required.count),
        _ => None,
    };
    decision.changes.iter().filter_map(required).collect()
}

fn does(decision: &ReconcileOutput, action: &str) -> bool {
    decision.actions.iter().any(|done| done.kind() == action)
}

/// The outcomes and messages of the attempts that ended in this reconciliation.
fn ended(decision: &ReconcileOutput) -> Vec<(AttemptOutcome, String)> {
    let ended = |change: &'_ Change| match change {
        Change::FinishAttempt { outcome, message, .. } => Some((*outcome, message.clone().unwrap_or_default())),
        _ => None,
    };
    decision.changes.iter().filter_map(ended).collect()
}

#[test]
fn who_asks_for_more_signatures_after_one_was_given_gets_them() {
    // Before the signature settles it, when it is intended, and when its Job waits for a pod.
    for looks in 0..3 {
        let mut bed = acting(json!([asks_for("one", "true", 1), asks_for("two", "agent.priority == \"High\"", 2)]));
        assert_eq!(asked(&bed.reconcile()), [1]);
        if looks > 0 {
            bed.sign("alice", true);
        }
        (1..looks).for_each(|_| drop(bed.reconcile()));
        bed.observed.agent = agent("High");
        let decision = bed.reconcile();
        let changed = superseded(&decision);
        assert!(changed.contains(&"ask.required: 1 -> 2".to_owned()), "{looks}: {:?}", decision.changes);
        assert!(changed.contains(&"agent.priority: \"Normal\" -> \"High\"".to_owned()), "{looks}: {changed:?}");
        assert_eq!(asked(&decision), [2], "{looks}");
        for decision in [bed.reconcile(), bed.reconcile()] {
            assert!(!does(&decision, "admit_pod") && !does(&decision, "create_job"), "{looks}: {:?}", decision.actions);
        }
    }
}

#[test]
fn what_ran_unsigned_until_a_rule_asks_for_signatures_is_voided_and_asked_for() {
    let mut bed = acting(json!([rule("all", "true", "Allow"), asks_for("two", "agent.priority == \"High\"", 2)]));
    assert!(does(&bed.reconcile(), "create_job"));
    bed.observed.agent = agent("High");
    let decision = bed.reconcile();
    let [(AttemptOutcome::Voided, message)] = &ended(&decision)[..] else { panic!("{:?}", decision.changes) };
    assert!(message.contains("ask.required: none -> 2"), "{message}");
    assert_eq!(asked(&decision), [2]);
    assert!(!does(&decision, "admit_pod"));
}

#[test]
fn a_job_is_not_made_of_what_is_no_longer_what_was_intended() {
    let mut bed = acting(json!([rule("all", "true", "Allow"), asks_for("two", "agent.priority == \"High\"", 2)]));
    let key = bed.observed.jobs.clone();
    assert!(does(&bed.reconcile(), "create_job"));
    // As if the API server had refused it.
    (bed.observed.jobs, bed.observed.pods) = (key, Vec::new());
    bed.observed.agent = agent("High");
    let decision = bed.reconcile();
    assert!(!does(&decision, "create_job"), "{:?}", decision.actions);
}

#[test]
fn a_job_is_not_made_while_nothing_can_be_told_and_is_made_as_soon_as_it_can() {
    let mut bed = acting(json!([rule("all", "true", "Allow")]));
    assert!(does(&bed.reconcile(), "create_job"));
    (bed.observed.jobs, bed.observed.pods) = Default::default();
    let skills = std::mem::take(&mut bed.observed.skills);
    let decision = bed.reconcile();
    assert!(!does(&decision, "create_job"), "{:?}", decision.actions);
    assert!(decision.requeue.is_some(), "it is asked again");
    bed.observed.skills = skills;
    assert!(does(&bed.reconcile(), "create_job"));
}

/// What the cluster's Policy says, with one in its namespace and in the Task's besides.
fn with(bed: &mut Bed, namespace: &str, spec: Value) {
    let cluster = json!({"rules": [asks_for("one", "true", 1)], "egress": []});
    bed.policies(&[("ops", "p", cluster), (namespace, "more", spec)]);
}

#[test]
fn only_the_rules_that_match_are_bound_and_each_by_its_content() {
    let nothing = json!({"rules": [rule("never", "false", "Deny")]});
    let other = json!({"rules": [rule("other", "skill.name == \"another\"", "Deny")], "egress": []});
    let audit = json!({"mode": "Audit", "rules": [rule("all", "true", "Deny")]});
    let allow = json!({"rules": [rule("all", "true", "Allow")]});
    let approve = json!({"rules": [asks_for("all", "true", 1)]});
    for (name, namespace, spec, voids) in [
        ("a rule that does not match", "ops", nothing.clone(), false),
        ("a rule of the namespace that does not match", "team", nothing, false),
        ("of another Skill, with limits of egress", "ops", other, false),
        ("of another namespace", "elsewhere", approve.clone(), false),
        ("that binds nothing", "ops", audit, false),
        ("a permission of the namespace, which counts for nothing", "team", allow.clone(), false),
        ("a permission of the cluster", "ops", allow, true),
        ("a rule that asks", "team", approve, true),
    ] {
        let mut bed = acting(json!([]));
        with(&mut bed, "elsewhere", json!({"rules": []}));
        assert_eq!(asked(&bed.reconcile()), [1], "{name}");
        with(&mut bed, namespace, spec);
        let changed = superseded(&bed.reconcile());
        assert_eq!(!changed.is_empty(), voids, "{name}: {changed:?}");
        // And when it goes again.
        with(&mut bed, "elsewhere", json!({"rules": []}));
        let changed = superseded(&bed.reconcile());
        assert_eq!(!changed.is_empty(), voids, "{name}, gone: {changed:?}");
    }
}

#[test]
fn the_limits_of_egress_of_a_rule_that_matched_are_bound() {
    let mut bed = acting(json!([]));
    let policy = |egress: Value| ("ops", "p", json!({"rules": [asks_for("one", "true", 1)], "egress": egress}));
    bed.policies(&[policy(json!([]))]);
    bed.reconcile();
    bed.policies(&[policy(json!([{"host": "api.example.com"}]))]);
    assert!(superseded(&bed.reconcile())[0].starts_with("rules: "), "they are wider than what was signed for");
}

#[test]
fn other_limits_of_egress_launch_it_again_under_the_same_signature() {
    let mut bed = acting(json!([]));
    with(&mut bed, "elsewhere", json!({"rules": []}));
    bed.reconcile();
    bed.sign("alice", true);
    assert!(does(&bed.reconcile(), "create_job"));
    with(&mut bed, "ops", json!({"egress": []}));
    let decision = bed.reconcile();
    assert!(matches!(&ended(&decision)[..], [(AttemptOutcome::Voided, _)]), "{:?}", decision.changes);
    assert_eq!((superseded(&decision), asked(&decision)), (vec![], vec![]));
    let intended = decision.changes.iter().find_map(|change| match change {
        Change::Intend { number: 2, launch, approval: Some(_), .. } => Some(launch.limits.len()),
        _ => None,
    });
    assert_eq!(intended, Some(2), "{:?}", decision.changes);
}

#[test]
fn what_never_began_is_launched_again_under_the_same_signature_and_what_began_is_not() {
    let mut bed = acting(json!([asks_for("one", "true", 1)]));
    let retry = json!({"steps": [{"name": "only", "skill": "echo", "retry": {"limit": 3}}]});
    bed.observed.task.as_mut().unwrap().spec.plan = Some(serde_json::from_value(retry).unwrap());
    bed.reconcile();
    bed.sign("alice", true);
    bed.reconcile();
    let run = |bed: &Bed| bed.observed.record.as_ref().unwrap().approvals.values().next().unwrap().state.clone();
    assert_eq!(format!("{:?}", run(&bed)), "Approved", "nothing began yet");
    bed.observed.pods.clear();
    bed.now += SignedDuration::from_mins(6);
    let late = bed.reconcile();
    assert!(matches!(&ended(&late)[..], [(AttemptOutcome::NotStarted, _)]), "{:?}", late.changes);
    bed.now += SignedDuration::from_hours(1);
    let again = bed.reconcile();
    assert!(does(&again, "create_job"), "{:?}", again.changes);
    assert_eq!(asked(&again), [0; 0], "the same signature");
    bed.end_with(Some(json!({"status": "Failed", "message": "no"})), "Completed");
    assert_eq!(format!("{:?}", run(&bed)), "Consumed", "it began");
    bed.now += SignedDuration::from_hours(1);
    assert_eq!(asked(&bed.reconcile()), [1], "another run takes another signature");
}

#[test]
fn what_a_networks_name_stands_for_is_signed_for() {
    let on = |chain_id: u64, router: u8, account: u8| PaymentNetwork {
        chain_id,
        router: [router; 20].into(),
        account: [account; 20].into(),
    };
    for (now, changed) in [
        (on(1, 1, 1), None),
        (on(2, 1, 1), Some("payment.on.chainId: 1 -> 2")),
        (on(1, 2, 1), Some("payment.on.router: \"0x01")),
        (on(1, 1, 2), Some("payment.on.account: \"0x01")),
    ] {
        let step =
            json!({"name": "only", "skill": "pay", "input": {"to": format!("0x{}", "07".repeat(20)), "amount": "0.5"}});
        let mut bed = Bed::new(json!({"plan": {"steps": [step]}}));
        let assets = json!([{"name": "ETH", "decimals": 18, "most": "1", "price": "1"}]);
        bed.skill(
            "pay",
            json!({"effect": "Irreversible", "builtin": {"name": "pay"}, "cost": {"ceiling": "1"},
                "payment": {"network": "main", "assets": assets}}),
        );
        bed.asking(json!({"count": 1}));
        bed.config.networks = BTreeMap::from([("main".to_owned(), on(1, 1, 1))]);
        assert_eq!(asked(&bed.reconcile()), [1]);
        bed.sign("alice", true);
        bed.config.networks.insert("main".to_owned(), now);
        // Signed for and settled in one reconciliation; then it would run.
        let decisions: Vec<ReconcileOutput> = (0..2).map(|_| bed.reconcile()).collect();
        let found: Vec<String> = decisions.iter().flat_map(superseded).collect();
        assert_eq!(found.len(), usize::from(changed.is_some()), "{found:?}");
        assert!(found.iter().all(|found| found.starts_with(changed.unwrap())), "{found:?}");
        let runs = decisions.iter().any(|decision| does(decision, "create_job"));
        assert_eq!(runs, changed.is_none(), "{changed:?}");
    }
}

/// Everything that a judgement may depend on.
#[derive(Clone, Debug)]
struct World {
    rules: Vec<(String, Value)>,
    skill: Value,
    cheaper: Value,
    step: Value,
    parameters: Value,
    requester: Identity,
    agent: Option<AgentSpec>,
    task: Value,
    secret: Option<String>,
    runner: String,
    run: u32,
    tree: u8,
}

/// Which of them another world has.
const INPUTS: usize = 12;

impl World {
    /// This one with the input of that number taken from another.
    fn with(&self, input: usize, other: &World) -> World {
        let mut world = self.clone();
        let of = other.clone();
        match input {
            0 => world.rules = of.rules,
            1 => world.skill = of.skill,
            2 => world.cheaper = of.cheaper,
            3 => world.step = of.step,
            4 => world.parameters = of.parameters,
            5 => world.requester = of.requester,
            6 => world.agent = of.agent,
            7 => world.task = of.task,
            8 => world.secret = of.secret,
            9 => world.runner = of.runner,
            10 => world.run = of.run,
            _ => world.tree = of.tree,
        }
        world
    }

    fn judge(&self, judge: &PolicyJudge) -> Judgement {
        let policy = |(n, (namespace, spec)): (usize, &(String, Value))| {
            let spec: PolicySpec = serde_json::from_value(spec.clone()).unwrap();
            (namespace.clone(), format!("p{n}"), spec)
        };
        let policies = PolicySet::compile("ops", self.rules.iter().enumerate().map(policy));
        let skills: BTreeMap<String, SkillSpec> = [("pay", &self.skill), ("cheaper", &self.cheaper)]
            .map(|(name, spec)| (name.to_owned(), serde_json::from_value(spec.clone()).unwrap()))
            .into();
        let mut spec = json!({"plan": {"steps": [self.step]}});
        spec.as_object_mut().unwrap().extend(self.task.as_object().unwrap().clone());
        if self.agent.is_some() {
            spec["agentRef"] = json!({"name": "bond"});
        }
        let task = TaskView {
            uid: "uid".into(),
            namespace: "team".into(),
            name: "task".into(),
            generation: None,
            spec: serde_json::from_value(spec).unwrap(),
            on_behalf_of: None,
            conditions: Vec::new(),
            mark: None,
            deleting: false,
        };
        let step: Step = serde_json::from_value(self.step.clone()).unwrap();
        let digest = countersign_core::digest::Digest::of_bytes([self.tree]);
        let plan = RecordedPlan {
            name: "plan".into(),
            digest: countersign_core::digest::Digest::of_bytes("plan"),
            source: "inline".into(),
            parallelism: 1,
            steps: vec![step.clone()],
            parameters: self.parameters.as_object().unwrap().clone(),
        };
        let agent = self.agent.clone().map_or(Acting::Alone, |spec| Acting::of("team", "bond", spec));
        let secrets = self.secret.iter().map(|text| ("key".to_owned(), Some(text.clone()))).collect();
        let budgets = countersign_core::budget::Budgets::default();
        let balances = BTreeMap::new();
        judge.judge(&Case {
            task: &task,
            plan: &plan,
            request: &Request { requester: Some(self.requester.clone()), on_behalf_of: None },
            step: &step,
            run: self.run,
            outputs: &BTreeMap::new(),
            outcome: &|_| countersign_crds::Outcome::Skipped,
            skills: &skills,
            agent: &agent,
            policies: &policies,
            secrets: &secrets,
            workspace: &|| vec![digest],
            runner_image: &self.runner,
            budget_view: countersign_core::budget::BudgetView {
                budgets: &budgets,
                balances: &balances,
                pending: countersign_core::money::Money::ZERO,
                phase: countersign_core::budget::ReservationPhase::Asking,
            },
            broker: true,
            networks: &Default::default(),
        })
    }
}

/// What is bound, where it may run; what was decided, where it may not.
#[derive(Debug, PartialEq)]
enum Verdict {
    Bound(Box<Binding>),
    Not(String),
}

/// The verdict, and what is done with it: which signatures are asked for, what would be launched, what people are told.
fn verdict(judgement: Judgement) -> (Verdict, String) {
    match judgement {
        Judgement::Ready(ready) => {
            // What a namespace's own Policy allows counts for nothing.
            let speaks = |rule: &RuleDecision| rule.effect != Effect::Allow || !rule.policy.starts_with("team/");
            let binds = |rule: &&RuleDecision| rule.mode == PolicyMode::Enforce && speaks(rule);
            let rules: Vec<_> = ready.rules.iter().filter(binds).map(|rule| (rule.effect, rule.risk)).collect();
            let strongest = rules.iter().map(|(effect, _)| *effect).max();
            let risk = rules.iter().map(|(_, risk)| *risk).max();
            let launch = countersign_core::record::Launch { limits: Vec::new(), ..ready.launch() };
            let told = format!("{strongest:?} {risk:?} {:?} {launch:?}", ready.binding.ask);
            (Verdict::Bound(Box::new(ready.binding)), told)
        }
        other => (Verdict::Not(format!("{other:?}")), String::new()),
    }
}

fn any_world() -> impl Strategy<Value = World> {
    let seen = prop::sample::select(vec![
        "true",
        "false",
        "agent != null && agent.priority == \"High\"",
        "task.priority == \"High\"",
        "task.type == \"t1\"",
        "has(task.goal) && task.goal == \"g1\"",
        "task.parameters.n > 1",
        "step.input.n > 1",
        "step.attempt > 1",
        "step.approval == \"Always\"",
        "skill.idempotent",
        "skill.name == \"cheaper\"",
        "skill.effect == \"External\"",
        "\"g1\" in request.groups",
        "request.user == \"eve\"",
        "cost.micros > 1",
        "step.input.missing == 1",
    ]);
    let effect = prop::sample::select(vec!["Allow", "Allow", "RequireApproval", "Downgrade", "Deny"]);
    let rule =
        (seen, effect, 1u32..3, prop::sample::select(vec!["Low", "High"])).prop_map(|(seen, effect, count, risk)| {
            let mut rule = json!({"match": seen, "effect": effect, "risk": risk});
            if effect == "RequireApproval" {
                rule["approval"] = json!({"count": count});
            }
            rule
        });
    let policy = (
        prop::sample::select(vec!["ops", "ops", "team", "elsewhere"]),
        prop::bool::weighted(0.8),
        prop::collection::vec(rule, 0..3),
        prop::option::weighted(0.2, Just(json!([]))),
    )
        .prop_map(|(namespace, enforce, mut rules, egress)| {
            for (n, rule) in rules.iter_mut().enumerate() {
                rule["name"] = json!(format!("r{n}"));
            }
            let mode = if enforce { "Enforce" } else { "Audit" };
            (namespace.to_owned(), json!({"mode": mode, "rules": rules, "egress": egress}))
        });
    let policies = prop::collection::vec(policy, 0..3).prop_map(|mut more| {
        let allow = json!({"rules": [{"name": "all", "match": "true", "effect": "Allow"}]});
        more.push(("ops".to_owned(), allow));
        more
    });
    let skill = (any::<bool>(), prop::sample::select(vec!["Read", "External"]), any::<bool>()).prop_map(
        |(idempotent, effect, shows)| {
            let mut skill = json!({"effect": effect, "idempotent": idempotent, "builtin": {"name": "generic_action"}});
            if shows {
                let credential = json!({"secret": "key", "key": "k"});
                skill["egress"] = json!([{"host": "api.example.com", "credential": credential}]);
            }
            skill
        },
    );
    let downgrades = skill.clone().prop_map(|mut skill| {
        skill["downgradeTo"] = json!("cheaper");
        skill
    });
    let step = (prop::sample::select(vec!["Policy", "Always"]), prop::sample::select(vec!["1", "task.parameters.n"]))
        .prop_map(|(approval, n)| {
            json!({"name": "only", "skill": "pay", "approval": approval, "input": {"n": format!("${{{n}}}")}})
        });
    let parameters = (0i64..3).prop_map(|n| json!({"n": n}));
    let requester = (prop::sample::select(vec!["dave", "eve"]), any::<bool>()).prop_map(|(user, grouped)| Identity {
        user: user.into(),
        uid: None,
        groups: if grouped { vec!["g1".into()] } else { Vec::new() },
    });
    let agent = prop::option::of(prop::sample::select(vec!["Normal", "High"])).prop_map(|priority| {
        priority.map(|priority| {
            serde_json::from_value(json!({"allowedSkills": ["pay", "cheaper"], "priority": priority})).unwrap()
        })
    });
    let task = (any::<bool>(), prop::sample::select(vec!["Normal", "High"])).prop_map(|(goal, priority)| {
        let goal = if goal { json!("g1") } else { Value::Null };
        Value::Object(Map::from_iter([("goal".to_owned(), goal), ("priority".to_owned(), json!(priority))]))
    });
    let secret = prop::option::weighted(0.9, prop::sample::select(vec!["17", "18"])).prop_map(|s| s.map(str::to_owned));
    let runner = prop::sample::select(vec!["runner@sha256:0", "runner@sha256:1"]).prop_map(str::to_owned);
    (policies, downgrades, skill, step, parameters, requester, (agent, task, secret, runner, 1u32..3, 0u8..2)).prop_map(
        |(rules, skill, cheaper, step, parameters, requester, (agent, task, secret, runner, run, tree))| World {
            rules,
            skill,
            cheaper,
            step,
            parameters,
            requester,
            agent,
            task,
            secret,
            runner,
            run,
            tree,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever one of the inputs of a verdict is changed to: the binding says so, or it makes no difference.
    #[test]
    fn a_verdict_rests_on_its_binding_and_on_nothing_else(one in any_world(), other in any_world()) {
        let judge = PolicyJudge::new(CelEvaluator::new());
        let (bound, told) = verdict(one.judge(&judge));
        for input in 0..INPUTS {
            let (again, told_then) = verdict(one.with(input, &other).judge(&judge));
            if let (Verdict::Bound(before), Verdict::Bound(now)) = (&bound, &again) {
                let same = before.digest().unwrap() == now.digest().unwrap();
                prop_assert_eq!(same, before == now, "one digest is of one binding");
                prop_assert_eq!(same, before.differences(now).is_empty(), "what differs is named");
                prop_assert!(!same || told == told_then, "input {}: {} became {}", input, told, told_then);
            }
        }
        let everything = (0..INPUTS).fold(one.clone(), |world, input| world.with(input, &other));
        prop_assert_eq!(verdict(everything.judge(&judge)), verdict(other.judge(&judge)), "the inputs are all that there is");
    }
}
