//! What does not go on now: it says why, holds up nothing else, is asked about again, and is never taken for a failure.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::agent::{Acting, acting};
use countersign_core::budget::{Balance, Budgets};
use countersign_core::cel::CelEvaluator;
use countersign_core::digest::Digest;
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::judge::PolicyJudge;
use countersign_core::observed::{Guard, Network, PodState, TemplateLookup};
use countersign_core::policy::PolicySet;
use countersign_core::record::{AttemptOutcome, AttemptState, Change};
use countersign_crds::{PolicySpec, StepState};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bed::{Bed, phase};

fn started(decision: &ReconcileOutput) -> Vec<&str> {
    let step = |action: &'_ ClusterAction| match action {
        ClusterAction::CreateJob { .. } => true,
        ClusterAction::CreatePlan { .. }
        | ClusterAction::CreateApproval { .. }
        | ClusterAction::ReportApproval { .. }
        | ClusterAction::AdmitPod { .. }
        | ClusterAction::DeleteJob { .. }
        | ClusterAction::Mark { .. }
        | ClusterAction::DeleteTask => false,
    };
    let name = |action: &'_ ClusterAction| {
        if let ClusterAction::CreateJob { step, .. } = action { step.clone() } else { String::new() }
    };
    let names: BTreeSet<String> = decision.actions.iter().filter(|action| step(action)).map(name).collect();
    decision.record.as_ref().unwrap().steps.keys().map(String::as_str).filter(|name| names.contains(*name)).collect()
}

fn begins(decision: &ReconcileOutput) -> bool {
    decision.actions.iter().any(|action| matches!(action, ClusterAction::AdmitPod { .. }))
}

/// Reason and message of a step.
fn said(decision: &ReconcileOutput, step: &str) -> (String, String) {
    let steps = &decision.status.as_ref().unwrap().steps;
    let step = steps.iter().find(|found| found.name == step).unwrap();
    (step.reason.clone().unwrap_or_default(), step.message.clone().unwrap_or_default())
}

fn reason(decision: &ReconcileOutput, step: &str) -> String {
    decision.blocked.of(step).map_or("", |blocked| blocked.reason.as_str()).to_owned()
}

/// Policies of one rule each.
fn policies(rules: Value) -> Arc<PolicySet> {
    let spec: PolicySpec = serde_json::from_value(json!({"rules": rules})).unwrap();
    Arc::new(PolicySet::compile("ops", [("ops".to_owned(), "p".to_owned(), spec)]))
}

/// `first` cannot go on for `why`; `second` could.
fn first_is_blocked(why: &str) -> Bed {
    let goes_out = json!({"egress": [{"host": "h.example.com", "credential": {"secret": "key", "key": "k"}}]});
    let mut bed = Bed::new(json!({"plan": {"parallelism": 1, "steps": [
        {"name": "first", "skill": "first", "approval": if why == "WaitingApproval" { "Always" } else { "Policy" }},
        {"name": "second", "skill": "echo"}]}}));
    bed.skill(
        "first",
        match why {
            "Deferred" => json!({"cost": {"ceiling": "1", "perAttempt": "1"}}),
            "SecretNotFound" => goes_out,
            _ => json!({}),
        },
    );
    if why == "Deferred" {
        bed.observed.task.as_mut().unwrap().spec.budget = Some("1".into());
        let task = bed.observed.task.clone().unwrap();
        for line in Budgets::of(bed.now, &task, None, &bed.observed.policies).lines {
            let held = Balance { spent: "0".parse().unwrap(), held: "1".parse().unwrap() };
            bed.observed.balances.insert(line.key, held);
        }
    }
    bed
}

#[test]
fn what_is_blocked_holds_no_place_that_another_step_could_have() {
    for why in ["Deferred", "SecretNotFound", "WaitingApproval"] {
        let mut bed = first_is_blocked(why);
        let decision = bed.reconcile();
        assert_eq!(reason(&decision, "first"), why, "{:?}", decision.blocked);
        assert_eq!(started(&decision), ["second"], "{why}");
    }
}

