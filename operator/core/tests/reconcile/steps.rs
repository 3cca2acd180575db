//! What is decided of steps and attempts, and in which words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_core::agent::{Acting, ActingError};
use countersign_core::digest::Digest;
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::observed::{Guard, Network, PodEnd, PodState, PodView};
use countersign_core::policy::PolicySet;
use countersign_core::record::{ApprovalState, AttemptOutcome, Change, Covered, TaskRecord};
use countersign_crds::{AgentSpec, PolicySpec, Priority, RbacSubject};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::bed::{Bed, ends, phase};

#[test]
fn what_cannot_run_says_which_step_and_field() {
    ends(Bed::step(json!({"skill": "gone"})), "Planning", "steps[0] (only).skill: the Skill \"gone\" is not installed");
    ends(Bed::step(json!({"needs": ["z"]})), "Failed", "steps[0] (only).needs[0]: there is no step \"z\"");
    ends(Bed::step(json!({"input": {"a": "${task.parameters.m}"}})), "Failed", "add it to spec.parameters");
    ends(Bed::step(json!({"input": {"a": "${steps.only.output}"}})), "Failed", "does not come before this one");
    ends(Bed::step(json!({"input": {"a": "${steps[task.name].output}"}})), "Failed", "is computed");
    ends(Bed::step(json!({"when": "task.parameters.n"})), "Failed", "when: ");
    ends(Bed::new(json!({"plan": {"steps": [{"name": "a", "skill": "echo", "needs": ["a"]}]}})), "Failed", "cycle");
    ends(Bed::new(json!({"type": "odd", "agentRef": {"name": "bond"}})), "Planning", "there is no Agent \"bond\"");
    let mut bed = Bed::step(json!({"input": {"deep": {"list": "${task.parameters.list}"}}}));
    let list = json!({"type": "array", "items": {"type": "integer"}});
    bed.skill("echo", json!({"input": {"properties": {"deep": {"properties": {"list": list}}}}}));
    ends(bed, "Failed", "steps[0] (only).input.deep.list[1]");
}

#[test]
fn a_type_without_template_is_one_generic_step_judged_like_the_rest() {
    let mut bed = Bed::new(json!({"type": "water_plants", "parameters": {"litres": 2}}));
    bed.skill("generic-action", json!({}));
    let decision = bed.reconcile();
    let launch = decision.changes.iter().find_map(|change| match change {
        Change::Intend { launch, .. } => Some(launch.input.clone()),
        _ => None,
    });
    assert_eq!(Value::Object(launch.unwrap()), json!({"action": "water_plants", "parameters": {"litres": 2}}));
}

#[test]
fn an_agent_binds_and_pauses() {
    let agent = |suspend: bool| -> AgentSpec {
        serde_json::from_value(json!({"allowedSkills": ["other"], "suspend": suspend})).unwrap()
    };
    let spec = json!({"agentRef": {"name": "bond"}, "plan": {"steps": [{"name": "only", "skill": "echo"}]}});
    let mut bed = Bed::new(spec.clone());
    bed.observed.agent = Acting::of("team", "bond", agent(false));
    ends(bed, "Rejected", "the Agent \"bond\" may not use the Skill \"echo\"");
    let mut bed = Bed::new(spec);
    bed.observed.agent = Acting::of("team", "bond", agent(true));
    let decision = bed.reconcile();
    assert!(
        !decision.actions.iter().any(|action| matches!(action, ClusterAction::CreateJob { .. })),
        "{:?}",
        decision.actions
    );
}

#[test]
fn who_stands_behind_the_requester_is_asked_for_nothing() {
    let ask = |bed: &mut Bed| {
        let asked = bed.reconcile().changes.into_iter().find_map(|change| match change {
            Change::RequestApproval { required, .. } => Some(required.excluded),
            _ => None,
        });
        asked.unwrap()
    };
    let mut bed = Bed::step(json!({"approval": "Always"}));
    assert_eq!(ask(&mut bed), [RbacSubject::user("carol")], "for whom it was asked");
    let mut bed = Bed::step(json!({"approval": "Always"}));
    let owners = json!([{"kind": "User", "name": "olga"}, {"kind": "User", "name": "carol"}]);
    let spec = json!({"allowedSkills": ["echo"], "owners": owners});
    bed.observed.agent = Acting::of("ops", "bond", serde_json::from_value(spec).unwrap());
    assert_eq!(ask(&mut bed), [RbacSubject::user("carol"), RbacSubject::user("olga")], "and the owners of its Agent");
    for user in ["olga", "carol", "dave"] {
        bed.sign(user, true);
        assert!(
            bed.reconcile().actions.iter().all(|action| !matches!(action, ClusterAction::CreateJob { .. })),
            "{user} signed for it"
        );
    }
    bed.sign("alice", true);
    assert!(bed.reconcile().actions.iter().any(|action| matches!(action, ClusterAction::CreateJob { .. })));
}

