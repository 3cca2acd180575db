//! An operator: it looks with views that lag, decides, and carries its effects out one at a time, so that
//! anything may happen between any two of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use countersign_core::blocked::{Blocked, BlockedReason, BlockedReasons, Lasts};
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::{Evaluators, decide};
use countersign_core::effect::{ClusterAction, ReconcileOutput};
use countersign_core::judge::{Judge, PolicyJudge};
use countersign_core::observed::{ApprovalView, Guard, Network, Observed, PodState, PodView, TaskView, TemplateLookup};
use countersign_core::record::{AttemptState, Change, StepOutcome, TaskRecord};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::check::{self, Violation};
use crate::draw::Draw;
use crate::money;
use crate::table::TableJudge;
use crate::world::{Api, World};

/// A defect that the checker must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    ActsBeforeItRecords,
    AdmitsAnyPod,
    IgnoresTheVersion,
    ForgetsTheApproval,
    StartsAllAtOnce,
    ReservesBlindly,
    /// Nothing is looked at again but what is seen to change.
    ForgetsToRequeue,
    /// A time-out of the evaluator is taken for a fault of the Plan.
    TakesBusyForInvalid,
    BeginsWhileSuspended,
    /// Takes a step that was skipped for one that succeeded.
    TakesSkippedForSucceeded,
    /// Takes what carries no mark for the first of its request, and the store lets it.
    ForgetsWhatRan,
    /// Takes what carries the mark of a run for a request of its own.
    IgnoresTheMark,
}

#[derive(Clone)]
pub(crate) struct Operator {
    view: Api,
    pending: VecDeque<Effect>,
    defect: Option<Defect>,
    /// Where it does not judge by a table.
    judge: Option<PolicyJudge>,
    evaluator: CelEvaluator,
    /// When it looks again although nothing is seen to change.
    pub requeue: Option<Timestamp>,
    /// What the last reconciliation said of what does not go on.
    blocked: BlockedReasons,
    /// Since when what steps need has been missing.
    lasts: Lasts,
}

#[derive(Clone, Debug)]
enum Effect {
    Record { seen: Option<i64>, changes: Vec<Change>, base: Box<Option<TaskRecord>> },
    Action(ClusterAction),
    Report(Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>),
}

thread_local! {
    /// Worlds are many and evaluate nothing, so they share one evaluator.
    static EVALUATOR: CelEvaluator = CelEvaluator::new();
}

impl Operator {
    pub fn new(defect: Option<Defect>) -> Operator {
        Operator::with(defect, None, EVALUATOR.with(Clone::clone))
    }

    /// One that judges by the Policies of its world.
    pub fn judging_by(judge: PolicyJudge) -> Operator {
        let evaluator = judge.evaluator().clone();
        Operator::with(None, Some(judge), evaluator)
    }

    fn with(defect: Option<Defect>, judge: Option<PolicyJudge>, evaluator: CelEvaluator) -> Operator {
        Operator {
            view: Api::default(),
            pending: VecDeque::new(),
            defect,
            judge,
            evaluator,
            requeue: None,
            blocked: BlockedReasons::default(),
            lasts: Lasts::new(),
        }
    }

    /// What was in hand is lost; the views are what a new process lists.
    pub fn crash(&mut self, world: &mut World) {
        world.say(|| format!("operator crashes with {} effects in hand", self.pending.len()));
        world.tally.crashes += u64::from(!self.pending.is_empty());
        self.pending.clear();
        self.view = world.api.clone();
        self.lasts.clear();
        // A new process looks at every Task.
        self.requeue = Some(world.now);
    }

    /// What was in hand failed: it is looked at again.
    fn fail(&mut self, world: &World) {
        self.pending.clear();
        self.requeue = Some(world.now);
    }

    /// Whether it looks: something that it watches is not as it saw it last, or the time has come.
    pub fn is_woken(&self, world: &World) -> bool {
        self.view != world.api || self.requeue.is_some_and(|at| at <= world.now)
    }

    /// When it looks again although nothing is seen to change.
    pub fn requeue(&self) -> Option<Timestamp> {
        self.requeue
    }

