//! One Task, looked at as often as one likes, with the real judge.

use std::sync::Arc;

use countersign_core::agent::acting;
use countersign_core::blocked::BlockedReason;
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::{Config, Evaluators, decide};
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::judge::{Case, Judge, Judgement, PolicyJudge};
use countersign_core::observed::{ApprovalView, Guard, Observed, PodEnd, PodState, PodView, TaskView, TemplateLookup};
use countersign_core::policy::PolicySet;
use countersign_crds::{PolicySpec, SkillSpec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

pub struct Bed {
    pub now: Timestamp,
    pub observed: Observed,
    pub config: Config,
    pub judge: PolicyJudge,
    /// The evaluator has no time for anything.
    pub busy: bool,
}

/// A judge that gets no time from the evaluator.
struct Busy;

impl Judge for Busy {
    fn judge(&self, _: &Case<'_>) -> Judgement {
        Judgement::blocked(BlockedReason::EvaluatorBusy, "the Policies cannot be evaluated at this moment")
    }
}

impl Bed {
    pub fn new(spec: Value) -> Bed {
        let mut spec = spec;
        let asked = json!({"user": "dave", "groups": ["agents"]});
        spec.as_object_mut().unwrap().entry("requester").or_insert(asked);
        let allow: PolicySpec =
            serde_json::from_value(json!({"rules": [{"name": "all", "match": "true", "effect": "Allow"}]})).unwrap();
        let task = TaskView {
            uid: "uid".into(),
            namespace: "team".into(),
            name: "task".into(),
            generation: Some(1),
            spec: serde_json::from_value(spec).unwrap(),
            on_behalf_of: Some("carol".into()),
            mark: None,
            deleting: false,
            conditions: Vec::new(),
        };
        let agent = acting("team", task.spec.agent_ref.as_ref(), task.spec.requester.as_ref(), []);
        let observed = Observed {
            agent,
            template: TemplateLookup::NoneForType,
            policies: Arc::new(PolicySet::compile("ops", [("ops".to_owned(), "p".to_owned(), allow)])),
            guard: Guard::Whole,
            ..Observed::of(task)
        };
        let config = Config {
            runner_image: "runner@sha256:0".into(),
            broker: true,
            networks: Default::default(),
            require_network_policy: false,
            start_deadline: SignedDuration::from_secs(300),
            planning_deadline: SignedDuration::from_hours(1),
        };
        let now = "2026-11-21T00:00:00Z".parse().unwrap();
        let mut bed = Bed { now, observed, config, judge: PolicyJudge::new(CelEvaluator::new()), busy: false };
        bed.skill("echo", json!({"idempotent": true}));
        bed
    }

    /// One step of `echo` with this input.
    pub fn step(more: Value) -> Bed {
        let mut step = json!({"name": "only", "skill": "echo"});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Bed::new(json!({"plan": {"steps": [step]}, "parameters": {"n": 1, "list": [1, "two"]}}))
    }

    pub fn skill(&mut self, name: &str, more: Value) {
        let mut spec = json!({"effect": "Read", "builtin": {"name": "generic_action"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: SkillSpec = serde_json::from_value(spec).unwrap();
        Arc::make_mut(&mut self.observed.skills).insert(name.to_owned(), spec);
    }

    /// One rule that asks for this, of every step.
    pub fn asking(&mut self, approval: Value) {
        self.rules(json!([{"name": "sign", "match": "true", "effect": "RequireApproval", "approval": approval}]));
    }

    /// The rules of the cluster's one Policy.
    pub fn rules(&mut self, rules: Value) {
        self.policies(&[("ops", "p", json!({"rules": rules}))]);
    }

    /// Every Policy that there is: namespace, name and spec.
    pub fn policies(&mut self, policies: &[(&str, &str, Value)]) {
        let spec = |spec: &Value| serde_json::from_value::<PolicySpec>(spec.clone()).unwrap();
        let owned = policies.iter().map(|(namespace, name, of)| ((*namespace).into(), (*name).into(), spec(of)));
        self.observed.policies = Arc::new(PolicySet::compile("ops", owned));
    }

    /// A reconciliation; its changes are recorded and its actions done.
    pub fn reconcile(&mut self) -> ReconcileOutput {
        let evaluators = Evaluators::from(&self.judge);
        let evaluators = if self.busy { Evaluators { judge: &Busy, ..evaluators } } else { evaluators };
        let decision = decide(self.now, &self.config, &self.observed, &evaluators).unwrap();
        self.observed.lasts = decision.blocked.lasts(&self.observed.lasts, self.now);
        self.observed.record = decision.record.clone();
        for action in &decision.actions {
            match action {
                ClusterAction::CreatePlan { .. } => self.observed.plan_snapshot_exists = true,
                ClusterAction::CreateJob { key, .. } => {
                    self.observed.jobs.insert(key.clone());
                    let state = PodState::Gated;
                    self.observed.pods.push(PodView { name: key.clone(), uid: key.clone(), key: key.clone(), state });
                }
                ClusterAction::AdmitPod { key, .. } => {
                    let mut pods = self.observed.pods.iter_mut();
                    pods.find(|pod| pod.key == *key).unwrap().state = PodState::Running;
                }
                ClusterAction::CreateApproval { name, spec } => {
                    let digest = spec.digest.clone();
                    let view = ApprovalView {
                        uid: String::new(),
                        generation: None,
                        digest,
                        decisions: Vec::new(),
                        reported: None,
                    };
                    self.observed.approvals.insert(name.clone(), view);
                }
                ClusterAction::Mark { mark } => self.observed.task.as_mut().unwrap().mark = Some(mark.to_string()),
                ClusterAction::ReportApproval { .. } | ClusterAction::DeleteJob { .. } | ClusterAction::DeleteTask => {}
            }
        }
        decision
    }

    /// This person signs whatever waits.
    pub fn sign(&mut self, user: &str, approved: bool) {
        for approval in self.observed.approvals.values_mut() {
            approval.decisions.push(countersign_crds::Signature {
                user: user.into(),
                uid: None,
                groups: Vec::new(),
                approved,
                reason: None,
                at: Time(self.now),
                digest: approval.digest.clone(),
                seal: "checked before".into(),
            });
        }
    }

    /// Every pod that runs ends, and nobody knows how.
    pub fn end_running(&mut self) {
        let end = PodEnd { report: None, reason: "exit code 1".into(), output: None };
        for pod in self.observed.pods.iter_mut().filter(|pod| pod.state == PodState::Running) {
            pod.state = PodState::Ended(end.clone());
        }
    }

    /// Looks until the pod runs, and ends it with this report.
    pub fn end_with(&mut self, report: Option<Value>, reason: &str) -> ReconcileOutput {
        self.reconcile();
        self.reconcile();
        let last = self.observed.pods.len() - 1;
        let key = self.observed.pods[last].key.clone();
        let report = report.map(|mut report| {
            report.as_object_mut().unwrap().entry("attempt").or_insert(json!(key));
            report.as_object_mut().unwrap().entry("version").or_insert(json!(1));
            serde_json::from_value(report).unwrap()
        });
        self.observed.pods[last].state = PodState::Ended(PodEnd { report, reason: reason.into(), output: None });
        self.reconcile()
    }
}

/// Reason and message of the condition `Succeeded`.
pub fn phase(decision: &ReconcileOutput) -> (String, String) {
    let status = decision.status.as_ref().unwrap();
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Succeeded").unwrap();
    (condition.reason.clone(), condition.message.clone())
}

#[track_caller]
pub fn ends(mut bed: Bed, expected: &str, words: &str) {
    let decision = bed.reconcile();
    let (phase, message) = phase(&decision);
    assert_eq!(phase, expected, "{message}");
    assert!(message.contains(words), "{message}");
    let again = bed.reconcile();
    assert!(again.changes.is_empty(), "a second look changes nothing: {:?}", again.changes);
}