#[test]
fn a_rule_sees_where_the_agent_is_and_no_priority_above_normal_without_one() {
    let denied = |agent: Acting, rule: &str, words: &str| {
        let mut bed = Bed::new(json!({"plan": {"steps": [{"name": "only", "skill": "echo"}]}, "priority": "High"}));
        let policy = json!({"rules": [{"name": "seen", "match": rule, "effect": "Deny", "message": words},
            {"name": "all", "match": "true", "effect": "Allow"}]});
        let policy: PolicySpec = serde_json::from_value(policy).unwrap();
        bed.observed.policies = Arc::new(PolicySet::compile("ops", [("ops".to_owned(), "p".to_owned(), policy)]));
        bed.observed.agent = agent;
        ends(bed, "Rejected", words);
    };
    denied(Acting::Alone, "agent == null && task.priority == 'Normal'", "alone");
    let bond = Acting::of(
        "elsewhere",
        "bond",
        serde_json::from_value(json!({"allowedSkills": ["echo"], "priority": "High"})).unwrap(),
    );
    denied(bond, "agent.namespace == 'elsewhere' && agent.name == 'bond' && task.priority == 'High'", "urgent");
}

/// What the Agents are changes while a Task runs; nothing starts while nobody can say whose it is.
#[test]
fn nothing_starts_while_it_is_unclear_of_which_agent_it_is() {
    let unclear = Acting::Unclear(ActingError::Several { user: "dave".into(), agents: "ops/a, ops/b".into() });
    let mut bed = Bed::step(json!({}));
    bed.observed.agent = unclear.clone();
    let decision = bed.reconcile();
    assert!(phase(&decision).1.contains("several Agents (ops/a, ops/b)"), "{:?}", phase(&decision));
    assert!(decision.actions.is_empty(), "{:?}", decision.actions);
    bed.observed.agent = Acting::Alone;
    assert!(bed.reconcile().actions.iter().any(|action| matches!(action, ClusterAction::CreateJob { .. })));
    // It waits for its pod meanwhile.
    bed.observed.agent = unclear;
    let decision = bed.reconcile();
    assert!(
        !decision.actions.iter().any(|action| matches!(action, ClusterAction::AdmitPod { .. })),
        "{:?}",
        decision.actions
    );
}

#[test]
fn a_downgrade_is_judged_again_and_a_ring_of_them_ends() {
    let policy = json!({"rules": [
        {"name": "cheaper", "match": "skill.name != 'small'", "effect": "Downgrade"},
        {"name": "all", "match": "true", "effect": "Allow"}]});
    let with = |to: &str| {
        let mut bed = Bed::step(json!({}));
        let spec: PolicySpec = serde_json::from_value(policy.clone()).unwrap();
        bed.observed.policies = Arc::new(PolicySet::compile("ops", [("ops".to_owned(), "p".to_owned(), spec)]));
        bed.skill("echo", json!({"downgradeTo": to}));
        bed.skill("ring", json!({"downgradeTo": "echo"}));
        bed.skill("small", json!({}));
        bed
    };
    let decision = with("small").reconcile();
    assert!(
        decision
            .actions
            .iter()
            .any(|action| matches!(action, ClusterAction::CreateJob { launch, .. } if launch.skill == "small"))
    );
    ends(with("ring"), "Rejected", "nothing left to be downgraded to");
}

#[test]
fn what_changes_after_the_signature_voids_it_and_is_named() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.reconcile();
    bed.skill("echo", json!({"idempotent": false}));
    let decision = bed.reconcile();
    let superseded = decision.changes.iter().find_map(|change| match change {
        Change::SupersedeApproval { changed, .. } => Some(changed.clone()),
        _ => None,
    });
    assert_eq!(superseded.unwrap(), ["skill.spec.idempotent: true -> false"]);
    assert!(decision.changes.iter().any(|change| matches!(change, Change::RequestApproval { .. })), "asked again");
}