    /// What does not go on, as its last reconciliation said.
    pub fn blocked(&self) -> &BlockedReasons {
        &self.blocked
    }

    /// One effect, or a reconciliation where none is in hand.
    pub fn step(&mut self, world: &mut World, draw: &mut Draw) -> Result<(), Violation> {
        match self.pending.pop_front() {
            None => {
                self.catch_up(world, draw);
                self.reconcile(world)
            }
            Some(effect) => {
                // The request is lost on the way, or its answer on the way back: either way the rest of what
                // was in hand is not done.
                let lost = draw.one_in(12);
                let unanswered = draw.one_in(12);
                if !lost {
                    self.perform(world, effect)?;
                }
                if lost || unanswered {
                    self.fail(world);
                }
                Ok(())
            }
        }
    }

    /// Whether effects are in hand.
    pub fn busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether everything that does not go on waits for what only people do.
    pub fn waits_for_people(&self) -> bool {
        let theirs = |blocked: &Blocked| match blocked.reason {
            BlockedReason::Suspended | BlockedReason::GuardBroken | BlockedReason::WaitingApproval => true,
            BlockedReason::PlanNotFound
            | BlockedReason::PlanAmbiguous
            | BlockedReason::AgentNotFound
            | BlockedReason::AgentAmbiguous
            | BlockedReason::AgentMismatch
            | BlockedReason::EarlierRun
            | BlockedReason::SkillNotInstalled
            | BlockedReason::SecretNotFound
            | BlockedReason::SecretChanging
            | BlockedReason::BrokerNotInstalled
            | BlockedReason::PaymentNetworkNotConfigured
            | BlockedReason::EvaluatorBusy
            | BlockedReason::EvaluatorTimedOut
            | BlockedReason::OutputNotLoaded(_)
            | BlockedReason::Deferred
            | BlockedReason::NetworkNotTried
            | BlockedReason::NetworkOpen
            | BlockedReason::Retrying
            | BlockedReason::ParallelismReached
            | BlockedReason::PodPending
            | BlockedReason::PodUnchecked => false,
        };
        self.blocked.all().next().is_some() && self.blocked.all().all(theirs)
    }

    /// What tells two operators apart; where it matters, also when they look again.
    pub fn describe(&self, requeue: bool) -> String {
        let requeue = requeue.then_some((&self.requeue, &self.blocked, &self.lasts));
        format!("{:?} {:?} {requeue:?}", self.view, self.pending)
    }

    /// The next effect; or a reconciliation, with a true view or with the one that it had. False where a reconciliation
    /// finds nothing, or the view would be no other.
    pub fn explore_step(&mut self, world: &mut World, fresh: bool) -> Result<bool, Violation> {
        match self.pending.pop_front() {
            Some(_) if !fresh => return Ok(false),
            Some(effect) => self.perform(world, effect)?,
            None => {
                let before = self.describe(true);
                if fresh {
                    self.view = world.api.clone();
                }
                self.reconcile(world)?;
                // The status is written last and read by nobody here.
                self.pending.retain(|effect| !matches!(effect, Effect::Report(_)));
                return Ok(self.busy() || before != self.describe(true));
            }
        }
        Ok(true)
    }

    /// A reconciliation with a true view, carried out to its end.
    pub fn look_fresh(&mut self, world: &mut World) -> Result<(), Violation> {
        self.view = world.api.clone();
        self.reconcile(world)?;
        while let Some(effect) = self.pending.pop_front() {
            self.perform(world, effect)?;
            check::check(world)?;
        }
        Ok(())
    }

    /// A reconciliation with a true view, carried out to its end; whether anything came of it.
    pub fn look_and_perform(&mut self, world: &mut World) -> Result<bool, Violation> {
        self.view = world.api.clone();
        self.reconcile(world)?;
        let busy = self.busy();
        while let Some(effect) = self.pending.pop_front() {
            self.perform(world, effect)?;
        }
        Ok(busy)
    }