#[test]
fn a_signed_attempt_without_its_guard_lets_another_go_first_and_waits_for_its_place() {
    let mut bed = Bed::new(json!({"plan": {"parallelism": 1, "steps": [
        {"name": "signed", "skill": "echo", "approval": "Always"}, {"name": "free", "skill": "echo"}]}}));
    bed.observed.policies = policies(json!([{"name": "all", "match": "true", "effect": "Allow"}]));
    // It is signed for before there is a place.
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(started(&bed.reconcile()).join(","));
        bed.sign("alice", true);
    }
    assert_eq!(seen, ["free", "", ""]);
    let mut bed = Bed::new(json!({"plan": {"parallelism": 1, "steps": [
        {"name": "signed", "skill": "echo", "approval": "Always"},
        {"name": "free", "skill": "echo", "after": [{"step": "before", "outcomes": ["Skipped"]}]}, {"name": "before", "skill": "echo", "when": "false"}]}}));
    bed.observed.task.as_mut().unwrap().spec.suspend = true;
    bed.reconcile();
    bed.observed.task.as_mut().unwrap().spec.suspend = false;
    bed.reconcile();
    bed.sign("alice", true);
    // `free` runs; the other has its signature and no place.
    let decision = bed.reconcile();
    assert_eq!(reason(&decision, "signed"), "ParallelismReached", "{:?}", decision.blocked);
    let running = bed.observed.record.as_ref().unwrap().steps.values().filter_map(|step| step.live_attempt());
    assert_eq!(running.filter(|attempt| attempt.launched()).count(), 1);
}

type Alter = fn(&mut Bed);

/// What keeps a pod from being let in, its reason, and how it ends.
const HELD: [(&str, Alter, Alter); 6] = [
    (
        "GuardBroken",
        |bed| bed.observed.guard = Guard::Broken { problem: "the webhook is gone".into() },
        |bed| {
            bed.observed.guard = Guard::Whole;
        },
    ),
    (
        "NetworkNotTried",
        |bed| {
            bed.config.require_network_policy = true;
            bed.observed.network = Network::NotTried;
        },
        |bed| bed.observed.network = Network::Closed,
    ),
    ("EvaluatorBusy", |bed| bed.busy = true, |bed| bed.busy = false),
    (
        "Suspended",
        |bed| bed.observed.task.as_mut().unwrap().spec.suspend = true,
        |bed| {
            bed.observed.task.as_mut().unwrap().spec.suspend = false;
        },
    ),
    ("Suspended", |bed| bed.observed.agent = bond(true), |bed| bed.observed.agent = bond(false)),
    (
        "PodUnchecked",
        |bed| bed.observed.pods[0].state = PodState::Unchecked,
        |bed| {
            bed.observed.pods[0].state = PodState::Gated;
        },
    ),
];

/// The Agent that may do all of it.
fn bond(suspend: bool) -> Acting {
    let spec = json!({"allowedSkills": ["echo"], "suspend": suspend});
    Acting::of("team", "bond", serde_json::from_value(spec).unwrap())
}

/// An attempt that was signed for and intended, with its pod behind the gate.
fn intended() -> Bed {
    let mut bed = Bed::new(json!({"agentRef": {"name": "bond"},
        "plan": {"steps": [{"name": "only", "skill": "echo", "approval": "Always"}]}}));
    bed.observed.agent = bond(false);
    bed.reconcile();
    bed.sign("alice", true);
    assert_eq!(started(&bed.reconcile()), ["only"]);
    bed
}

#[test]
fn a_pod_that_is_there_is_held_with_its_reason_and_let_in_afterwards() {
    for (why, hold, release) in HELD {
        let mut bed = intended();
        hold(&mut bed);
        for minutes in [0, 1, 10, 600] {
            bed.now += SignedDuration::from_mins(minutes);
            let decision = bed.reconcile();
            assert!(decision.changes.is_empty() && !begins(&decision), "{why}: {:?}", decision.changes);
            assert_eq!(reason(&decision, "only"), why);
            let soon = decision.requeue.is_some_and(|at| at > bed.now && at <= bed.now + SignedDuration::from_secs(5));
            // A Task and an Agent are watched.
            assert!(soon || why == "Suspended", "{why}: {:?}", decision.requeue);
            if why != "PodUnchecked" {
                let (reason, message) = said(&decision, "only");
                assert!(reason == why && !message.is_empty(), "{why}: {reason} {message}");
                assert!(phase(&decision).1.contains(&message), "{:?}", phase(&decision));
            }
        }
        release(&mut bed);
        let decision = bed.reconcile();
        assert!(begins(&decision), "{why}: {:?}", decision.blocked);
    }
}