#[test]
fn a_change_between_intent_and_start_voids_the_attempt_and_its_signature() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.reconcile();
    bed.sign("alice", true);
    assert!(bed.reconcile().actions.iter().any(|action| matches!(action, ClusterAction::CreateJob { .. })));
    bed.skill("echo", json!({"timeout": "7s"}));
    let decision = bed.reconcile();
    assert!(decision.changes.iter().any(|change| {
        matches!(change, Change::FinishAttempt { outcome: AttemptOutcome::Voided, message: Some(m), .. } if m.contains("skill"))
    }));
    assert!(
        !decision.actions.iter().any(|action| matches!(action, ClusterAction::AdmitPod { .. })),
        "the pod is not let in"
    );
}

fn jobs(decision: &ReconcileOutput) -> Vec<&str> {
    let step = |action: &'_ ClusterAction| matches!(action, ClusterAction::CreateJob { .. });
    decision
        .actions
        .iter()
        .filter(|action| step(action))
        .map(|action| match action {
            ClusterAction::CreateJob { step, .. } => step.as_str(),
            _ => "",
        })
        .collect()
}

#[test]
fn it_takes_as_many_as_the_policy_says_and_never_the_requester() {
    let mut bed = Bed::step(json!({}));
    bed.asking(json!({"count": 2}));
    bed.reconcile();
    for (user, starts) in [("dave", false), ("alice", false), ("alice", false), ("bob", true)] {
        bed.sign(user, true);
        assert_eq!(jobs(&bed.reconcile()).len(), usize::from(starts), "after {user}");
    }
    let approval = bed.observed.record.as_ref().unwrap().approvals.values().next().unwrap();
    assert_eq!(approval.on_behalf_of.as_deref(), Some("carol"));
}

#[test]
fn nobody_signs_for_a_task_whose_requester_is_not_known() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.observed.task.as_mut().unwrap().spec.requester = None;
    ends(bed, "Rejected", "nobody knows who asked for it");
}

#[test]
fn signatures_count_for_nothing_while_the_guard_is_broken() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.reconcile();
    bed.observed.guard = Guard::Broken { problem: "the policy is gone".into() };
    bed.sign("alice", true);
    let decision = bed.reconcile();
    assert_eq!(jobs(&decision), [""; 0]);
    assert!(decision.requeue.is_some(), "looked at again");
    let steps = &decision.status.unwrap().steps;
    assert!(steps[0].message.as_ref().unwrap().contains("the policy is gone"), "{steps:?}");
    bed.observed.guard = Guard::Whole;
    assert_eq!(jobs(&bed.reconcile()), ["only"]);
}

#[test]
fn a_pod_is_not_let_in_while_the_guard_is_broken() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.reconcile();
    bed.sign("alice", true);
    assert_eq!(jobs(&bed.reconcile()), ["only"]);
    bed.observed.guard = Guard::Broken { problem: "the policy is gone".into() };
    assert!(!bed.reconcile().actions.iter().any(|action| matches!(action, ClusterAction::AdmitPod { .. })));
    bed.observed.guard = Guard::Whole;
    assert!(bed.reconcile().actions.iter().any(|action| matches!(action, ClusterAction::AdmitPod { .. })));
}

/// Three steps: the second waits for the first, the third's input is the second's output.
fn chain(approval: Value) -> Bed {
    let mut bed = Bed::new(json!({"plan": {"steps": [
        {"name": "one", "skill": "echo", "input": {"n": 1}},
        {"name": "two", "skill": "echo", "needs": ["one"], "input": {"n": 2}},
        {"name": "three", "skill": "echo", "needs": ["two"], "input": {"n": "${steps.two.output.n}"}}]}}));
    bed.asking(approval);
    bed
}

#[test]
fn one_signature_for_a_plan_covers_what_is_known_and_no_more() {
    let mut bed = chain(json!({"scope": "Plan"}));
    bed.reconcile();
    let covers = |bed: &Bed| {
        let record = bed.observed.record.as_ref().unwrap();
        let covers =
            |a: &countersign_core::record::ApprovalRecord| a.covers.keys().cloned().collect::<Vec<_>>().join(" ");
        record.approvals.values().map(covers).collect::<Vec<_>>()
    };
    assert_eq!(covers(&bed), ["one two"]);
    bed.sign("alice", true);
    assert_eq!(jobs(&bed.reconcile()), ["one"]);
    let decision = bed.end_with(Some(good("{}")), "");
    assert_eq!(jobs(&decision), ["two"], "under the same signature");
    let state = |bed: &Bed| bed.observed.record.as_ref().unwrap().approvals.values().next().unwrap().state.clone();
    assert_eq!(state(&bed), ApprovalState::Approved, "the second has not begun");
    bed.reconcile();
    assert_eq!(state(&bed), ApprovalState::Consumed);
    // A rule that does not say so gets a signature for each step.
    let mut bed = chain(json!({"scope": "Step"}));
    bed.reconcile();
    assert_eq!(covers(&bed), ["one"]);
}

