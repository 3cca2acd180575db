//! A Task is decided about, one reconciliation after the other, in a world in which every attempt succeeds and whoever
//! is asked signs: the decider itself on a clock and a ledger of its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use countersign_crds::{Required, Signature, Step};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Inputs;
use super::estimate::{self, Takes};
use super::foresight::{Answer, Foresight, Obstructed, OpenWhen, passed_over};
use super::known::When;
use super::simulation::StepCost;
use crate::agent::Acting;
use crate::blocked::BlockedReasons;
use crate::budget::{Balance, Budgets, Closing, Ledger, Line, LineKey};
use crate::decide::{Dozing, Evaluators, View, Worklist, begin, budgets, settle};
use crate::digest::Digest;
use crate::json::canonical;
use crate::money::Money;
use crate::observed::{
    ApprovalView, Guard, Network, Observed, PodEnd, PodState, PodView, Report, ReportOutput, ReportStatus,
};
use crate::plan::Chosen;
use crate::record::{ApplyError, Change, StepOutcome};

/// How many reconciliations at one instant may come to something, for each step of the Plan.
const LOOKS_AT_ONE_INSTANT: usize = 32;

/// How long attempts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As long as half of them.
    Usual,
    /// As long as one in twenty.
    Slow,
}

/// What is assumed of what nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Assumed {
    pub open_when: OpenWhen,
    pub obstructed: Obstructed,
    pub pace: Pace,
}

/// What happened.
pub(super) struct Course {
    /// In the order in which they were decided.
    pub changes: Vec<Change>,
    /// What was said last of each step that was judged.
    pub told: BTreeMap<String, Rc<Answer>>,
    /// Of each step that ran.
    pub ran: BTreeMap<String, Ran>,
    /// The steps that waited for money that only others could give back.
    pub outwaited: BTreeSet<String>,
    /// Every limit that bore on it at some time.
    pub lines: BTreeMap<LineKey, Line>,
    pub balances: BTreeMap<LineKey, Balance>,
}

/// An attempt, as it was estimated.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub cost: StepCost,
    pub takes: Takes,
}

pub(super) struct Rehearsal<'a> {
    inputs: &'a Inputs,
    chosen: &'a Chosen,
    foresight: &'a Foresight<'a>,
    evaluators: Evaluators<'a>,
    assumed: Assumed,
    steps: BTreeMap<&'a str, &'a Step>,
    now: Timestamp,
    observed: Observed,
    budgets: Budgets,
    record: Option<Worklist>,
    blocked: BlockedReasons,
    dozing: RefCell<Vec<Dozing>>,
    ledger: Ledger,
    /// What others gave back, as if their attempts had cost nothing.
    given_back: BTreeMap<LineKey, Money>,
    /// The attempts whose pods run, by their end: step and key.
    running: BTreeSet<(Timestamp, String, String)>,
    changes: Vec<Change>,
    ran: BTreeMap<String, Ran>,
    outwaited: BTreeSet<String>,
    lines: BTreeMap<LineKey, Line>,
}

