//! One Task with these steps, looked at by the real decider until it is over.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_core::binding::{Binding, Ruling, Work};
use countersign_core::blocked::{Blocked, BlockedReason};
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::{Config, Evaluators, decide};
use countersign_core::digest::Digest;
use countersign_core::effect::ClusterAction;
use countersign_core::judge::{Case, Judge, Judgement, Prepared};
use countersign_core::observed::{Observed, PodEnd, PodState, PodView, Report, ReportOutput, ReportStatus, TaskView};
use countersign_core::record::{StepRecord, TaskOutcome};
use countersign_crds::{PlanTemplate, SkillSpec, Step};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use crate::model::{Fate, Results};

pub const START_DEADLINE: SignedDuration = SignedDuration::from_secs(300);
/// Between two looks.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// More than any of these Tasks takes.
const MOST_LOOKS: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    Cancel,
    Deadline,
    Delete,
}

impl Event {
    /// That of a Task which ends for it.
    pub fn reason(self) -> &'static str {
        match self {
            Event::Cancel => "Cancelled",
            Event::Deadline => "DeadlineExceeded",
            Event::Delete => "Deleted",
        }
    }
}

pub struct Run<'a> {
    now: Timestamp,
    pub observed: Observed,
    judge: Table<'a>,
    /// Whether the first of several pods ends first.
    first: bool,
    pub looks: usize,
    pub work_was_over_when_it_happened: bool,
    /// The steps that started since.
    pub started_after_it: Vec<String>,
}

thread_local! {
    static EVALUATOR: OnceCell<CelEvaluator> = const { OnceCell::new() };
}