#[test]
fn what_one_approval_cannot_hold_asks_with_another() {
    let steps: Vec<Value> = (0..32)
        .map(|n| json!({"name": format!("s{n}"), "skill": "echo", "input": {"text": "${task.parameters.text}"}}))
        .collect();
    let parameters = json!({"text": "x".repeat(60_000)});
    let mut bed = Bed::new(json!({"plan": {"parallelism": 100, "steps": steps}, "parameters": parameters}));
    bed.asking(json!({"scope": "Plan"}));
    let mut covered = std::collections::BTreeSet::new();
    for _ in 0..40 {
        for action in bed.reconcile().actions {
            let ClusterAction::CreateApproval { name: _, spec } = action else { continue };
            let bytes = json!(spec).to_string().len();
            assert!(bytes < 1 << 20, "etcd would refuse {bytes} bytes");
            covered.insert(spec.step.clone());
            covered.extend(spec.covers.iter().map(|covered| covered.step.clone()));
        }
    }
    let approvals = bed.observed.record.as_ref().unwrap().approvals.len();
    assert_eq!(covered.len(), 32, "every step is asked for");
    assert!((2..=16).contains(&approvals), "as few as can be: {approvals}");
}

#[test]
fn a_step_of_a_signed_plan_that_changes_voids_the_signature_for_all_that_have_not_run() {
    let mut bed = chain(json!({"scope": "Plan"}));
    bed.reconcile();
    bed.sign("alice", true);
    bed.reconcile();
    bed.skill("echo", json!({"timeout": "7s"}));
    let decision = bed.reconcile();
    let superseded = decision.changes.iter().find_map(|change| match change {
        Change::SupersedeApproval { changed, .. } => Some(changed.clone()),
        _ => None,
    });
    let changed = superseded.unwrap();
    assert!(changed.contains(&"one.skill.spec.timeout: \"5m\" -> \"7s\"".to_owned()), "{changed:?}");
    assert!(decision.changes.iter().any(|change| matches!(change, Change::RequestApproval { .. })), "asked again");
}

#[test]
fn a_rejection_of_a_plan_is_one_of_every_step_in_it() {
    let mut bed = chain(json!({"scope": "Plan"}));
    bed.reconcile();
    bed.sign("alice", false);
    let decision = bed.reconcile();
    assert_eq!(phase(&decision).0, "Rejected");
    let states: Vec<String> = decision.status.unwrap().steps.iter().map(|s| format!("{:?}", s.state)).collect();
    assert_eq!(states, ["Rejected", "Rejected", "Skipped"]);
}

#[test]
fn a_pod_that_was_there_before_the_attempt_is_checked_before_it_is_let_in() {
    let mut bed = Bed::step(json!({}));
    let key = countersign_core::names::attempt_key("uid", "task", "only", 1);
    let planted = PodView { name: "planted".into(), uid: "planted".into(), key, state: PodState::Unchecked };
    bed.observed.pods.push(planted);
    let decision = bed.reconcile();
    assert_eq!(decision.requeue, Some(bed.now), "to be looked at again at once");
    assert!(!decision.changes.iter().any(|change| matches!(change, Change::Admit { .. })));
    bed.observed.pods[0].state = PodState::Altered { field: "spec.containers[0].image".into() };
    let decision = bed.reconcile();
    assert!(!decision.changes.iter().any(|change| matches!(change, Change::Admit { .. })));
    assert!(phase(&decision).1.contains("spec.containers[0].image differs"), "{:?}", phase(&decision));
}

#[test]
fn a_pod_that_nobody_let_in_is_an_unknown_outcome() {
    let mut bed = Bed::step(json!({}));
    bed.reconcile();
    bed.observed.pods[0].state = PodState::Running;
    let decision = bed.reconcile();
    assert_eq!(phase(&decision).0, "Failed");
    assert!(phase(&decision).1.contains("ran without being let in"), "{:?}", phase(&decision));
}

