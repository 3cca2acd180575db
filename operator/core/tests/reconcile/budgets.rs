//! What is decided of prices, on which numbers, and in which words.

use std::sync::Arc;

use countersign_core::agent::Acting;
use countersign_core::budget::{Balance, BudgetDecision, Budgets, Ledger, LineKey, Scope, Window};
use countersign_core::effect::ReconcileOutput;
use countersign_core::money::Money;
use countersign_core::policy::PolicySet;
use countersign_core::record::{Change, StepOutcome};
use countersign_crds::{BudgetVerdict, StepState};
use serde_json::{Value, json};

use crate::bed::{Bed, phase};

/// A Task of an Agent with this budget, and one step of a Skill with this contract.
fn bed(task: Value, budget: Value, skill: Value) -> Bed {
    let mut spec = json!({"agentRef": {"name": "bond"}, "plan": {"steps": [{"name": "only", "skill": "priced"}]}});
    spec.as_object_mut().unwrap().extend(task.as_object().unwrap().clone());
    let mut bed = Bed::new(spec);
    bed.skill("priced", skill);
    bed.skill("cheaper", json!({"cost": {"ceiling": "0.1", "perAttempt": "0.1"}}));
    let mut agent = json!({"allowedSkills": ["priced", "cheaper", "echo"], "priority": "High"});
    if !budget.is_null() {
        agent["budget"] = budget;
    }
    bed.observed.agent = Acting::of("team", "bond", serde_json::from_value(agent).unwrap());
    bed
}

fn fill(bed: &mut Bed, scope: Scope, window: Window, spent: &str, held: &str) {
    let observed = &bed.observed;
    let budgets = Budgets::of(bed.now, observed.task.as_ref().unwrap(), observed.agent.agent(), &observed.policies);
    let line = budgets.lines.iter().find(|line| line.key.scope == scope && line.key.window == window).unwrap();
    let balance = Balance { spent: spent.parse().unwrap(), held: held.parse().unwrap() };
    bed.observed.balances.insert(line.key.clone(), balance);
}

/// What the reconciliation decided of the price of its one step, and on what.
fn decided(decision: &ReconcileOutput) -> Option<BudgetDecision> {
    decision.changes.iter().find_map(Change::budget).cloned()
}

fn costs(ceiling: &str) -> Value {
    json!({"cost": {"ceiling": ceiling, "perAttempt": "0.01"}})
}

#[test]
fn a_price_that_fits_is_reserved_with_the_numbers_that_were_seen() {
    let mut bed = bed(json!({"budget": "4"}), json!({"daily": "10", "perAttempt": "2"}), costs("1.5"));
    fill(&mut bed, Scope::Agent, Window::Day, "3", "0.5");
    let look = bed.reconcile();
    let decision = decided(&look).unwrap();
    assert_eq!((decision.verdict, decision.amount), (BudgetVerdict::Allowed, "1.5".parse().unwrap()));
    let seen: Vec<_> = decision
        .lines
        .iter()
        .map(|line| (line.scope, line.window, line.limit.map(|l| l.to_string()), line.spent.to_string()))
        .collect();
    assert_eq!(
        seen,
        [
            (Scope::Agent, Window::Day, Some("10".into()), "3".into()),
            (Scope::Task, Window::Total, Some("4".into()), "0".into())
        ]
    );
    let status = look.status.unwrap();
    assert_eq!(status.steps[0].budget, Some(BudgetVerdict::Allowed));
    assert_eq!(status.cost.unwrap().decision, Some(BudgetVerdict::Allowed));
    // What it holds is its own, and does not keep it from being let in.
    fill(&mut bed, Scope::Agent, Window::Day, "8.5", "1.5");
    let next = bed.reconcile();
    assert!(matches!(next.changes[..], [Change::Admit { .. }]), "{:?}", next.changes);
}