    /// Whether a reconciliation with a true view finds nothing to change and nothing to do.
    pub fn idle_when_fresh(&mut self, world: &mut World) -> Result<bool, Violation> {
        self.view = world.api.clone();
        let decision = self.decide(world)?;
        Ok(decision.changes.is_empty() && decision.actions.is_empty())
    }

    /// Each kind's watch catches up by itself, or does not.
    fn catch_up(&mut self, world: &World, draw: &mut Draw) {
        let truth = world.api.clone();
        if draw.one_in(2) {
            self.view.task = truth.task;
        }
        if draw.one_in(2) {
            self.view.skills = truth.skills;
        }
        if draw.one_in(2) {
            self.view.plan_snapshot_exists = truth.plan_snapshot_exists;
        }
        if draw.one_in(2) {
            self.view.jobs = truth.jobs;
        }
        if draw.one_in(2) {
            self.view.pods = truth.pods;
        }
        if draw.one_in(2) {
            self.view.approvals = truth.approvals;
        }
    }

    fn reconcile(&mut self, world: &mut World) -> Result<(), Violation> {
        // A Task that was never seen is nobody's; one that is gone was, as its record says.
        if world.postgres_away || (self.view.task.is_none() && world.api.task.is_some()) {
            self.fail(world);
            return Ok(());
        }
        let ReconcileOutput { changes, actions, status, requeue, blocked, record: _ } = self.decide(world)?;
        check::check_begins(self.view.task.as_ref(), &changes, &actions)?;
        self.lasts = blocked.lasts(&self.lasts, world.now);
        self.requeue = requeue.filter(|_| self.defect != Some(Defect::ForgetsToRequeue));
        self.blocked = blocked;
        world.say(|| format!("look: {} changes, {} actions", changes.len(), actions.len()));
        let seen = world.record.as_ref().map(|record| record.version);
        if !changes.is_empty() {
            self.pending.push_back(Effect::Record { seen, changes, base: Box::new(world.record.clone()) });
        }
        self.pending.extend(actions.into_iter().map(Effect::Action));
        if self.defect == Some(Defect::ActsBeforeItRecords) {
            self.pending.rotate_left(1.min(self.pending.len()));
        }
        if self.busy() {
            self.pending.extend(status.map(|status| Effect::Report(status.conditions)));
        }
        Ok(())
    }

    fn decide(&self, world: &World) -> Result<ReconcileOutput, Violation> {
        let invalid = self.defect == Some(Defect::TakesBusyForInvalid);
        let table = TableJudge { busy: world.evaluator_busy, invalid };
        let judge: &dyn Judge = match &self.judge {
            Some(judge) => judge,
            None => &table,
        };
        let evaluators = Evaluators { judge, evaluator: &self.evaluator };
        decide(world.now, &world.config, &self.observe(world), &evaluators)
            .map_err(|error| Violation::new(format!("the core contradicts itself: {error}")))
    }