pub fn good(text: &str) -> Value {
    json!({"status": "Succeeded", "output": {"sha256": Digest::of_bytes(text).hex(), "size": text.len(), "inline": text}})
}

#[test]
fn a_report_is_believed_only_as_far_as_it_can_be_checked() {
    let failed = |report: Option<Value>, reason: &str, words: &str| {
        let mut bed = Bed::step(json!({}));
        bed.skill("echo", json!({"output": {"type": "object", "required": ["n"]}}));
        let decision = bed.end_with(report, reason);
        let (phase, message) = phase(&decision);
        assert_eq!(phase, "Failed", "{message}");
        assert!(message.contains(words), "{message}");
    };
    failed(None, "OOMKilled, exit code 137", "OOMKilled");
    failed(Some(json!({"status": "Failed", "message": "exit code 1"})), "", "exit code 1");
    failed(Some(json!({"status": "Succeeded", "attempt": "another", "output": null})), "", "not of this attempt");
    failed(Some(json!({"status": "Succeeded", "version": 2, "output": null})), "", "counts for nothing");
    failed(Some(json!({"status": "Succeeded"})), "", "holds no output");
    failed(Some(good("{}")), "", "breaks the Skill's contract");
    failed(Some(good("{\"n\": 1, \"n\": 2}")), "", "not strict JSON");
    failed(Some(good("{\"n\": 9007199254740993}")), "", "not strict JSON");
    failed(Some(good("{\"n\": [\"\\u0000\"]}")), "", "n[0]: holds the character U+0000");
    let mut lie = good("{\"n\": 1}");
    lie["output"]["sha256"] = json!("0".repeat(64));
    failed(Some(lie), "", "not the one that the report's digest is of");
    let mut bed = Bed::step(json!({}));
    let decision = bed.end_with(Some(good("{ \"n\": 1 }")), "");
    assert_eq!(phase(&decision).0, "Completed");
    let digest = decision.status.unwrap().steps[0].output_digest.clone();
    assert_eq!(digest, Some(Digest::of_bytes("{\"n\":1}").to_string()), "of the canonical form");
}

#[test]
fn backoff_grows_is_bounded_and_only_what_is_idempotent_is_tried_again() {
    let mut pauses = Vec::new();
    let mut bed = Bed::step(json!({"retry": {"limit": 4, "backoff": "10s", "maxBackoff": "30s"}}));
    for _ in 0..4 {
        bed.observed.pods.clear();
        let decision = bed.end_with(Some(json!({"status": "Failed", "message": "m"})), "");
        let retry_at = decision.changes.iter().find_map(|change| match change {
            Change::FinishAttempt { retry_at, .. } => *retry_at,
            _ => None,
        });
        let pause = retry_at.unwrap().duration_since(bed.now);
        pauses.push(pause.as_secs());
        assert_eq!(decision.requeue, retry_at);
        bed.now += pause;
    }
    for (pause, least) in pauses.iter().zip([10, 20, 30, 30]) {
        assert!((least..=least + least / 2).contains(pause), "{pauses:?}");
    }
    bed.observed.pods.clear();
    assert_eq!(phase(&bed.end_with(Some(json!({"status": "Failed", "message": "m"})), "")).0, "Failed", "the limit");
    let mut bed = Bed::step(json!({"retry": {"limit": 4}}));
    bed.skill("echo", json!({"idempotent": false}));
    assert_eq!(phase(&bed.end_with(Some(json!({"status": "Failed", "message": "m"})), "")).0, "Failed");
}

#[test]
fn the_status_is_bounded_whatever_the_size_of_the_plan() {
    let steps: Vec<Value> = (0..2000)
        .map(|n| {
            json!({"name": format!("step_with_a_rather_long_name_to_fill_the_status_{n}"), "skill": "echo",
                        "input": {"padding": "x".repeat(100)}})
        })
        .collect();
    let mut bed = Bed::new(json!({"plan": {"parallelism": 100, "steps": steps}}));
    let decision = bed.reconcile();
    let status = decision.status.unwrap();
    let bytes = serde_json::to_vec(&status).unwrap().len();
    let progress = status.progress.unwrap();
    assert_eq!((status.steps.len(), progress.total, progress.omitted, progress.running), (200, 2000, 1800, 100));
    assert!(bytes < 256 * 1024, "{bytes}");
    println!("a status of 2,000 steps has {bytes} bytes");
}