#[test]
fn only_a_pod_that_never_appeared_is_said_not_to_have_appeared() {
    let mut bed = intended();
    bed.observed.pods.clear();
    let decision = bed.reconcile();
    let deadline = bed.now + bed.config.start_deadline;
    assert_eq!((reason(&decision, "only").as_str(), decision.requeue), ("PodPending", Some(deadline)));
    bed.now = deadline;
    let decision = bed.reconcile();
    assert!(phase(&decision).1.contains("no pod appeared"), "{:?}", phase(&decision));
}

#[test]
fn what_was_let_in_on_record_stays_behind_its_gate_while_suspended() {
    let mut bed = intended();
    bed.reconcile();
    // The gate was not removed before the operator ended.
    bed.observed.pods[0].state = PodState::Gated;
    bed.observed.task.as_mut().unwrap().spec.suspend = true;
    let decision = bed.reconcile();
    assert!(!begins(&decision) && decision.changes.is_empty(), "{:?}", decision.actions);
    assert_eq!(said(&decision, "only").0, "Suspended");
    bed.observed.task.as_mut().unwrap().spec.suspend = false;
    assert!(begins(&bed.reconcile()));
}

#[test]
fn what_was_let_in_on_record_stays_behind_its_gate_once_it_would_be_decided_otherwise() {
    let mut bed = intended();
    bed.reconcile();
    bed.observed.pods[0].state = PodState::Gated;
    bed.rules(json!([{"name": "no", "match": "true", "effect": "Deny"}]));
    let decision = bed.reconcile();
    assert!(!begins(&decision), "{:?}", decision.actions);
    let why = decision.blocked.of("only").unwrap();
    assert!(why.reason.as_str() == "PodUnchecked" && why.message.contains("policies"), "{why:?}");
    bed.now += bed.config.start_deadline;
    let decision = bed.reconcile();
    assert!(!begins(&decision) && phase(&decision).1.starts_with("NotStarted"), "{:?}", phase(&decision));
}

#[test]
fn a_task_that_is_being_deleted_starts_nothing_and_ends() {
    // Before its Plan, before anything is intended, and before a pod is let in.
    let mut beds = [Bed::step(json!({})), Bed::step(json!({"approval": "Always"})), intended()];
    beds[1].reconcile();
    for mut bed in beds {
        bed.observed.task.as_mut().unwrap().deleting = true;
        bed.sign("alice", true);
        let decision = bed.reconcile();
        assert!(started(&decision).is_empty() && !begins(&decision), "{:?}", decision.actions);
        assert_eq!(phase(&decision).0, "Cancelled");
        let live = bed.observed.record.as_ref().unwrap().steps.values().filter_map(|step| step.live_attempt());
        assert_eq!(live.count(), 0);
        let again = bed.reconcile();
        assert!(again.changes.is_empty() && started(&again).is_empty() && again.requeue.is_none());
    }
}

#[test]
fn what_runs_when_its_task_is_deleted_is_told_to_end() {
    let mut bed = intended();
    bed.reconcile();
    bed.observed.task.as_mut().unwrap().deleting = true;
    let decision = bed.reconcile();
    assert!(
        decision.actions.iter().any(|action| matches!(action, ClusterAction::DeleteJob { .. })),
        "{:?}",
        decision.actions
    );
}

#[test]
fn deletion_is_asked_for_once_and_then_watched() {
    let mut bed = Bed::step(json!({"when": "false"}));
    bed.observed.task.as_mut().unwrap().spec.ttl_seconds_after_finished = Some(60);
    let ended = bed.reconcile();
    let expires = bed.now + SignedDuration::from_secs(60);
    assert_eq!(ended.requeue, Some(expires));
    bed.now = expires;
    let asks = |decision: &ReconcileOutput| {
        decision.actions.iter().filter(|action| **action == ClusterAction::DeleteTask).count()
    };
    let decision = bed.reconcile();
    assert_eq!((asks(&decision), decision.requeue), (1, None));
    bed.observed.task.as_mut().unwrap().deleting = true;
    for _ in 0..3 {
        bed.now += SignedDuration::from_secs(1);
        let decision = bed.reconcile();
        assert_eq!((asks(&decision), decision.requeue), (0, None));
    }
}

