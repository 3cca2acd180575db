//! What the Policies say of a step: table tests of the rules' order, scope and failures.
#![allow(clippy::unwrap_used, reason = "a test")]

use countersign_core::cel::{Fence, Variables};
use countersign_core::policy::{PolicySet, Verdict};
use countersign_crds::{Effect, PolicySpec, RiskClass};
use serde_json::{Value, json};

const OPS: &str = "ops";

fn set(policies: &[(&str, &str, Value)]) -> PolicySet {
    let specs = policies.iter().map(|(namespace, name, spec)| {
        let spec: PolicySpec = serde_json::from_value(spec.clone()).unwrap();
        ((*namespace).to_owned(), (*name).to_owned(), spec)
    });
    PolicySet::compile(OPS, specs)
}

fn rule(name: &str, matches: &str, effect: &str) -> Value {
    json!({"name": name, "match": matches, "effect": effect})
}

fn judge(set: &PolicySet) -> Verdict {
    let variables = Variables::new()
        .with("namespace", json!("team"))
        .with("agent", Value::Null)
        .with("task", json!({"type": "transfer_funds", "parameters": {"amount": 500}}))
        .with("step", json!({"name": "send", "input": {}}))
        .with("skill", json!({"name": "pay", "effect": "Irreversible"}));
    set.judge("team", &variables, &Fence::new()).unwrap()
}

#[test]
fn the_strongest_effect_decides_whatever_the_order() {
    let effects = ["Allow", "Downgrade", "RequireApproval", "Deny"];
    for strongest in 0..effects.len() {
        for reversed in [false, true] {
            let mut rules: Vec<Value> =
                effects[..=strongest].iter().map(|e| rule(&e.to_lowercase(), "true", e)).collect();
            if reversed {
                rules.reverse();
            }
            let verdict = judge(&set(&[(OPS, "p", json!({"rules": rules}))]));
            assert_eq!(format!("{:?}", verdict.effect), effects[strongest]);
            assert_eq!(verdict.rules.len(), strongest + 1, "one decision a rule that matched");
        }
    }
}

#[test]
fn what_no_rule_allows_is_denied() {
    for policies in [
        vec![],
        vec![(OPS, "p", json!({"rules": [rule("other", "task.type == 'x'", "Allow")]}))],
        vec![(OPS, "p", json!({"mode": "Audit", "rules": [rule("all", "true", "Allow")]}))],
        // A namespace's own Policy cannot allow, nor make a signature stand in for permission.
        vec![("team", "p", json!({"rules": [rule("all", "true", "Allow")]}))],
        vec![("team", "p", json!({"rules": [rule("all", "true", "RequireApproval")]}))],
    ] {
        let verdict = judge(&set(&policies));
        assert_eq!(verdict.effect, Effect::Deny, "{policies:?}");
        assert!(verdict.rules.iter().any(|rule| rule.rule == "no-rule-matched"), "{policies:?}");
    }
}

#[test]
fn every_error_denies() {
    for broken in [
        "task.parameters.wallet == 'x'", // no such key
        "task.parameters.amount > 'x'",  // no such comparison
        "task.parameters.amount",        // not a Bool
        "nonsense ==",                   // does not compile
        "unknown_variable",
    ] {
        let policy = json!({"rules": [rule("all", "true", "Allow"), rule("broken", broken, "Allow")]});
        let verdict = judge(&set(&[(OPS, "p", policy)]));
        assert_eq!(verdict.effect, Effect::Deny, "{broken}");
    }
}

#[test]
fn a_namespace_tightens_only_itself_and_audit_binds_nothing() {
    let allow = (OPS, "allow", json!({"rules": [rule("all", "true", "Allow")]}));
    let with = |namespace, mode: &str, effect: &str| {
        let policy = (namespace, "more", json!({"mode": mode, "rules": [rule("more", "true", effect)]}));
        judge(&set(&[allow.clone(), policy])).effect
    };
    assert_eq!(with("team", "Enforce", "RequireApproval"), Effect::RequireApproval);
    assert_eq!(with("team", "Enforce", "Deny"), Effect::Deny);
    assert_eq!(with("other", "Enforce", "Deny"), Effect::Allow);
    assert_eq!(with("team", "Audit", "Deny"), Effect::Allow);
    assert_eq!(with(OPS, "Enforce", "Deny"), Effect::Deny);
}

#[test]
fn risk_is_the_highest_expiry_the_shortest_and_the_record_says_what_a_rule_saw() {
    let approve = |name: &str, risk: &str, after: &str| {
        json!({"name": name, "match": "task.parameters.amount < 1000", "effect": "RequireApproval", "risk": risk,
               "approval": {"expiresAfter": after}})
    };
    let rules = json!({"rules": [approve("a", "Low", "2h"), approve("b", "High", "90m"), rule("c", "true", "Allow")]});
    let verdict = judge(&set(&[(OPS, "p", rules)]));
    assert_eq!((verdict.risk, verdict.ask.expires_after.get().as_secs()), (RiskClass::High, 5400));
    assert_eq!(verdict.rules[0].saw, *json!({"task.parameters.amount": 500}).as_object().unwrap());
}

#[test]
fn the_digest_is_of_what_bears_on_the_namespace() {
    let allow = (OPS, "allow", json!({"rules": [rule("all", "true", "Allow")]}));
    let deny = |namespace| (namespace, "deny", json!({"rules": [rule("all", "true", "Deny")]}));
    let base = set(std::slice::from_ref(&allow)).digest("team");
    assert_eq!(base, set(&[deny("other"), allow.clone()]).digest("team"));
    assert_ne!(base, set(&[deny("team"), allow.clone()]).digest("team"));
    assert_eq!(set(&[deny("team"), allow.clone()]).digest("team"), set(&[allow, deny("team")]).digest("team"));
}

#[test]
fn a_policy_that_is_tried_takes_the_place_of_its_own() {
    let rules = |effect: &str| json!({"rules": [rule("r", "true", effect)]});
    let all = set(&[(OPS, "p", rules("Allow")), ("team", "q", rules("Deny"))]);
    let with = |namespace: &str, name: &str, effect: &str| {
        let spec: PolicySpec = serde_json::from_value(rules(effect)).unwrap();
        all.with(OPS, [(namespace.to_owned(), name.to_owned(), spec)])
    };
    assert_eq!(judge(&all).effect, Effect::Deny);
    assert_eq!(judge(&with("team", "q", "Allow")).effect, Effect::Allow, "replaced");
    assert_eq!(judge(&with("team", "p", "Allow")).effect, Effect::Deny, "another of its name elsewhere");
    assert_eq!(judge(&with("other", "q", "Deny")).rules.len(), 2, "of no concern here");
    assert_eq!(judge(&with(OPS, "z", "RequireApproval")).rules.len(), 3, "added");
    assert_eq!(with("other", "q", "Deny").digest("team"), all.digest("team"));
    assert_ne!(with("team", "q", "Allow").digest("team"), all.digest("team"));
    assert_ne!(all.digest("team"), all.digest("other"));
}