/// What a step that may not start yet says.
fn held(decision: &ReconcileOutput, step: &str) -> String {
    let steps = &decision.status.as_ref().unwrap().steps;
    steps.iter().find(|found| found.name == step).unwrap().message.clone().unwrap_or_default()
}

const GOES_OUT: &str =
    r#"{"egress": [{"host": "api.example.com", "credential": {"secret": "price-api", "key": "token"}}]}"#;

#[test]
fn nothing_goes_out_without_a_broker_or_a_secret_that_it_was_given() {
    let mut bed = Bed::step(json!({}));
    bed.skill("echo", serde_json::from_str(GOES_OUT).unwrap());
    bed.config.broker = false;
    bed.reconcile();
    assert!(held(&bed.reconcile(), "only").contains("no broker is installed; set broker.enabled"));
    bed.config.broker = true;
    assert!(
        held(&bed.reconcile(), "only").contains("the Secret \"price-api\" is not there or not given to the broker")
    );
    Arc::make_mut(&mut bed.observed.secrets).insert("price-api".into(), Some("17".into()));
    Arc::make_mut(&mut bed.observed.secrets).insert("price-api".into(), None);
    assert!(held(&bed.reconcile(), "only").contains("do not agree yet on what is in the Secret \"price-api\""));
    Arc::make_mut(&mut bed.observed.secrets).insert("price-api".into(), Some("17".into()));
    let intended = bed.reconcile();
    let Some(Change::Intend { launch, .. }) = intended.changes.first() else { panic!("{:?}", intended.changes) };
    assert_eq!(launch.secrets.get("price-api").map(String::as_str), Some("17"));
}

#[test]
fn a_secret_that_changes_after_a_signature_voids_it() {
    let mut bed = Bed::step(json!({"approval": "Always"}));
    bed.skill("echo", serde_json::from_str(GOES_OUT).unwrap());
    Arc::make_mut(&mut bed.observed.secrets).insert("price-api".into(), Some("17".into()));
    bed.reconcile();
    bed.reconcile();
    bed.sign("alice", true);
    Arc::make_mut(&mut bed.observed.secrets).insert("price-api".into(), Some("18".into()));
    let looks: Vec<Change> = (0..3).flat_map(|_| bed.reconcile().changes).collect();
    let voided = looks
        .iter()
        .any(|change| matches!(change, Change::SupersedeApproval { changed, .. } if changed == &["secrets.price-api: \"17\" -> \"18\""]));
    assert!(voided, "{looks:?}");
    assert!(!looks.iter().any(|change| matches!(change, Change::Intend { .. })), "{looks:?}");
}

#[test]
fn where_a_closed_network_is_required_nothing_starts_in_an_open_one() {
    let mut bed = Bed::step(json!({}));
    bed.config.require_network_policy = true;
    bed.reconcile();
    assert!(held(&bed.reconcile(), "only").contains("no canary has tried yet"));
    bed.observed.network = Network::Open { reached: "10.0.0.1:443".into() };
    let open = bed.reconcile();
    assert!(held(&open, "only").contains("reached 10.0.0.1:443"), "{:?}", open.status);
    let condition = open.status.unwrap().conditions.into_iter().find(|c| c.type_ == "NetworkIsolated").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "NotEnforced"));
    bed.observed.network = Network::Closed;
    assert!(matches!(bed.reconcile().changes.first(), Some(Change::Intend { .. })));
    // It opens before the pod is let in.
    bed.observed.network = Network::Open { reached: "10.0.0.1:443".into() };
    assert!(bed.reconcile().changes.is_empty());
    bed.observed.network = Network::Closed;
    assert!(matches!(bed.reconcile().changes.first(), Some(Change::Admit { .. })));
}

#[test]
fn the_evidence_says_whether_the_network_was_closed() {
    let evidence = json!({"noNewPrivs": true, "seccomp": true, "userNamespace": true, "kernel": "6"});
    for (network, expected) in
        [(Network::NotTried, None), (Network::Closed, Some(true)), (Network::Open { reached: "x".into() }, Some(false))]
    {
        let mut bed = Bed::step(json!({}));
        bed.observed.network = network;
        bed.reconcile();
        let decision = bed.end_with(Some(json!({"status": "Failed", "evidence": evidence})), "Error");
        let Some(Change::FinishAttempt { evidence: Some(evidence), .. }) = decision.changes.first() else {
            panic!("{:?}", decision.changes)
        };
        assert_eq!(evidence.network_policy, expected);
    }
}