    fn observe(&self, world: &World) -> Observed {
        let mut record = world.record.clone();
        if self.defect == Some(Defect::StartsAllAtOnce)
            && let Some(plan) = record.as_mut().and_then(|record| record.plan.as_mut())
        {
            plan.parallelism = u32::MAX;
        }
        if self.defect == Some(Defect::TakesSkippedForSucceeded) {
            let steps = record.iter_mut().flat_map(|record| record.steps.values_mut());
            steps.filter(|step| step.state == StepOutcome::Skipped).for_each(|s| s.state = StepOutcome::Succeeded);
        }
        let mut pods: Vec<PodView> = views(&self.view);
        // As the shell does: an admitted pod that the view lacks is looked for in the API server itself.
        for step in record.iter().flat_map(|record| record.steps.values()) {
            let Some(attempt) = step.live_attempt() else { continue };
            let AttemptState::Admitted { pod_uid, .. } = &attempt.state else { continue };
            if !pods.iter().any(|pod| pod.uid == *pod_uid) {
                pods.retain(|pod| pod.key != attempt.key);
                pods.extend(views(&world.api).into_iter().filter(|pod| pod.key == attempt.key));
            }
        }
        let mut task = self.view.task.clone();
        if self.defect == Some(Defect::BeginsWhileSuspended)
            && let Some(task) = &mut task
        {
            task.spec.suspend = false;
        }
        if self.defect == Some(Defect::IgnoresTheMark)
            && record.is_none()
            && let Some(task) = &mut task
        {
            task.mark = None;
        }
        let unmarked = |task: &&TaskView| record.is_none() || (task.mark.is_none() && !task.deleting);
        let asked = task.as_ref().filter(unmarked);
        let remembered = asked.filter(|task| task.mark.is_some() || !self.forgets_what_ran());
        let prior = remembered.and_then(|task| world.runs.earlier(&world.place, task));
        Observed {
            namespace_uid: asked.map(|_| world.place.clone()).unwrap_or_default(),
            prior,
            task,
            record,
            template: TemplateLookup::NotNeeded,
            plan_snapshot_exists: self.view.plan_snapshot_exists,
            skills: Arc::new(self.view.skills.clone()),
            agent: Default::default(),
            policies: Arc::clone(&world.policies),
            secrets: Arc::default(),
            network: if world.network_known { Network::Closed } else { Network::NotTried },
            approvals: self.view.approvals.clone(),
            pods,
            jobs: self.view.jobs.clone(),
            guard: if world.guard_broken { Guard::Broken { problem: "it is gone".into() } } else { Guard::Whole },
            outputs: outputs(world),
            balances: world.ledger.balances.clone(),
            external: Default::default(),
            lasts: self.lasts.clone(),
        }
    }

    fn forgets_what_ran(&self) -> bool {
        self.defect == Some(Defect::ForgetsWhatRan)
    }

