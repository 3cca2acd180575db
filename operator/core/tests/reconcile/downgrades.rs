//! What is downgraded is downgraded by every rule that says so, and freed of nothing.

use std::sync::Arc;

use countersign_core::agent::Acting;
use countersign_core::budget::{Balance, Budgets, Scope, Window};
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::policy::PolicySet;
use countersign_core::record::{Change, StepOutcome};
use countersign_crds::{Required, RiskClass};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bed::Bed;

fn policies(all: &[(&str, Value)]) -> Arc<PolicySet> {
    let spec = |(n, (namespace, rules)): (usize, &(&str, Value))| {
        let spec = serde_json::from_value(json!({"rules": rules})).unwrap();
        ((*namespace).to_owned(), format!("p{n}"), spec)
    };
    Arc::new(PolicySet::compile("ops", all.iter().enumerate().map(spec)))
}

/// The Skill that runs or would, with what it takes to sign for it.
fn outcome(decision: &ReconcileOutput) -> (String, Option<(Required, RiskClass)>) {
    let found = decision.changes.iter().find_map(|change| match change {
        Change::Intend { launch, .. } => Some((launch.skill.clone(), None)),
        Change::RequestApproval { covers, required, risk, .. } => {
            let skill = covers["only"].binding.as_ref().unwrap().skill.name.clone();
            Some((skill, Some((required.clone(), *risk))))
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{:?}", decision.changes))
}

/// The effect of each layer's rule for the Skill itself, of the cluster's for the cheaper one, and whether that is
/// signed for.
#[test]
fn a_namespace_can_only_tighten_and_a_downgrade_frees_nobody_of_a_signature() {
    let rule = |effect: &str, group: &str| {
        let mut rule = json!({"name": "own", "match": "skill.name == 'full'", "effect": effect, "risk": "Medium"});
        if effect == "RequireApproval" {
            rule["approval"] = json!({"groups": [group]});
        }
        rule
    };
    let all = |effect: &str| json!({"name": "rest", "match": "skill.name == 'small'", "effect": effect});
    for (cluster, namespace, small, skill, groups) in [
        ("Allow", "Allow", "Allow", "full", None),
        ("Allow", "Downgrade", "Allow", "small", None),
        ("Downgrade", "Allow", "Allow", "small", None),
        ("Downgrade", "RequireApproval", "Allow", "small", Some(vec!["ns"])),
        ("RequireApproval", "Downgrade", "Allow", "small", Some(vec!["cluster"])),
        ("RequireApproval", "Allow", "Allow", "full", Some(vec!["cluster"])),
        ("RequireApproval", "RequireApproval", "Allow", "full", Some(vec!["cluster", "ns"])),
        ("Downgrade", "RequireApproval", "RequireApproval", "small", Some(vec!["ns"])),
    ] {
        let name = format!("{cluster}, {namespace}, then {small}");
        let mut bed = Bed::step(json!({"skill": "full"}));
        bed.skill("full", json!({"downgradeTo": "small"}));
        bed.skill("small", json!({}));
        bed.observed.policies = policies(&[
            ("ops", json!([rule(cluster, "cluster"), all(small)])),
            ("team", json!([rule(namespace, "ns")])),
        ]);
        let (runs, asked) = outcome(&bed.reconcile());
        assert_eq!(runs, skill, "{name}");
        assert_eq!(
            asked.as_ref().map(|(required, _)| required.groups.clone()),
            groups.map(|g| g.iter().map(|&g| g.to_owned()).collect()),
            "{name}"
        );
        if let Some((_, risk)) = asked {
            assert_eq!(risk, RiskClass::Medium, "{name}: what is asked for keeps its risk");
            bed.sign("alice", true);
            let alice = bed.observed.approvals.values_mut().flat_map(|approval| &mut approval.decisions);
            alice.for_each(|decision| decision.groups = vec!["cluster".into(), "ns".into()]);
            let signed = bed.reconcile();
            let runs = signed.actions.iter().find_map(|action| match action {
                ClusterAction::CreateJob { launch, .. } => Some(launch.skill.as_str()),
                _ => None,
            });
            assert_eq!(runs, Some(skill), "{name}: what was signed for is what runs");
        }
    }
}

#[test]
fn a_namespaces_signature_never_brings_back_what_the_cluster_downgraded() {
    let rule = |effect: &str| json!([{"name": "r", "match": "skill.name == 'full'", "effect": effect}]);
    let mut bed = Bed::step(json!({"skill": "full"}));
    bed.skill("full", json!({}));
    bed.observed.policies = policies(&[("ops", rule("Downgrade")), ("team", rule("RequireApproval"))]);
    let decision = bed.reconcile();
    let step = &decision.record.unwrap().steps["only"];
    assert_eq!(
        step.state,
        StepOutcome::Rejected,
        "there is nothing to downgrade it to, and it is not signed for instead"
    );
}

/// A dear step of an Agent that has spent its day, and what becomes of it.
fn dear(cheaper: &str) -> Bed {
    let mut bed = Bed::new(json!({
        "agentRef": {"name": "bond"},
        "plan": {"steps": [{"name": "only", "skill": "dear", "input": {"n": 1}}]},
    }));
    let price = |ceiling: &str| json!({"ceiling": ceiling, "perAttempt": "0"});
    bed.skill("dear", json!({"cost": price("1"), "downgradeTo": cheaper}));
    bed.skill("fits", json!({"cost": price("0.1")}));
    bed.skill("free", json!({}));
    bed.skill("denied", json!({"cost": price("0.1")}));
    bed.skill("not-for-the-agent", json!({"cost": price("0.1")}));
    bed.skill("without-a-price", json!({"egress": [{"host": "api.example.com"}]}));
    bed.skill("unreadable-price", json!({"cost": price("ten")}));
    bed.skill("too-dear-today", json!({"cost": price("0.9")}));
    bed.skill("too-dear-for-ever", json!({"cost": price("11")}));
    bed.skill("rejects", json!({"cost": price("0.9"), "overBudget": "Reject"}));
    bed.skill("of-another-schema", json!({"cost": price("0.1"), "input": {"properties": {"n": {"type": "string"}}}}));
    bed.skill("downgraded-to-nothing", json!({"cost": price("0.1")}));
    bed.skill(
        "shows-a-secret",
        json!({
            "cost": price("0.1"),
            "egress": [{"host": "api.example.com", "credential": {"secret": "not-there", "key": "k"}}],
        }),
    );
    bed.skill("then-denied", json!({"cost": price("0.9"), "downgradeTo": "denied"}));
    bed.skill("then-fits", json!({"cost": price("0.9"), "downgradeTo": "fits"}));
    bed.skill("ring", json!({"cost": price("0.9"), "downgradeTo": "dear"}));
    let known: Vec<String> = bed.observed.skills.keys().filter(|name| *name != "not-for-the-agent").cloned().collect();
    let agent = json!({"allowedSkills": known, "budget": {"daily": "10"}});
    bed.observed.agent = Acting::of("team", "bond", serde_json::from_value(agent).unwrap());
    bed.observed.policies = policies(&[(
        "ops",
        json!([
        {"name": "no", "match": "skill.name == 'denied'", "effect": "Deny"},
        {"name": "less", "match": "skill.name == 'downgraded-to-nothing'", "effect": "Downgrade"},
        {"name": "all", "match": "true", "effect": "Allow"}]),
    )]);
    let observed = &bed.observed;
    let budgets = Budgets::of(bed.now, observed.task.as_ref().unwrap(), observed.agent.agent(), &observed.policies);
    let day = budgets.lines.iter().find(|line| line.key.scope == Scope::Agent && line.key.window == Window::Day);
    let spent = Balance { spent: "9.5".parse().unwrap(), held: "0".parse().unwrap() };
    bed.observed.balances.insert(day.unwrap().key.clone(), spent);
    bed
}

/// `None` where the step runs as another Skill.
fn deferred(decision: &ReconcileOutput) -> Option<(Option<Timestamp>, String)> {
    decision.changes.iter().find_map(|change| match change {
        Change::Defer { until, budget, .. } => Some((*until, budget.message.clone().unwrap_or_default())),
        _ => None,
    })
}

#[test]
fn a_downgrade_for_the_budgets_sake_never_takes_away_waiting() {
    let tomorrow: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
    for (cheaper, words) in [
        ("gone", "the Skill \"gone\" is not installed"),
        ("denied", "policy ops/p0, rule no: it is denied"),
        ("not-for-the-agent", "may not use the Skill \"not-for-the-agent\""),
        ("without-a-price", "does not say what it costs"),
        ("unreadable-price", "the Skill \"unreadable-price\": cost"),
        ("too-dear-today", "it may cost up to 0.9"),
        ("too-dear-for-ever", "it may cost up to 11"),
        ("rejects", "it may cost up to 0.9"),
        ("of-another-schema", "n:"),
        ("downgraded-to-nothing", "nothing left to be downgraded to"),
        ("shows-a-secret", "the Secret \"not-there\" is not there"),
        ("then-denied", "policy ops/p0, rule no: it is denied"),
        ("ring", "it may cost up to 0.9"),
    ] {
        let mut bed = dear(cheaper);
        let decision = bed.reconcile();
        let (until, message) = deferred(&decision).unwrap_or_else(|| panic!("{cheaper}: {:?}", decision.changes));
        assert_eq!(until, Some(tomorrow), "{cheaper}");
        assert!(message.contains(words), "{cheaper}: {message}");
        assert_eq!(decision.record.unwrap().steps["only"].state, StepOutcome::Open, "{cheaper}");
        assert_eq!(bed.reconcile().changes, [], "{cheaper}: a second look decides nothing new");
        // The next day it runs as what it is.
        bed.now = tomorrow;
        assert_eq!(outcome(&bed.reconcile()).0, "dear", "{cheaper}");
    }
    for (cheaper, runs) in [("fits", "fits"), ("free", "free"), ("then-fits", "fits")] {
        assert_eq!(outcome(&dear(cheaper).reconcile()).0, runs, "{cheaper}");
    }
}

/// What would wait for ever by itself waits no longer than the cheaper one has to.
#[test]
fn what_never_fits_waits_for_the_cheaper_skill_that_may() {
    let mut bed = dear("too-dear-today");
    bed.skill("dear", json!({"cost": {"ceiling": "11", "perAttempt": "0"}, "downgradeTo": "too-dear-today"}));
    let decision = bed.reconcile();
    let (until, message) = deferred(&decision).unwrap_or_else(|| panic!("{:?}", decision.changes));
    assert_eq!(until, Some("2026-11-22T00:00:00Z".parse().unwrap()));
    assert!(message.contains("it may cost up to 0.9"), "{message}");
    let mut bed = dear("denied");
    bed.skill("dear", json!({"cost": {"ceiling": "11", "perAttempt": "0"}, "downgradeTo": "denied"}));
    let decision = bed.reconcile();
    assert_eq!(decision.record.unwrap().steps["only"].state, StepOutcome::Rejected, "neither ever fits");
}

#[test]
fn what_is_too_dear_is_signed_for_where_the_dear_one_was() {
    let mut bed = dear("fits");
    bed.observed.policies = policies(&[(
        "ops",
        json!([
        {"name": "sign", "match": "skill.name == 'dear'", "effect": "RequireApproval", "risk": "High"},
        {"name": "all", "match": "true", "effect": "Allow"}]),
    )]);
    let (skill, asked) = outcome(&bed.reconcile());
    assert_eq!((skill.as_str(), asked.map(|(_, risk)| risk)), ("fits", Some(RiskClass::High)));
}