#[test]
fn a_step_begins_with_the_files_of_the_steps_that_it_needs() {
    let step = |name: &str, needs: &[&str]| json!({"name": name, "skill": "files", "needs": needs});
    let steps = [step("a", &[]), step("b", &["a"]), step("c", &["a"]), step("d", &["b", "c"]), step("e", &[])];
    let mut bed = Bed::new(json!({"plan": {"steps": steps}}));
    bed.skill("files", json!({"workspace": "Write"}));
    let tree = |name: &str| Digest::of_bytes(name);
    let mut began = BTreeMap::new();
    for _ in 0..20 {
        for change in bed.reconcile().changes {
            if let Change::Intend { step, launch, .. } = change {
                began.insert(step, launch.workspace);
            }
        }
        let running: Vec<_> = bed.observed.pods.iter_mut().filter(|pod| pod.state == PodState::Running).collect();
        for pod in running {
            let record = bed.observed.record.as_ref().unwrap();
            let of = |step: &countersign_core::record::StepRecord| step.attempts.iter().any(|a| a.key == pod.key);
            let (step, _) = record.steps.iter().find(|(_, step)| of(step)).unwrap();
            let output = json!({"sha256": Digest::of_bytes("1").hex(), "size": 1, "inline": "1"});
            let report = json!({"version": 1, "attempt": pod.key, "status": "Succeeded", "output": output,
                "workspace": tree(step).to_string()});
            let report = Some(serde_json::from_value(report).unwrap());
            pod.state = PodState::Ended(PodEnd { report, reason: "Completed".into(), output: None });
        }
    }
    let expected = [
        ("a", vec![]),
        ("b", vec![tree("a")]),
        ("c", vec![tree("a")]),
        ("d", vec![tree("b"), tree("c")]),
        ("e", vec![]),
    ];
    assert_eq!(began, expected.map(|(step, trees)| (step.to_owned(), trees)).into());
}

#[test]
fn a_steps_timeout_shortens_the_skills_and_never_lengthens_it() {
    for (step, seconds) in [(None, 60), (Some("10s"), 10), (Some("1m"), 60), (Some("2m"), 60), (Some("24h"), 60)] {
        let mut bed = Bed::step(step.map_or(json!({}), |timeout| json!({"timeout": timeout})));
        bed.skill("echo", json!({"timeout": "1m"}));
        let decision = bed.reconcile();
        let Some(ClusterAction::CreateJob { launch, .. }) =
            decision.actions.iter().find(|action| action.kind() == "create_job")
        else {
            panic!("{step:?}: {:?}", decision.actions)
        };
        assert_eq!(launch.timeout_seconds, seconds, "{step:?}");
    }
}

/// What was asked of people just now.
fn request(decision: &ReconcileOutput) -> (&Digest, &BTreeMap<String, Covered>, Timestamp) {
    let asked = decision.changes.iter().find_map(|change| match change {
        Change::RequestApproval { digest, covers, expires_at, .. } => Some((digest, covers, *expires_at)),
        _ => None,
    });
    asked.unwrap_or_else(|| panic!("nothing was asked: {:?}", decision.changes))
}

#[test]
fn signatures_are_awaited_for_a_day_where_nothing_else_is_said() {
    let day = SignedDuration::from_hours(24);
    let mut plan = Bed::step(json!({"approval": "Always"}));
    assert_eq!(request(&plan.reconcile()).2, plan.now + day);
    for (approval, after) in
        [(json!({"count": 2}), day), (json!({"expiresAfter": "90m"}), SignedDuration::from_mins(90))]
    {
        let mut policy = Bed::step(json!({}));
        policy.asking(approval);
        assert_eq!(request(&policy.reconcile()).2, policy.now + after);
    }
}