    fn perform(&mut self, world: &mut World, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Record { seen, changes, base } => self.record(world, seen, &changes, *base),
            Effect::Action(action) => self.on_cluster(world, action),
            Effect::Report(conditions) => {
                if let Some(task) = &mut world.api.task {
                    task.conditions = conditions;
                }
                Ok(())
            }
        }
    }

    fn record(
        &mut self,
        world: &mut World,
        seen: Option<i64>,
        changes: &[Change],
        base: Option<TaskRecord>,
    ) -> Result<(), Violation> {
        if world.postgres_away {
            self.fail(world);
            return Ok(());
        }
        let current = world.record.as_ref().map(|record| record.version);
        let mut next = if current == seen {
            world.record.clone()
        } else if self.defect == Some(Defect::IgnoresTheVersion) {
            base
        } else {
            world.tally.conflicts += 1;
            self.fail(world);
            return Ok(());
        };
        for change in changes {
            check::check_change(world, next.as_ref(), change)?;
            match (&mut next, change) {
                (None, Change::Adopt { uid, namespace, name, request, at, .. }) => {
                    next = Some(TaskRecord::adopt(uid.clone(), namespace.clone(), name.clone(), request.clone(), *at));
                }
                (Some(record), change) => {
                    let change = self.spoil(change.clone());
                    record.apply(&change).map_err(|error| Violation::new(error.to_string()))?;
                }
                (None, _) => return Err(Violation::new("a record that begins with something else than adopt")),
            }
            world.say(|| format!("  recorded {}", change.kind()));
        }
        if let (Some(next), Some(seen)) = (&mut next, seen) {
            next.version = seen + 1;
        }
        let spoilt: Vec<Change> = changes.iter().map(|change| self.spoil(change.clone())).collect();
        let Ok(ledger) = money::post(world, next.as_ref(), &spoilt) else {
            world.tally.outbid += 1;
            self.fail(world);
            return Ok(());
        };
        let uid = next.as_ref().map(|record| record.uid.clone()).unwrap_or_default();
        let Ok(runs) = world.runs.after(&uid, &spoilt, !self.forgets_what_ran()) else {
            world.tally.conflicts += 1;
            self.fail(world);
            return Ok(());
        };
        world.tally.commits += 1;
        for change in changes {
            world.tally.reserved += u64::from(matches!(change, Change::Intend { budget: Some(_), .. }));
            world.tally.deferred += u64::from(matches!(change, Change::Defer { .. }));
        }
        if let Some(kept) = &mut world.kept {
            kept.extend(changes.iter().cloned());
        }
        world.ledger = ledger;
        world.runs = runs;
        world.record = next;
        Ok(())
    }

    fn spoil(&self, change: Change) -> Change {
        match change {
            Change::Intend { step, number, key, digest, input_digest, approval: _, launch, rules, budget, at }
                if self.defect == Some(Defect::ForgetsTheApproval) =>
            {
                Change::Intend { step, number, key, digest, input_digest, approval: None, launch, rules, budget, at }
            }
            Change::Intend {
                step,
                number,
                key,
                digest,
                input_digest,
                approval,
                launch,
                rules,
                budget: Some(seen),
                at,
            } if self.defect == Some(Defect::ReservesBlindly) => {
                let budget = Some(Box::new(money::blind(&seen)));
                Change::Intend { step, number, key, digest, input_digest, approval, launch, rules, budget, at }
            }
            other => other,
        }
    }

    fn on_cluster(&mut self, world: &mut World, action: ClusterAction) -> Result<(), Violation> {
        world.say(|| format!("  action {}", action.kind()));
        match action {
            ClusterAction::CreatePlan { .. } => world.api.plan_snapshot_exists = true,
            ClusterAction::CreateApproval { name, spec } => {
                let fresh = ApprovalView {
                    uid: String::new(),
                    generation: Some(1),
                    digest: spec.digest.clone(),
                    decisions: Vec::new(),
                    reported: None,
                };
                world.asked.insert(name.clone(), *spec);
                world.api.approvals.entry(name).or_insert(fresh);
            }
            ClusterAction::ReportApproval { name, status } => {
                if let Some(approval) = world.api.approvals.get_mut(&name) {
                    approval.reported = countersign_core::status::reported(&status);
                }
            }
            ClusterAction::Mark { mark } => {
                if let Some(task) = &mut world.api.task {
                    task.mark = Some(mark.to_string());
                }
            }
            ClusterAction::CreateJob { key, .. } => {
                check::check_job(world, &key)?;
                if world.api.task.is_some() {
                    world.api.jobs.insert(key);
                }
            }
            ClusterAction::AdmitPod { key, pod_uid, .. } => {
                for pod in world.api.pods.values_mut() {
                    let this = pod.uid == pod_uid || (self.defect == Some(Defect::AdmitsAnyPod) && pod.key == key);
                    if this && pod.state == PodState::Gated {
                        pod.state = PodState::Waiting { message: None };
                        world.tally.admissions += 1;
                    }
                }
            }
            ClusterAction::DeleteJob { key } => {
                world.api.jobs.remove(&key);
            }
            ClusterAction::DeleteTask => world.api.task = None,
        }
        Ok(())
    }
}

fn views(api: &Api) -> Vec<PodView> {
    let view = |(name, pod): (&String, &crate::world::Pod)| PodView {
        name: name.clone(),
        uid: pod.uid.clone(),
        key: pod.key.clone(),
        state: pod.state.clone(),
    };
    api.pods.iter().map(view).collect()
}

/// All outputs that were recorded, where what is recorded is kept; nobody refers to them in other worlds.
fn outputs(world: &World) -> BTreeMap<String, Arc<Value>> {
    let output = |change: &Change| match change {
        Change::FinishAttempt { step, output: Some(output), .. } => {
            Some((step.clone(), Arc::new(output.value.clone())))
        }
        _ => None,
    };
    world.kept.iter().flatten().filter_map(output).collect()
}

/// The report of a pod that went well, as the runner writes it.
pub(crate) fn good_report(key: &str, output: &Value) -> Value {
    let output = output.to_string();
    let digest = countersign_core::digest::Digest::of_bytes(&output);
    json!({
        "version": 1, "attempt": key, "status": "Succeeded", "message": "",
        "output": {"sha256": digest.hex(), "size": output.len(), "inline": output},
    })
}
