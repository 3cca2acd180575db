use super::*;
use serde_json::{Value, json};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn rule(policy: &str, name: &str) -> Value {
    json!({"policy": policy, "rule": name, "effect": "Deny", "mode": "Enforce"})
}

fn step(name: &str, more: Value) -> Value {
    let mut step = json!({
        "name": name, "skill": "echo", "effect": "Read", "irreversible": false, "decision": "Allow", "certain": true,
        "cost": {"minimum": "0", "expected": "0", "maximum": "0", "attempts": 1, "source": "Free"},
        "duration": {"p50Seconds": 0.8, "p95Seconds": 3.0, "source": "History"}, "startsAfterSeconds": 0.0});
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

fn answer() -> Value {
    json!({
        "version": 1, "at": "2026-11-21T09:00:00Z", "namespace": "team", "task": "pay\u{1b}[2J", "feasible": true,
        "obstacles": [],
        "plan": {"source": "plan team/weekly", "digest": format!("sha256:{}", "0".repeat(64)), "steps": 3, "parallelism": 2},
        "cost": {"minimum": "0.1", "expected": "0.5", "maximum": "2.1", "complete": true},
        "duration": {"p50Seconds": 50410.8, "p95Seconds": 50460.0, "criticalPath": ["look", "buy"]},
        "steps": [
            step("look", json!({})),
            step("buy", json!({"skill": "small", "downgradedFrom": "large", "effect": "Irreversible", "decision": "RequireApproval",
                "cost": {"minimum": "0.1", "expected": "0.5", "maximum": "2", "attempts": 1, "source": "Contract"},
                "budget": {"verdict": "Deferred", "amount": "2", "until": "2026-11-21T23:00:00Z", "message": "spent"},
                "startsAfterSeconds": 50400.0})),
            step("tell", json!({"certain": false, "notKnown": ["input.sum"], "undetermined": [rule("ops/starter", "much")]})),
        ],
        "approvals": [{"steps": ["buy"], "count": 1, "risk": "High", "scope": "Step", "expiresAfterSeconds": 86400,
            "from": "one person other than dave"}],
        "budgets": [{"scope": "Namespace", "subject": "team", "window": "Day", "startsAt": "2026-11-20T23:00:00Z",
            "limit": "10", "cap": "8", "spentBefore": "1", "spent": "1.5", "held": "0", "left": "6.5", "heldBefore": "0"}],
        "irreversibleSteps": ["buy"],
        "risks": [{"kind": "NetworkNotEnforced", "message": "not tried"}, {"kind": "Irreversible", "steps": ["buy"], "message": "for good"}],
    })
}

#[test]
fn a_simulation_says_first_whether_it_is_feasible() {
    let expected = r"FEASIBLE: Task pay\u{1b}[2J in namespace team

Plan        plan team/weekly, 3 steps, at most 2 at once
Cost        0.5 expected, at least 0.1, at most 2.1
Duration    14h usually, 14h where every step is slow
Path        look > buy
For good    buy

Steps
  STEP   SKILL             EFFECT         DECISION          COST   AT MOST   AFTER   TAKES   WHY
  look   echo              Read           Allow             0      0         0s      0.8s
  buy    small for large   Irreversible   RequireApproval   0.5    2         14h     0.8s    deferred until 2026-11-21T23:00:00Z: spent
  tell   echo              Read           Allow?            0      0         0s      0.8s    not known yet: input.sum; rules that wait for it: ops/starter, much

Approvals
  buy   within 24h   one person other than dave

Budgets
  SCOPE       OF     WINDOW                     LIMIT     SPENT NOW   THEN   HELD   LEFT
  Namespace   team   Day of 2026-11-20T23:00Z   8 of 10   1           1.5    0      6.5

Risks
  NetworkNotEnforced   all of it   not tried
  Irreversible         buy         for good";
    assert_eq!(simulation(&read(answer())), expected);
}

#[test]
fn what_is_not_feasible_says_why_and_what_is_tried_is_held_against_today() {
    let mut answer = answer();
    answer["feasible"] = json!(false);
    answer["plan"] = Value::Null;
    answer["steps"] = json!([]);
    answer["obstacles"] = json!([
        {"reason": "PlanNotFound", "message": "there is no Plan"},
        {"step": "buy", "reason": "PolicyDenied", "message": "no"}]);
    let finding = |decision: &str| json!({"decision": decision, "skill": "buy", "reasons": [rule("ops/p", "no")]});
    let mut signed = finding("RequireApproval");
    signed["required"] = json!({"count": 2});
    signed["budget"] = json!("Downgraded");
    answer["comparison"] = json!({"policies": ["ops/p"], "feasibleToday": true,
        "costToday": {"minimum": "0", "expected": "3", "maximum": "4", "complete": true},
        "differences": [{"step": "buy", "today": signed, "tried": finding("Deny")}]});
    let text = simulation(&read(answer.clone()));
    let expected = r"NOT FEASIBLE: Task pay\u{1b}[2J in namespace team with the Policies that are tried
  PlanNotFound: there is no Plan
  step buy: PolicyDenied: no

Tried ops/p; without it feasible, 3 expected
  STEP   TODAY                                        TRIED      WHY
  buy    RequireApproval (2 to sign) Downgraded buy   Deny buy   ops/p, no
";
    assert!(text.starts_with(expected), "{text}");
    answer["comparison"]["differences"] = json!([]);
    assert!(simulation(&read(answer)).contains("nothing else would be decided"));
}

#[test]
fn a_replay_says_how_many_would_be_decided_otherwise() {
    let found = json!({
        "version": 1, "at": "2026-11-21T09:00:00Z", "namespace": "team", "policies": ["ops/p"], "tasks": 2, "steps": 5,
        "cut": true,
        "differences": [{"task": "t", "taskUid": "u", "step": "buy", "at": "2026-11-20T10:00:00.123456Z", "outcome": "Succeeded",
            "today": {"decision": "Allow", "skill": "buy"}, "tried": {"decision": "Deny", "skill": "buy", "message": "too much"}}],
        "unjudged": [{"task": "t", "taskUid": "u", "step": "tell", "why": "erased"}]});
    let expected = "1 of 5 steps of the last 2 Tasks in namespace team would be decided otherwise with ops/p
There are more than can be looked at together; the oldest are left out.

DECIDED                TASK   STEP   BECAME      TODAY       TRIED      WHY
2026-11-20T10:00:00Z   t      buy    Succeeded   Allow buy   Deny buy   too much

Not judged
  t   tell   erased";
    assert_eq!(replay(&read(found)), expected);
}

#[test]
fn many_names_are_cut() {
    let many: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
    assert_eq!(names(&many, ", "), "s0, s1, s2, s3, s4, s5, s6, s7, and 4 more");
    for (of, expected) in [(0.0, "0s"), (0.75, "0.8s"), (5.0, "5s"), (59.4, "59s"), (7300.0, "2h"), (1e6, "11d")] {
        assert_eq!(seconds(of), expected);
    }
}