/// Limit, spent, held and price; verdict and words.
#[test]
fn what_does_not_fit_waits_or_is_rejected_and_says_why() {
    for (budget, spent, held, skill, verdict, words) in [
        (json!({"daily": "10"}), "9", "0", costs("1"), BudgetVerdict::Allowed, ""),
        (
            json!({"daily": "10"}),
            "9",
            "0",
            costs("1.000001"),
            BudgetVerdict::Deferred,
            "has spent 9 and holds 0 of 10 today",
        ),
        (json!({"daily": "10"}), "0", "9.5", costs("1"), BudgetVerdict::Deferred, "holds 9.5 of 10"),
        // It would not fit an empty day either.
        (json!({"daily": "0.5"}), "0", "0", costs("1"), BudgetVerdict::Rejected, "it may cost up to 1"),
        (json!({"total": "10"}), "9.5", "0", costs("1"), BudgetVerdict::Allowed, ""),
        (
            json!({"daily": "10", "perAttempt": "0.5"}),
            "0",
            "0",
            costs("1"),
            BudgetVerdict::Rejected,
            "the Agent bond lets an attempt cost 0.5",
        ),
        (
            json!({"daily": "10"}),
            "10",
            "0",
            json!({"cost": {"ceiling": "1", "perAttempt": "1"}, "overBudget": "Reject"}),
            BudgetVerdict::Rejected,
            "of 10 today",
        ),
        (
            json!({"daily": "10"}),
            "9.5",
            "0",
            json!({"cost": {"ceiling": "1", "perAttempt": "1"}, "downgradeTo": "cheaper"}),
            BudgetVerdict::Downgraded,
            "priced is downgraded to cheaper",
        ),
        (
            json!({"daily": "10"}),
            "9.95",
            "0",
            json!({"cost": {"ceiling": "1", "perAttempt": "1"}, "downgradeTo": "cheaper"}),
            BudgetVerdict::Deferred,
            "it may cost up to 0.1",
        ),
    ] {
        let name = format!("{budget} {spent} {held} {skill}");
        let mut bed = bed(json!({}), budget, skill);
        fill(&mut bed, Scope::Agent, Window::Day, spent, held);
        let look = bed.reconcile();
        let decision = decided(&look).unwrap_or_else(|| panic!("{name}: {:?}", look.changes));
        assert_eq!(decision.verdict, verdict, "{name}: {:?}", decision.message);
        assert!(decision.message.as_deref().unwrap_or_default().contains(words), "{name}: {:?}", decision.message);
        let step = &look.status.as_ref().unwrap().steps[0];
        assert_eq!(step.budget, Some(verdict), "{name}");
        match verdict {
            BudgetVerdict::Allowed => {
                assert_eq!((step.state, step.downgraded_to.as_deref()), (StepState::Running, None))
            }
            BudgetVerdict::Downgraded => assert_eq!(step.downgraded_to.as_deref(), Some("cheaper"), "{name}"),
            BudgetVerdict::Deferred => assert_eq!(step.reason.as_deref(), Some("Deferred"), "{name}"),
            BudgetVerdict::Rejected => {
                assert_eq!((step.state, step.reason.as_deref()), (StepState::Rejected, Some("OverBudget")), "{name}");
                assert_eq!(phase(&look).0, "Rejected", "{name}");
            }
        }
        let again = bed.reconcile();
        let launched = matches!(again.changes[..], [Change::Admit { .. }]);
        assert!(again.changes.is_empty() || launched, "{name}: a second look decides nothing new: {:?}", again.changes);
    }
}

#[test]
fn what_waits_starts_in_the_next_window_or_as_soon_as_something_is_given_back() {
    let mut bed = bed(json!({}), json!({"daily": "10", "timeZone": "Europe/Zurich"}), costs("1"));
    fill(&mut bed, Scope::Agent, Window::Day, "9.5", "0");
    let look = bed.reconcile();
    let until = "2026-11-21T23:00:00Z".parse().unwrap();
    assert!(
        matches!(&look.changes[..], [.., Change::Defer { until: Some(at), .. }] if *at == until),
        "{:?}",
        look.changes
    );
    assert!(look.requeue.unwrap() <= until);
    // A raised limit is enough.
    fill(&mut bed, Scope::Agent, Window::Day, "8.5", "0");
    let decision = decided(&bed.reconcile()).unwrap();
    assert_eq!(decision.verdict, BudgetVerdict::Allowed);

    let mut bed = self::bed(json!({}), json!({"daily": "10"}), costs("1"));
    fill(&mut bed, Scope::Agent, Window::Day, "10", "0");
    bed.reconcile();
    bed.now += jiff::SignedDuration::from_hours(24);
    assert_eq!(decided(&bed.reconcile()).unwrap().verdict, BudgetVerdict::Allowed, "the next day");

    let mut bed = self::bed(json!({}), json!({"total": "10"}), costs("1"));
    fill(&mut bed, Scope::Agent, Window::Total, "9", "1");
    let look = bed.reconcile();
    assert!(matches!(&look.changes[..], [.., Change::Defer { until: None, .. }]), "{:?}", look.changes);
    fill(&mut bed, Scope::Agent, Window::Total, "10", "0");
    assert_eq!(
        decided(&bed.reconcile()).unwrap().verdict,
        BudgetVerdict::Rejected,
        "it was spent, and there is no other window"
    );
}