#[test]
fn a_time_out_of_the_evaluator_is_never_an_invalid_plan() {
    let list = "${task.parameters.l.all(a, task.parameters.l.all(b, a + b >= 0))}";
    let numbers: Vec<u32> = (0..20_000).collect();
    let mut bed = Bed::new(json!({"parameters": {"l": numbers},
        "plan": {"steps": [{"name": "only", "skill": "echo", "input": {"a": list}}]}}));
    let never = || PolicyJudge::new(CelEvaluator::with_limit(Duration::from_micros(1)));
    bed.judge = never();
    let end = bed.now + bed.config.planning_deadline;
    while bed.now < end {
        let decision = bed.reconcile();
        assert_eq!(phase(&decision).0, "Planning", "{:?}", phase(&decision));
        let named = "EvaluatorTimedOut: inline plan: steps[0] (only).input";
        assert!(phase(&decision).1.starts_with(named), "{:?}", phase(&decision));
        assert_eq!(decision.requeue, Some(bed.now + SignedDuration::from_secs(1)));
        bed.now += SignedDuration::from_mins(5);
        // Nobody has used up the turns.
        bed.judge = never();
    }
    // Then it is given up by its own name, and still not as a fault of the Plan.
    let (phase, message) = phase(&bed.reconcile());
    assert!(phase == "Failed" && message.starts_with("EvaluatorTimedOut: inline plan: steps[0] (only)"), "{message}");
    assert!(message.contains("task.parameters.l.all(a,") && message.contains("go through less"), "{message}");
}

#[test]
fn what_the_evaluator_has_no_time_for_is_not_asked_of_it_for_each_step() {
    let steps: Vec<Value> = (0..8).map(|n| json!({"name": format!("s{n}"), "skill": "echo"})).collect();
    let mut bed = Bed::new(json!({"plan": {"parallelism": 8, "steps": steps}}));
    bed.busy = true;
    let decision = bed.reconcile();
    assert!(started(&decision).is_empty());
    assert_eq!(reason(&decision, "s0"), "EvaluatorBusy");
    bed.busy = false;
    assert_eq!(started(&bed.reconcile()).len(), 8);
}