impl<'a> Run<'a> {
    pub fn new(steps: &'a [Step], fates: &'a [Fate], first: bool) -> Run<'a> {
        let skill: SkillSpec =
            serde_json::from_value(json!({"effect": "Read", "builtin": {"name": "generic_action"}})).unwrap();
        let mut spec: countersign_crds::TaskSpec = serde_json::from_value(json!({})).unwrap();
        spec.plan = Some(PlanTemplate { parallelism: 10, steps: steps.to_vec() });
        let task = TaskView {
            uid: "task".into(),
            namespace: "ns".into(),
            name: "task".into(),
            generation: Some(1),
            spec,
            on_behalf_of: None,
            conditions: Vec::new(),
            mark: None,
            deleting: false,
        };
        let skills = steps.iter().map(|step| (step.skill.clone(), skill.clone())).collect();
        let fates = steps.iter().zip(fates).map(|(step, fate)| (step.name.as_str(), *fate)).collect();
        Run {
            now: "2026-11-21T00:00:00Z".parse().unwrap(),
            observed: Observed { skills: Arc::new(skills), ..Observed::of(task) },
            judge: Table { fates, skill },
            first,
            looks: 0,
            work_was_over_when_it_happened: false,
            started_after_it: Vec::new(),
        }
    }

    /// Looks until the Task is over; the event happens before the reconciliation of that number, and then everything
    /// that runs is ended as it is told.
    pub fn until_over(mut self, event: Option<(usize, Event)>) -> Run<'a> {
        while self.observed.record.as_ref().is_none_or(|record| record.finished.is_none()) {
            assert!(self.looks < MOST_LOOKS, "not over: {:#?}", self.observed.record);
            if let Some((at, event)) = event
                && at == self.looks
            {
                self.happen(event);
            }
            let happened = event.is_some_and(|(at, _)| at <= self.looks);
            self.reconcile(happened);
        }
        self
    }

    pub fn looked(mut self, times: usize) -> Run<'a> {
        (0..times).for_each(|_| self.reconcile(false));
        self
    }

    fn happen(&mut self, event: Event) {
        let over =
            |step: &Step| self.observed.record.as_ref().is_some_and(|record| !record.steps[&step.name].is_open());
        let steps = self.observed.task.iter().flat_map(|task| &task.spec.plan).flat_map(|plan| &plan.steps);
        let planned = self.observed.record.as_ref().is_some_and(|record| record.plan.is_some());
        let over = planned && steps.into_iter().filter(|step| !step.finally).all(over);
        self.work_was_over_when_it_happened = over;
        let Some(task) = &mut self.observed.task else { return };
        match event {
            Event::Cancel => task.spec.cancel = true,
            Event::Deadline => task.spec.deadline = Some(self.now.into()),
            Event::Delete => self.observed.task = None,
        }
    }

    fn reconcile(&mut self, happened: bool) {
        let config = Config {
            runner_image: "runner".into(),
            broker: true,
            networks: Default::default(),
            require_network_policy: false,
            start_deadline: START_DEADLINE,
            planning_deadline: SignedDuration::from_hours(1),
        };
        let live = |observed: &Observed| -> Vec<(String, String)> {
            let steps = observed.record.iter().flat_map(|record| &record.steps);
            let live = |(name, step): (&String, &StepRecord)| Some((name.clone(), step.live_attempt()?.key.clone()));
            steps.filter_map(live).collect()
        };
        let before = live(&self.observed);
        let decision = EVALUATOR.with(|evaluator| {
            let evaluators = Evaluators { judge: &self.judge, evaluator: evaluator.get_or_init(CelEvaluator::new) };
            decide(self.now, &config, &self.observed, &evaluators).unwrap()
        });
        self.looks += 1;
        self.now += PAUSE;
        self.observed.record = decision.record;
        let after = live(&self.observed);
        if happened {
            let new = after.iter().filter(|attempt| !before.contains(attempt));
            self.started_after_it.extend(new.map(|(step, _)| step.clone()));
        }
        for action in decision.actions {
            self.act(action);
        }
        // Whatever takes a reconciliation to be let in takes one more to end.
        let running: Vec<usize> = (0..self.observed.pods.len())
            .filter(|n| self.observed.pods[*n].state == PodState::Running)
            .filter(|n| before.iter().any(|(_, key)| *key == self.observed.pods[*n].key))
            .collect();
        let ends = if self.first { running.first() } else { running.last() };
        if let Some(n) = ends {
            let key = &self.observed.pods[*n].key;
            let step = after.iter().find(|(_, live)| live == key).map(|(step, _)| step.clone());
            self.end(*n, &step.unwrap_or_default());
        }
    }

    fn act(&mut self, action: ClusterAction) {
        match action {
            ClusterAction::CreatePlan { .. } => self.observed.plan_snapshot_exists = true,
            ClusterAction::CreateJob { key, .. } => {
                self.observed.jobs.insert(key.clone());
                self.observed.pods.push(PodView { name: key.clone(), uid: key.clone(), key, state: PodState::Gated });
            }
            ClusterAction::AdmitPod { key, .. } => {
                self.observed.pods.iter_mut().find(|pod| pod.key == key).unwrap().state = PodState::Running;
            }
            ClusterAction::DeleteJob { key } => {
                self.observed.jobs.remove(&key);
                self.observed.pods.retain(|pod| pod.key != key);
            }
            ClusterAction::CreateApproval { .. }
            | ClusterAction::ReportApproval { .. }
            | ClusterAction::Mark { .. }
            | ClusterAction::DeleteTask => {}
        }
    }

    fn end(&mut self, pod: usize, step: &str) {
        let fate = self.judge.fates.get(step).copied().unwrap_or(Fate::Succeeds);
        let status = match fate {
            Fate::Succeeds => ReportStatus::Succeeded,
            Fate::Vanishes => {
                self.observed.pods.remove(pod);
                return;
            }
            Fate::Fails | Fate::Denied | Fate::WhenFalse | Fate::NotYet => ReportStatus::Failed,
        };
        let output = ReportOutput { sha256: Digest::of_bytes("{}").hex(), size: 2, inline: Some("{}".into()) };
        let report = Report {
            version: 1,
            attempt: self.observed.pods[pod].key.clone(),
            status,
            message: "so it was to be".into(),
            output: Some(output),
            evidence: None,
            workspace: None,
            finished_at: None,
        };
        self.observed.pods[pod].state =
            PodState::Ended(PodEnd { report: Some(report), reason: String::new(), output: None });
    }

    pub fn results(&self) -> Results {
        let steps = self.observed.record.iter().flat_map(|record| &record.steps);
        steps.filter_map(|(name, step)| Some((name.clone(), step.state.ended()?))).collect()
    }

    pub fn outcome(&self) -> TaskOutcome {
        self.observed.record.as_ref().unwrap().finished.as_ref().unwrap().outcome
    }

    pub fn reason(&self) -> &str {
        &self.observed.record.as_ref().unwrap().finished.as_ref().unwrap().reason
    }
}

/// Says of each step what its fate is.
struct Table<'a> {
    fates: BTreeMap<&'a str, Fate>,
    skill: SkillSpec,
}

impl Judge for Table<'_> {
    fn judge(&self, case: &Case<'_>) -> Judgement {
        match self.fates[case.step.name.as_str()] {
            Fate::Denied => Judgement::Denied { message: "no".into(), rules: Vec::new(), budget: None },
            Fate::WhenFalse => Judgement::Skip,
            Fate::NotYet => Judgement::Blocked {
                blocked: Blocked::new(BlockedReason::SkillNotInstalled, "its Skill is not there"),
                budget: None,
            },
            Fate::Succeeds | Fate::Fails | Fate::Vanishes => {
                let work = Work {
                    skill: case.step.skill.clone(),
                    contract: self.skill.clone(),
                    input: Map::new(),
                    image: "image".into(),
                    timeout_seconds: 60,
                    secrets: BTreeMap::new(),
                    workspace: Vec::new(),
                    payment: None,
                };
                let binding = Binding::of(case, work, Ruling::default());
                let (digest, input_digest) = (binding.digest().unwrap(), Digest::of_bytes("{}"));
                let (limits, rules, budget) = (Vec::new(), Vec::new(), None);
                Judgement::Ready(Box::new(Prepared { input_digest, binding, digest, limits, rules, budget }))
            }
        }
    }
}