#[test]
fn an_unknown_price_denies_where_anything_is_limited_and_nowhere_else() {
    let unknown = json!({"egress": [{"host": "api.example.com"}]});
    for (budget, phase_then, words) in [
        (json!({"daily": "10"}), "Rejected", "does not say what it costs; set spec.cost on it"),
        (Value::Null, "Executing", ""),
    ] {
        let mut bed = bed(json!({}), budget.clone(), unknown.clone());
        let look = bed.reconcile();
        let (phase, message) = phase(&look);
        assert_eq!(phase, phase_then, "{budget}: {message}");
        assert!(message.contains(words), "{message}");
    }
    // What is free says so, and what nothing leaves cannot cost anything.
    for skill in [json!({"egress": [{"host": "api.example.com"}], "cost": {"ceiling": "0"}}), json!({})] {
        let mut bed = bed(json!({}), json!({"daily": "10"}), skill);
        let look = bed.reconcile();
        assert_eq!(phase(&look).0, "Executing");
        assert_eq!(decided(&look), None, "nothing is reserved");
    }
}

/// The schema refuses them; whoever gets past it is denied.
#[test]
fn a_price_or_a_limit_that_is_no_amount_denies() {
    for price in ["-1", "1e3", "0.0000001", "NaN", "18446744073709552"] {
        let mut bed = bed(json!({}), json!({"daily": "10"}), costs(price));
        let look = bed.reconcile();
        let (phase, message) = phase(&look);
        assert_eq!(phase, "Rejected", "{price}: {message}");
    }
    for limit in ["-1", "", "ten"] {
        let mut bed = bed(json!({}), json!({"daily": limit}), costs("1"));
        let (phase, message) = phase(&bed.reconcile());
        assert_eq!(phase, "Rejected", "{limit}");
        assert!(message.contains("the Agent bond: budget.daily"), "{message}");
    }
    let mut bed = bed(json!({}), json!({"daily": "10", "timeZone": "Mars/Olympus"}), costs("1"));
    assert!(phase(&bed.reconcile()).1.contains("budget.timeZone"));
}

#[test]
fn low_priority_leaves_its_floor_to_the_rest_and_a_task_cannot_raise_its_own() {
    let skill = json!({"cost": {"ceiling": "1", "perAttempt": "1"}, "overBudget": "Reject"});
    for (agent, task, verdict) in [
        ("High", None, BudgetVerdict::Allowed),
        ("Normal", None, BudgetVerdict::Allowed),
        ("Low", None, BudgetVerdict::Rejected),
        ("High", Some("Low"), BudgetVerdict::Rejected),
        ("Low", Some("High"), BudgetVerdict::Rejected),
        ("Normal", Some("High"), BudgetVerdict::Allowed),
    ] {
        let priority = task.map_or(json!({}), |task| json!({"priority": task}));
        let mut bed = bed(priority, json!({"daily": "10", "floorPercent": 30}), skill.clone());
        let mut spec = bed.observed.agent.agent().unwrap().spec.clone();
        spec.priority = serde_json::from_value(json!(agent)).unwrap();
        bed.observed.agent = Acting::of("team", "bond", spec);
        // Of ten, seven are for low priority.
        fill(&mut bed, Scope::Agent, Window::Day, "6.5", "0");
        let decision = decided(&bed.reconcile()).unwrap();
        assert_eq!(decision.verdict, verdict, "{agent} {task:?}: {:?}", decision.message);
        if verdict == BudgetVerdict::Rejected {
            assert!(decision.message.unwrap().contains("of which low priority may use 7"));
        }
    }
}

#[test]
fn steps_of_one_look_share_what_is_left() {
    let steps: Vec<Value> = (0..6).map(|n| json!({"name": format!("s{n}"), "skill": "priced"})).collect();
    let mut bed = bed(json!({"plan": {"steps": steps}}), json!({"daily": "10"}), costs("3"));
    let look = bed.reconcile();
    let intended = look.changes.iter().filter(|change| matches!(change, Change::Intend { .. })).count();
    assert_eq!(intended, 3, "{:?}", look.changes);
    let waiting = look.changes.iter().filter(|change| matches!(change, Change::Defer { .. })).count();
    assert_eq!(waiting, 3);
    // The ledger itself takes all that was decided, one after the other.
    let mut ledger = Ledger::default();
    for change in &look.changes {
        if let Change::Intend { key, budget: Some(decision), .. } = change {
            ledger.reserve(key, decision).unwrap();
        }
    }
    assert_eq!(ledger.held(), "9".parse::<Money>().unwrap());
    assert!(ledger.balances.keys().any(|key: &LineKey| key.scope == Scope::Agent));
}