impl<'a> Rehearsal<'a> {
    pub fn new(
        now: Timestamp,
        inputs: &'a Inputs,
        chosen: &'a Chosen,
        foresight: &'a Foresight<'a>,
        evaluators: Evaluators<'a>,
        assumed: Assumed,
    ) -> Rehearsal<'a> {
        let mut observed = inputs.observed.clone();
        observed.plan_snapshot_exists = true;
        observed.guard = Guard::Whole;
        if assumed.obstructed == Obstructed::PassedOver {
            clear_the_way(&mut observed);
        }
        let mut ledger = Ledger::default();
        ledger.balances.clone_from(&observed.balances);
        foresight.begin(assumed.open_when, assumed.obstructed);
        let mut rehearsal = Rehearsal {
            inputs,
            chosen,
            foresight,
            evaluators,
            assumed,
            steps: chosen.plan.steps.iter().map(|step| (step.name.as_str(), step)).collect(),
            now,
            observed,
            budgets: Budgets::default(),
            record: None,
            blocked: BlockedReasons::default(),
            dozing: RefCell::default(),
            ledger,
            given_back: BTreeMap::new(),
            running: BTreeSet::new(),
            changes: Vec::new(),
            ran: BTreeMap::new(),
            outwaited: BTreeSet::new(),
            lines: BTreeMap::new(),
        };
        rehearsal.bind();
        rehearsal
    }

    /// To the end of the Task, or to where nothing more comes of it.
    pub fn run(mut self) -> Result<Course, ApplyError> {
        let (record, begun) = begin(&self.view(), &self.chosen.plan)?;
        (self.record, self.changes) = (record, begun);
        self.look_until_quiet()?;
        while !self.is_over() {
            match self.next_instant() {
                Some(at) => {
                    self.now = at;
                    self.end_pods();
                }
                None if self.others_give_back() => {}
                None => break,
            }
            self.look_until_quiet()?;
        }
        let Rehearsal { foresight, mut ledger, given_back, changes, ran, outwaited, lines, .. } = self;
        for (key, amount) in given_back {
            let balance = ledger.balances.entry(key).or_default();
            balance.held = balance.held.saturating_add(amount);
        }
        let (told, balances) = (foresight.take_told(), ledger.balances);
        Ok(Course { changes, told, ran, outwaited, lines, balances })
    }

    fn view(&self) -> View<'_> {
        View {
            now: self.now,
            config: &self.inputs.config,
            observed: &self.observed,
            evaluators: &self.evaluators,
            budgets: &self.budgets,
            dozing: Some(&self.dozing),
        }
    }

    fn is_over(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.finished.is_some())
    }

    /// What binds at this instant: windows end while a Plan runs.
    fn bind(&mut self) {
        self.budgets = budgets(self.now, &self.observed);
        self.lines.extend(self.budgets.lines.iter().map(|line| (line.key.clone(), line.clone())));
    }

    /// Looks as often as anything comes of it, at one instant.
    fn look_until_quiet(&mut self) -> Result<(), ApplyError> {
        if self.budgets.lines.iter().filter_map(|line| line.ends_at).any(|ends| ends <= self.now) {
            self.bind();
        }
        for _ in 0..LOOKS_AT_ONE_INSTANT.saturating_mul(self.steps.len().max(1)) {
            if !self.reconcile()? {
                return Ok(());
            }
        }
        Err(ApplyError {
            task: self.observed.task.as_ref().map(|task| task.name.clone()).unwrap_or_default(),
            change: "reconcile",
            problem: "what is decided at one instant comes to no end".to_owned(),
        })
    }

    /// One reconciliation, and what the world answers to it at once.
    fn reconcile(&mut self) -> Result<bool, ApplyError> {
        let seen = |line: &Line| Some((line.key.clone(), *self.ledger.balances.get(&line.key)?));
        self.observed.balances = self.budgets.lines.iter().filter_map(seen).collect();
        if let Some(record) = &mut self.record {
            record.see_balances();
        }
        let (mut record, mut blocked) = (self.record.take(), std::mem::take(&mut self.blocked));
        let changes = settle(&self.view(), &mut record, &mut blocked)?;
        (self.record, self.blocked) = (record, blocked);
        #[cfg(test)]
        self.index_is_that_of_the_record();
        let mut answered = false;
        for change in &changes {
            answered |= self.answer(change);
        }
        self.changes.extend(changes);
        let obstructed = passed_over();
        let obstructed = self.blocked.steps.iter().filter(|(_, why)| **why == obstructed);
        for step in obstructed.map(|(step, _)| step.clone()).collect::<Vec<_>>() {
            answered |= self.pass_over(&step)?;
        }
        Ok(answered)
    }

    /// Whatever changes led here, the index is what the record alone would give.
    #[cfg(test)]
    fn index_is_that_of_the_record(&self) {
        let Some(record) = &self.record else { return };
        let mut followed = record.clone();
        followed.see_balances();
        followed.rouse(|_, _| Vec::new());
        assert!(followed == Worklist::new(record.clone().into_record()), "the index is not that of its record");
    }

    /// Whether something is to be seen for it.
    fn answer(&mut self, change: &Change) -> bool {
        match change {
            Change::Intend { step, key, launch, budget, digest, .. } => {
                self.foresight.is_intended(step, *digest, budget.as_deref());
                if let Some(decision) = budget {
                    // It was weighed against these very balances, so it fits.
                    self.ledger.reserve(key, decision).ok();
                }
                self.estimate(step, &launch.skill, Duration::from_secs(u64::from(launch.timeout_seconds)));
                let (name, uid, key) = (key.clone(), key.clone(), key.clone());
                self.observed.pods.push(PodView { name, uid, key, state: PodState::Gated });
                true
            }
            Change::Admit { step, pod_uid, .. } => {
                let run = self.ran.get(step).map_or(Duration::ZERO, |ran| match self.assumed.pace {
                    Pace::Usual => ran.takes.p50,
                    Pace::Slow => ran.takes.p95,
                });
                self.running.insert((later(self.now, run), step.clone(), pod_uid.clone()));
                for pod in self.observed.pods.iter_mut().filter(|pod| pod.uid == *pod_uid) {
                    pod.state = PodState::Running;
                }
                if run.is_zero() {
                    self.end_pods();
                }
                run.is_zero()
            }
            Change::FinishAttempt { step, number, .. } => {
                let attempts =
                    self.record.as_ref().and_then(|record| record.steps.get(step)).map(|step| &step.attempts);
                let attempt = attempts.and_then(|attempts| attempts.iter().find(|attempt| attempt.number == *number));
                let Some((key, launched)) = attempt.map(|a| (a.key.clone(), a.launched())) else { return false };
                let cost = self.ran.get(step).map_or(Money::ZERO, |ran| ran.cost.expected);
                let closing = if launched { Closing::Settle(cost) } else { Closing::Release };
                // What has no price has no reservation.
                self.ledger.close(&key, closing).ok();
                self.observed.pods.retain(|pod| pod.key != key);
                if launched {
                    self.load(step);
                } else {
                    self.ran.remove(step);
                }
                true
            }
            Change::RequestApproval { name, digest, required, .. } => {
                let signed = self.signed(digest.to_string(), required);
                self.observed.approvals.insert(name.clone(), signed);
                true
            }
            Change::Adopt { .. }
            | Change::SnapshotPlan { .. }
            | Change::SignApproval { .. }
            | Change::DecideApproval { .. }
            | Change::ExpireApproval { .. }
            | Change::SupersedeApproval { .. }
            | Change::WithdrawApproval { .. }
            | Change::Defer { .. }
            | Change::FinishStep { .. }
            | Change::BeginEnding { .. }
            | Change::FinishTask { .. } => false,
        }
    }

    fn estimate(&mut self, step: &str, skill: &str, timeout: Duration) {
        let (Some(planned), Some(contract)) = (self.steps.get(step), self.observed.skills.get(skill)) else { return };
        let history = self.inputs.history.get(skill);
        let most = self.budgets.per_attempt.as_ref().map(|(most, _)| *most);
        let certain = self.foresight.when(step) != Some(When::Open);
        let cost = estimate::cost(planned, contract, history, certain, most);
        let takes = estimate::takes(contract, history, timeout);
        self.ran.insert(step.to_owned(), Ran { cost, takes });
    }

    /// Everybody who has to sign does, at once.
    fn signed(&self, digest: String, required: &Required) -> ApprovalView {
        let decision = |number: u32| Signature {
            user: format!("signer {number} of a simulation"),
            uid: None,
            groups: required.groups.clone(),
            approved: true,
            reason: None,
            at: Time(self.now),
            digest: digest.clone(),
            seal: String::new(),
        };
        let decisions = (0..required.count.max(1)).map(decision).collect();
        ApprovalView { uid: String::new(), generation: None, digest: digest.clone(), decisions, reported: None }
    }

    /// A step that something stands in the way of is taken for done, at no cost, so that others can be told of.
    fn pass_over(&mut self, step: &str) -> Result<bool, ApplyError> {
        let Some(record) = &mut self.record else { return Ok(false) };
        let change = Change::FinishStep {
            step: step.to_owned(),
            outcome: StepOutcome::Succeeded,
            reason: None,
            message: None,
            output: None,
            rules: Vec::new(),
            budget: None,
            at: self.now,
        };
        record.apply(&change)?;
        self.changes.push(change);
        self.load(step);
        Ok(true)
    }

    /// What the step returned can be seen from now on, if somebody knows it.
    fn load(&mut self, step: &str) {
        match self.inputs.outputs.get(step) {
            Some(output) => drop(self.observed.outputs.insert(step.to_owned(), output.clone())),
            None => self.foresight.is_unknown(step),
        }
    }

    /// The pods that are done by now say so.
    fn end_pods(&mut self) {
        while let Some((at, _, _)) = self.running.first()
            && *at <= self.now
        {
            let Some((_, step, key)) = self.running.pop_first() else { return };
            let end = self.good_end(&step, &key);
            for pod in self.observed.pods.iter_mut().filter(|pod| pod.key == key) {
                pod.state = PodState::Ended(end.clone());
            }
        }
    }

    /// As the runner reports it; where nobody knows what it returns, with nothing.
    fn good_end(&self, step: &str, key: &str) -> PodEnd {
        let output = self.inputs.outputs.get(step).map(|output| canonical::to_vec(output));
        let text = output.and_then(Result::ok).and_then(|bytes| String::from_utf8(bytes).ok());
        let inline = text.unwrap_or_else(|| "null".to_owned());
        let output = ReportOutput {
            sha256: Digest::of_bytes(&inline).hex(),
            size: u32::try_from(inline.len()).unwrap_or(u32::MAX),
            inline: Some(inline),
        };
        let report = Report {
            version: 1,
            attempt: key.to_owned(),
            status: ReportStatus::Succeeded,
            message: String::new(),
            output: Some(output),
            evidence: None,
            workspace: None,
            finished_at: None,
        };
        PodEnd { report: Some(report), reason: "exit code 0".to_owned(), output: None }
    }

    /// When something happens by itself: a pod ends, a step may be tried again, a window of a budget ends that a step
    /// waits for.
    fn next_instant(&self) -> Option<Timestamp> {
        let mut instants: Vec<Timestamp> = self.running.first().map(|(at, _, _)| *at).into_iter().collect();
        let record = self.record.iter();
        instants.extend(record.clone().flat_map(Worklist::ready).filter_map(|(_, step)| step.not_before));
        instants.extend(record.clone().flat_map(Worklist::windows));
        if record.clone().any(Worklist::is_any_asleep) && !self.running.is_empty() {
            instants.extend(self.budgets.lines.iter().filter_map(|line| line.ends_at));
        }
        if self.assumed.obstructed == Obstructed::Ends {
            let task = self.observed.task.as_ref();
            instants.extend(task.and_then(|task| task.spec.deadline.as_ref()).map(|deadline| deadline.0));
        }
        instants.into_iter().filter(|at| *at > self.now).min()
    }

    /// Nothing of the Plan gives back what a step waits for, so it is others who have it.
    fn others_give_back(&mut self) -> bool {
        let held: Vec<(LineKey, Money)> = self
            .ledger
            .balances
            .iter()
            .filter(|(_, balance)| balance.held > Money::ZERO)
            .map(|(key, balance)| (key.clone(), balance.held))
            .collect();
        for (key, _) in &held {
            self.ledger.balances.entry(key.clone()).or_default().held = Money::ZERO;
        }
        self.outwaited.extend(self.record.iter().flat_map(Worklist::asleep).map(str::to_owned));
        let any = !held.is_empty();
        self.given_back.extend(held);
        any
    }
}

/// What keeps a Task from starting is told once; what would become of it otherwise is told all the same.
fn clear_the_way(observed: &mut Observed) {
    observed.network = Network::Closed;
    if let Some(task) = &mut observed.task {
        task.spec.suspend = false;
        task.spec.cancel = false;
        task.spec.deadline = None;
    }
    if let Acting::Agent(agent) = &mut observed.agent {
        agent.spec.suspend = false;
    }
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}