/// `source` has an output. Each of many steps that people are asked to sign for needs it, and so does one that they are
/// not.
#[test]
fn an_output_is_loaded_for_the_step_that_needs_it_however_many_others_wait_for_people() {
    let mut steps = vec![json!({"name": "source", "skill": "echo"}), json!({"name": "other", "skill": "echo"})];
    steps.extend((0..40).map(|n| {
        json!({"name": format!("signed_{n}"), "skill": "echo", "needs": ["source"], "approval": "Always",
            "input": {"n": "${steps.source.output.n}"}})
    }));
    steps.push(json!({"name": "free", "skill": "echo", "needs": ["other"], "input": {"n": "${steps.other.output.n}"}}));
    let mut bed = Bed::new(json!({"plan": {"parallelism": 100, "steps": steps}}));
    let good = |text: &str| json!({"status": "Succeeded", "output": {"sha256": Digest::of_bytes(text).hex(), "size": text.len(), "inline": text}});
    bed.end_with(Some(good(r#"{"n":1}"#)), "");
    let first = bed.observed.pods[0].key.clone();
    let report = json!({"version": 1, "attempt": first, "status": "Succeeded", "output": good(r#"{"n":1}"#)["output"]});
    bed.observed.pods[0].state = PodState::Ended(countersign_core::observed::PodEnd {
        report: Some(serde_json::from_value(report).unwrap()),
        reason: String::new(),
        output: None,
    });
    let mut decision = bed.reconcile();
    // As the shell does: what was lacked is loaded, and it is looked at again at once.
    for _ in 0..200 {
        let lacked = decision.blocked.outputs_needed();
        if lacked.is_empty() {
            break;
        }
        assert_eq!(decision.requeue, Some(bed.now), "at once");
        bed.observed.outputs.extend(lacked.into_iter().map(|step| (step, Arc::new(json!({"n": 1})))));
        decision = bed.reconcile();
    }
    let record = bed.observed.record.as_ref().unwrap();
    assert!(record.steps["free"].live_attempt().is_some(), "{:?}", decision.blocked);
    assert_eq!(record.approvals.len(), 40);
    // A guess that many who wait for people are in makes no difference either.
    bed.observed.outputs.clear();
    assert!(countersign_core::plan::wanted_outputs(record).contains("source"));
    let decision = bed.reconcile();
    assert_eq!(reason(&decision, "signed_39"), "WaitingApproval", "nothing is loaded for what waits for people");
    assert_eq!(
        decision.status.unwrap().steps.iter().filter(|step| step.state == StepState::WaitingApproval).count(),
        40
    );
}

#[test]
fn what_planning_lacks_is_asked_for_less_and_less_often_and_fails_with_its_name() {
    type Case = (Value, TemplateLookup, &'static str, &'static str);
    let plan = |skill: &str| json!({"plan": {"steps": [{"name": "only", "skill": skill}]}});
    let with_agent = json!({"agentRef": {"name": "bond"}, "plan": {"steps": [{"name": "only", "skill": "echo"}]}});
    let missing = TemplateLookup::Missing { name: "monthly".into() };
    let ambiguous = TemplateLookup::Ambiguous { message: "spec.type: several Plans carry it (a, b); keep one".into() };
    let cases: [Case; 4] = [
        (plan("gone"), TemplateLookup::NotNeeded, "SkillNotInstalled", "the Skill \"gone\""),
        (with_agent, TemplateLookup::NotNeeded, "AgentNotFound", "no Agent \"bond\""),
        (json!({"planRef": {"name": "monthly"}}), missing, "PlanNotFound", "no Plan \"monthly\""),
        (json!({"type": "odd"}), ambiguous, "PlanAmbiguous", "several Plans"),
    ];
    for (spec, template, why, words) in cases {
        let mut bed = Bed::new(spec);
        bed.observed.template = template;
        let began = bed.now;
        let mut looks = 0;
        let failed = loop {
            let decision = bed.reconcile();
            looks += 1;
            let Some(next) = decision.requeue else { break decision };
            assert!(phase(&decision).0 == "Planning" && phase(&decision).1.contains(why), "{:?}", phase(&decision));
            assert!(next > bed.now && next <= began + bed.config.planning_deadline, "{next}");
            bed.now = next;
        };
        assert_eq!(bed.now, began + bed.config.planning_deadline, "{why}");
        assert!(looks < 100, "{why}: {looks} looks");
        let (phase, message) = phase(&failed);
        assert!(phase == "Failed" && message.contains(why) && message.contains(words), "{phase}: {message}");
        assert!(message.contains("planningDeadlineSeconds"), "{message}");
    }
}

#[test]
fn an_attempt_that_was_voided_by_a_deletion_never_ran() {
    let mut bed = intended();
    bed.observed.task.as_mut().unwrap().deleting = true;
    let decision = bed.reconcile();
    let voided = |change: &Change| matches!(change, Change::FinishAttempt { outcome: AttemptOutcome::Voided, .. });
    assert!(decision.changes.iter().any(voided), "{:?}", decision.changes);
    let attempt = &bed.observed.record.as_ref().unwrap().steps["only"].attempts[0];
    assert!(matches!(&attempt.state, AttemptState::Finished { pod_uid: None, .. }));
}

/// Something that a step needs and that is not there.
const MISSING: [(&str, Alter, Alter, &str); 3] = [
    (
        "SkillNotInstalled",
        |bed| drop(Arc::make_mut(&mut bed.observed.skills).remove("pay")),
        |bed| bed.skill("pay", json!({})),
        "the Skill \"pay\" is not installed",
    ),
    (
        "SecretNotFound",
        |bed| {
            bed.skill(
                "pay",
                json!({"egress": [{"host": "h.example.com", "credential": {"secret": "key", "key": "k"}}]}),
            )
        },
        |bed| drop(Arc::make_mut(&mut bed.observed.secrets).insert("key".into(), Some("1".into()))),
        "the Secret \"key\" is not there",
    ),
    (
        "AgentNotFound",
        |bed| {
            let task = bed.observed.task.as_ref().unwrap();
            bed.observed.agent = acting("team", task.spec.agent_ref.as_ref(), task.spec.requester.as_ref(), []);
        },
        |bed| bed.observed.agent = payer(),
        "no Agent \"bond\"",
    ),
];

fn payer() -> Acting {
    let spec = json!({"allowedSkills": ["echo", "pay"]});
    Acting::of("team", "bond", serde_json::from_value(spec).unwrap())
}

/// Two steps; what the second needs goes once the Plan snapshot is taken.
fn needing() -> Bed {
    let mut bed = Bed::new(json!({"agentRef": {"name": "bond"},
        "plan": {"steps": [{"name": "first", "skill": "echo", "when": "false"}, {"name": "pays", "skill": "pay"}]}}));
    bed.skill("pay", json!({}));
    bed.observed.agent = payer();
    bed.observed.task.as_mut().unwrap().spec.suspend = true;
    bed.reconcile();
    bed.observed.task.as_mut().unwrap().spec.suspend = false;
    bed
}

#[test]
fn what_a_step_lacks_is_asked_for_until_it_fails_by_name_or_is_there() {
    for (why, take, give, words) in MISSING {
        for gives in [false, true] {
            let mut bed = needing();
            take(&mut bed);
            let began = bed.now;
            let mut looks = 0;
            while bed.now < began + bed.config.planning_deadline {
                let decision = bed.reconcile();
                looks += 1;
                assert_eq!(said(&decision, "pays").0, why, "{:?}", decision.blocked);
                assert!(phase(&decision).1.contains(words), "{:?}", phase(&decision));
                bed.now = decision.requeue.unwrap();
            }
            assert!(looks < 100, "{why}: {looks} looks");
            if gives {
                give(&mut bed);
                assert_eq!(started(&bed.reconcile()), ["pays"], "{why}");
            } else {
                let (phase, message) = phase(&bed.reconcile());
                assert!(phase == "Failed" && message.starts_with(why) && message.contains(words), "{phase}: {message}");
            }
        }
    }
}

#[test]
fn what_was_missing_and_came_back_is_waited_for_as_long_again() {
    let mut bed = needing();
    // A place would be free, and its budget has nothing left: so it is judged, and not started.
    bed.skill("pay", json!({"cost": {"ceiling": "1", "perAttempt": "1"}}));
    bed.observed.task.as_mut().unwrap().spec.budget = Some("1".into());
    let task = bed.observed.task.clone().unwrap();
    for line in Budgets::of(bed.now, &task, bed.observed.agent.agent(), &bed.observed.policies).lines {
        bed.observed.balances.insert(line.key, Balance { spent: "0".parse().unwrap(), held: "1".parse().unwrap() });
    }
    for _ in 0..3 {
        let skill = Arc::make_mut(&mut bed.observed.skills).remove("pay").unwrap();
        assert_eq!(reason(&bed.reconcile(), "pays"), "SkillNotInstalled");
        bed.now += bed.config.planning_deadline - SignedDuration::from_secs(1);
        assert_eq!(reason(&bed.reconcile(), "pays"), "SkillNotInstalled");
        Arc::make_mut(&mut bed.observed.skills).insert("pay".into(), skill);
        assert_eq!(reason(&bed.reconcile(), "pays"), "Deferred");
    }
}

#[test]
fn what_an_attempt_lacks_before_its_pod_is_let_in_fails_it_by_name_in_the_end() {
    let mut bed = needing();
    assert_eq!(started(&bed.reconcile()), ["pays"]);
    Arc::make_mut(&mut bed.observed.skills).remove("pay");
    let decision = bed.reconcile();
    assert_eq!(said(&decision, "pays").0, "SkillNotInstalled");
    assert!(!begins(&decision));
    bed.now += bed.config.planning_deadline;
    let decision = bed.reconcile();
    assert!(phase(&decision).1.contains("the Skill \"pay\" is not installed"), "{:?}", phase(&decision));
}