/// A Policy in the operator's namespace binds the cluster and each namespace; elsewhere only its own.
#[test]
fn the_budgets_of_policies_bind_as_their_rules_do() {
    let allow = json!({"rules": [{"name": "all", "match": "true", "effect": "Allow"}]});
    let budget = |place: &str, limit: &str| json!({"budget": {place: {"monthly": limit}}});
    for (namespace, spec, scope, binds) in [
        ("ops", budget("cluster", "1"), Scope::Cluster, true),
        ("ops", budget("namespace", "1"), Scope::Namespace, true),
        ("team", budget("namespace", "1"), Scope::Namespace, true),
        ("team", budget("cluster", "1"), Scope::Cluster, false),
        ("other", budget("namespace", "1"), Scope::Namespace, false),
    ] {
        let mut bed = bed(json!({}), Value::Null, costs("2"));
        let policies = [("ops", "p", allow.clone()), (namespace, "b", spec.clone())];
        let policies = policies.map(|(namespace, name, spec)| {
            (namespace.to_owned(), name.to_owned(), serde_json::from_value(spec).unwrap())
        });
        bed.observed.policies = Arc::new(PolicySet::compile("ops", policies));
        let decision = decided(&bed.reconcile()).unwrap();
        let expected = if binds { BudgetVerdict::Rejected } else { BudgetVerdict::Allowed };
        assert_eq!(decision.verdict, expected, "{namespace} {spec}: {:?}", decision.message);
        assert_eq!(decision.lines.iter().any(|line| line.scope == scope), binds);
    }
}

/// What people signed for is not asked again because a budget was set to another amount; and what does not fit is not
/// put to people at all.
#[test]
fn signatures_and_budgets_go_together() {
    let ask = json!({"rules": [{"name": "ask", "match": "cost.micros > 500000", "effect": "RequireApproval"},
                               {"name": "all", "match": "true", "effect": "Allow"}]});
    let policies = |budget: Option<&str>| {
        let mut all = vec![("ops".to_owned(), "p".to_owned(), serde_json::from_value(ask.clone()).unwrap())];
        let limit = budget.map(|limit| json!({"budget": {"cluster": {"daily": limit}}}));
        all.extend(limit.map(|spec| ("ops".to_owned(), "b".to_owned(), serde_json::from_value(spec).unwrap())));
        Arc::new(PolicySet::compile("ops", all))
    };
    let mut bed = bed(json!({}), json!({"daily": "10"}), costs("1"));
    bed.observed.policies = policies(Some("0.5"));
    fill(&mut bed, Scope::Agent, Window::Day, "10", "0");
    let look = bed.reconcile();
    assert!(!look.changes.iter().any(|change| matches!(change, Change::RequestApproval { .. })), "{:?}", look.changes);

    let mut bed = self::bed(json!({}), json!({"daily": "10"}), costs("1"));
    bed.observed.policies = policies(Some("20"));
    let look = bed.reconcile();
    assert!(look.changes.iter().any(|change| matches!(change, Change::RequestApproval { .. })), "{:?}", look.changes);
    bed.sign("erin", true);
    bed.observed.policies = policies(Some("30"));
    bed.reconcile();
    let record = bed.observed.record.as_ref().unwrap();
    let step = &record.steps["only"];
    assert_eq!((step.state, step.attempts.len()), (StepOutcome::Open, 1), "{:?}", record.approvals);
    assert!(step.attempts[0].approval.is_some() && step.attempts[0].reservation.is_some());
}

#[test]
fn a_downgrade_that_was_decided_stays_when_its_pod_is_let_in() {
    let skill = json!({"cost": {"ceiling": "1", "perAttempt": "1"}, "downgradeTo": "cheaper"});
    let mut bed = bed(json!({}), json!({"daily": "10"}), skill);
    fill(&mut bed, Scope::Agent, Window::Day, "9.5", "0");
    assert_eq!(decided(&bed.reconcile()).unwrap().verdict, BudgetVerdict::Downgraded);
    // Meanwhile there is room for the dearer one; what was decided is what runs.
    fill(&mut bed, Scope::Agent, Window::Day, "0", "0.1");
    let next = bed.reconcile();
    assert!(matches!(next.changes[..], [Change::Admit { .. }]), "{:?}", next.changes);
    let launch = bed.observed.record.as_ref().unwrap().steps["only"].attempts[0].launch.clone().unwrap();
    assert_eq!(launch.skill, "cheaper");
}
