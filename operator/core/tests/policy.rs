//! What the Policies say of a step: table tests of the rules' order, scope and failures.
#![allow(clippy::unwrap_used, reason = "a test")]

use countersign_core::cel::{CelEvaluator, Variables};
use std::time::Duration;

use countersign_core::approval::Ask;
use countersign_core::policy::{Combined, PolicySet, Verdict};
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

fn variables() -> Variables {
    Variables::new()
        .with("namespace", json!("team"))
        .with("agent", Value::Null)
        .with("task", json!({"type": "transfer_funds", "parameters": {"amount": 500}}))
        .with("step", json!({"name": "send", "input": {}}))
        .with("skill", json!({"name": "pay", "effect": "Irreversible"}))
}

fn judge(set: &PolicySet) -> Verdict {
    set.judge("team", &variables(), &CelEvaluator::new()).unwrap()
}

/// What rules with this effect alone come to, in one layer.
fn ruling(effect: Effect) -> Combined {
    let allowed = |downgrade, ask| Combined::Allowed { downgrade, ask };
    match effect {
        Effect::Allow => allowed(false, None),
        Effect::Downgrade => allowed(true, None),
        Effect::RequireApproval => allowed(false, Some(Ask::default())),
        Effect::Deny => Combined::Denied,
    }
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
            let effect: Effect = serde_json::from_value(json!(effects[strongest])).unwrap();
            assert_eq!(verdict.combined, ruling(effect));
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
        assert_eq!(verdict.combined, Combined::Denied, "{policies:?}");
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
        assert_eq!(verdict.combined, Combined::Denied, "{broken}");
    }
}

#[test]
fn a_namespace_tightens_only_itself_and_audit_binds_nothing() {
    let allow = (OPS, "allow", json!({"rules": [rule("all", "true", "Allow")]}));
    let with = |namespace, mode: &str, effect: &str| {
        let policy = (namespace, "more", json!({"mode": mode, "rules": [rule("more", "true", effect)]}));
        judge(&set(&[allow.clone(), policy])).combined
    };
    assert_eq!(with("team", "Enforce", "RequireApproval"), ruling(Effect::RequireApproval));
    assert_eq!(with("team", "Enforce", "Deny"), ruling(Effect::Deny));
    assert_eq!(with("other", "Enforce", "Deny"), ruling(Effect::Allow));
    assert_eq!(with("team", "Audit", "Deny"), ruling(Effect::Allow));
    assert_eq!(with(OPS, "Enforce", "Deny"), ruling(Effect::Deny));
}

/// Whether a ruling lets the Skill itself and the cheaper one run, each without and with a signature.
fn lets_run(ruling: &Combined) -> [bool; 4] {
    match ruling {
        Combined::Denied => [false; 4],
        Combined::Allowed { downgrade, ask } => [(false, false), (false, true), (true, false), (true, true)]
            .map(|(cheaper, signed)| (cheaper || !downgrade) && (signed || ask.is_none())),
    }
}

#[test]
fn what_both_layers_say_is_never_wider_than_what_either_says_alone() {
    let effects = [None, Some("Allow"), Some("Downgrade"), Some("RequireApproval"), Some("Deny")];
    let policy = |namespace, name, mode: &str, effect: Option<&str>| {
        let rules: Vec<Value> = effect.iter().map(|effect| rule("r", "true", effect)).collect();
        (namespace, name, json!({"mode": mode, "rules": rules}))
    };
    for cluster in effects {
        for own in effects {
            for (cluster_mode, own_mode) in
                [("Enforce", "Enforce"), ("Enforce", "Audit"), ("Audit", "Enforce"), ("Audit", "Audit")]
            {
                let name = format!("cluster {cluster:?} ({cluster_mode}), namespace {own:?} ({own_mode})");
                let of_cluster = policy(OPS, "c", cluster_mode, cluster);
                let of_own = policy("team", "n", own_mode, own);
                let both = lets_run(&judge(&set(&[of_cluster.clone(), of_own])).combined);
                let cluster_alone = lets_run(&judge(&set(&[of_cluster])).combined);
                // What a namespace's Policy says by itself is what it would say where all else is allowed.
                let all = (OPS, "all", json!({"rules": [rule("all", "true", "Allow")]}));
                let own_alone = lets_run(&judge(&set(&[all, policy("team", "n", own_mode, own)])).combined);
                let either = [0, 1, 2, 3].map(|way| cluster_alone[way] && own_alone[way]);
                assert_eq!(both, either, "{name}");
                if own_mode == "Audit" {
                    assert_eq!(both, cluster_alone, "{name}: what is only watched binds nothing");
                }
            }
        }
    }
}

#[test]
fn an_audit_rule_that_fails_neither_denies_nor_holds_up() {
    let allow = (OPS, "allow", json!({"rules": [rule("all", "true", "Allow")]}));
    for namespace in [OPS, "team"] {
        for broken in ["task.parameters.wallet == 'x'", "task.parameters.amount", "nonsense ==", "unknown_variable"] {
            let audit = json!({"mode": "Audit", "rules": [rule("broken", broken, "Allow")]});
            let verdict = judge(&set(&[allow.clone(), (namespace, "audit", audit)]));
            assert_eq!(verdict.combined, ruling(Effect::Allow), "{broken}");
            let said = verdict.rules.iter().find(|rule| rule.rule == "broken").unwrap();
            assert_eq!(said.effect, Effect::Deny, "the record says what it would have done");
        }
    }
    // No evaluation ends within a nanosecond: what binds is tried again, and what is only watched is not waited for.
    let hurried = CelEvaluator::with_limit(Duration::from_nanos(1));
    for (mode, waits) in [("Enforce", true), ("Audit", false)] {
        let policy = (OPS, "p", json!({"mode": mode, "rules": [rule("slow", "task.type == 'x'", "Deny")]}));
        let found = set(&[policy]).judge("team", &variables(), &hurried);
        assert_eq!(found.is_err(), waits, "{mode}: {found:?}");
    }
}

#[test]
fn risk_is_the_highest_expiry_the_shortest_and_the_record_says_what_a_rule_saw() {
    let approve = |name: &str, risk: &str, after: &str| {
        json!({"name": name, "match": "task.parameters.amount < 1000", "effect": "RequireApproval", "risk": risk,
               "approval": {"expiresAfter": after}})
    };
    let rules = json!({"rules": [approve("a", "Low", "2h"), approve("b", "High", "90m"), rule("c", "true", "Allow")]});
    let verdict = judge(&set(&[(OPS, "p", rules)]));
    let Combined::Allowed { downgrade: false, ask: Some(ask) } = verdict.combined.clone() else {
        panic!("{:?}", verdict.combined)
    };
    assert_eq!((verdict.risk, ask.expires_after.get().as_secs()), (RiskClass::High, 5400));
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
    assert_eq!(judge(&all).combined, ruling(Effect::Deny));
    assert_eq!(judge(&with("team", "q", "Allow")).combined, ruling(Effect::Allow), "replaced");
    assert_eq!(judge(&with("team", "p", "Allow")).combined, ruling(Effect::Deny), "another of its name elsewhere");
    assert_eq!(judge(&with("other", "q", "Deny")).rules.len(), 2, "of no concern here");
    assert_eq!(judge(&with(OPS, "z", "RequireApproval")).rules.len(), 3, "added");
    assert_eq!(with("other", "q", "Deny").digest("team"), all.digest("team"));
    assert_ne!(with("team", "q", "Allow").digest("team"), all.digest("team"));
    assert_ne!(all.digest("team"), all.digest("other"));
}