/// A step that waits for a signature and is bound to something of every kind: `first` left files, `only` begins with
/// them, shows a Secret, and runs an image.
fn bound() -> (Bed, Digest, BTreeMap<String, Covered>) {
    let only = json!({"name": "only", "skill": "pay", "needs": ["first"], "approval": "Always",
        "input": {"n": "${task.parameters.n}"}});
    let steps = json!([{"name": "first", "skill": "files"}, only]);
    let mut bed = Bed::new(json!({"parameters": {"n": 1}, "agentRef": {"name": "bond"}, "plan": {"steps": steps}}));
    let spec = json!({"allowedSkills": ["files", "pay"]});
    bed.observed.agent = Acting::of("team", "bond", serde_json::from_value(spec).unwrap());
    bed.skill("files", json!({"workspace": "Write"}));
    bed.skill("pay", json!({"workspace": "Read", "egress": [{"host": "api.example.com", "credential": {"secret": "key", "key": "k"}}]}));
    Arc::make_mut(&mut bed.observed.secrets).insert("key".into(), Some("17".into()));
    let mut report = good("1");
    report["workspace"] = json!(Digest::of_bytes("tree").to_string());
    let asked = bed.end_with(Some(report), "Completed");
    let (digest, covers, _) = request(&asked);
    let (digest, covers) = (*digest, covers.clone());
    bed.reconcile();
    (bed, digest, covers)
}

#[test]
fn a_signature_is_bound_to_each_member_and_the_one_that_changes_is_named() {
    fn record(bed: &mut Bed) -> &mut TaskRecord {
        bed.observed.record.as_mut().unwrap()
    }
    type Case = (&'static [&'static str], fn(&mut Bed));
    let cases: [Case; 13] = [
        (&["task"], |bed| bed.observed.task.as_mut().unwrap().uid = "another".into()),
        (&["requester"], |bed| record(bed).request.requester.as_mut().unwrap().user = "eve".into()),
        (&["agent", "task"], |bed| {
            let Acting::Agent(agent) = &mut bed.observed.agent else { panic!() };
            agent.spec.priority = Priority::Low;
        }),
        (&["step"], |bed| record(bed).plan.as_mut().unwrap().steps[1].when = Some("true".into())),
        (&["step", "timeoutSeconds"], |bed| {
            record(bed).plan.as_mut().unwrap().steps[1].timeout = Some("1s".into());
        }),
        (&["input", "task"], |bed| drop(record(bed).plan.as_mut().unwrap().parameters.insert("n".into(), json!(2)))),
        (&["skill"], |bed| {
            Arc::make_mut(&mut bed.observed.skills).get_mut("pay").unwrap().idempotent = true;
        }),
        // What runs a built-in is the runner, so its image is both.
        (&["image", "profile"], |bed| bed.config.runner_image = "runner@sha256:1".into()),
        (&["secrets"], |bed| drop(Arc::make_mut(&mut bed.observed.secrets).insert("key".into(), Some("18".into())))),
        (&["workspace"], |bed| {
            record(bed).steps.get_mut("first").unwrap().workspace = Some(Digest::of_bytes("another tree"));
        }),
        (&["rules", "risk"], |bed| {
            bed.rules(json!([{"name": "all", "match": "true", "effect": "Allow", "risk": "High"}]))
        }),
        (&["ask", "rules"], |bed| {
            let ask = json!({"count": 2});
            bed.rules(json!([{"name": "all", "match": "true", "effect": "RequireApproval", "approval": ask}]));
        }),
        (&["run"], |bed| {
            let steps = &mut record(bed).steps;
            let before = steps["first"].attempts[0].clone();
            steps.get_mut("only").unwrap().attempts.push(before);
        }),
    ];
    let (_, _, covers) = bound();
    let value = |covered: &Covered| json!(covered.binding.as_ref().unwrap());
    let binding = value(&covers["only"]);
    let mut members: BTreeSet<&str> = binding.as_object().unwrap().keys().map(String::as_str).collect();
    // The form of the binding itself; what there is none of yet; what has a test of its own.
    for member in ["version", "taint", "payment"] {
        members.remove(member);
    }
    for (expected, change) in cases {
        let (mut bed, before, covers) = bound();
        change(&mut bed);
        let decision = bed.reconcile();
        let named = decision.changes.iter().find_map(|change| match change {
            Change::SupersedeApproval { changed, .. } => Some(changed.clone()),
            _ => None,
        });
        let named = named.unwrap_or_else(|| panic!("{expected:?}: {:?}", decision.changes));
        let of = |field: &String| field.split(['.', ':']).next().unwrap().to_owned();
        let named: BTreeSet<String> = named.iter().map(of).collect();
        assert_eq!(named, expected.iter().map(|&member| member.to_owned()).collect(), "{:?}", decision.changes);
        let (after, again, _) = request(&decision);
        assert_ne!(before, *after, "{expected:?}");
        for member in expected {
            assert_ne!(value(&covers["only"])[member], value(&again["only"])[member], "{member}");
            members.remove(member);
        }
    }
    assert_eq!(members, BTreeSet::new(), "members without a case");
}
