//! The product's functions around one Approval, everything that can happen to it, and what must hold of each step.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use countersign_core::approval::{Answer, Seal, Signer, Terms, may_sign};
use countersign_core::blocked::Blocked;
use countersign_core::cel::CelEvaluator;
use countersign_core::decide::{Config, Evaluators, decide};
use countersign_core::effect::{self, ClusterAction};
use countersign_core::observed::{ApprovalView, Guard, Network, Observed, PodState, PodView, TaskView, TemplateLookup};
use countersign_core::record::{ApprovalRecord, ApprovalState, AttemptRecord, Change, Request, StepRecord, TaskRecord};
use countersign_core::status;
use countersign_crds::{ApprovalScope, Signature, SkillSpec};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::world::{
    ALICE, Asks, BOB, EDITED, Event, NEVER, OTHER, PEOPLE, REQUESTER, State, Table, UID, World, events, instant,
};

/// Which of the comparisons a reconciliation comes to, of what was decided with what would be decided now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Comparison {
    Intent,
    Dispatch,
    Admission,
}

/// An entry that can come to stand in the Approval, and what the seal says of it.
pub struct Entry {
    pub decision: Signature,
    pub holds: bool,
}

/// What goes into the product's functions and what comes out of them. A broken variant bends one of them.
pub trait Rules {
    fn may_sign(
        &self,
        now: Timestamp,
        terms: &Terms<'_>,
        closed: Option<&str>,
        seen: &[Signature],
        who: Signer<'_>,
        yes: bool,
    ) -> bool {
        may_sign(now, terms, closed, seen, who, yes) == Ok(Answer::Append)
    }
    fn appended(&self, mut entries: Vec<usize>, new: usize) -> Vec<usize> {
        entries.push(new);
        entries
    }
    /// The entries that the webhook and the operator take for signatures.
    fn seen(&self, entries: &[&Entry]) -> Vec<Signature> {
        entries.iter().filter(|entry| entry.holds).map(|entry| entry.decision.clone()).collect()
    }
    fn guarded(&self, guarded: bool) -> bool {
        guarded
    }
    fn cancelled(&self, cancelled: bool, _: &TaskRecord) -> bool {
        cancelled
    }
    /// What the judge takes what would run for.
    fn judged(&self, runs: u8) -> u8 {
        runs
    }
    /// What the judge says that is asked for, where `now` is and `decided` was.
    fn asked(&self, _: Comparison, now: Asks, _decided: Asks) -> Asks {
        now
    }
    /// The record that a reconciliation begins with.
    fn loaded(&self, record: TaskRecord) -> TaskRecord {
        record
    }
    /// The record that it leaves.
    fn stored(&self, record: TaskRecord) -> TaskRecord {
        record
    }
    /// When it is looked again although nothing is seen to change.
    fn requeue(&self, at: Option<Timestamp>) -> Option<Timestamp> {
        at
    }
    /// What is recorded of a change.
    fn recorded(&self, change: Change) -> Option<Change> {
        Some(change)
    }
}

pub struct Product;
impl Rules for Product {}

/// What was found that must never be.
pub type Found = &'static str;
const CONTRADICTION: Found = "the core contradicts itself";

struct Explorer<'a> {
    rules: &'a dyn Rules,
    world: World,
    evaluator: CelEvaluator,
    config: Config,
    skill: SkillSpec,
    task: TaskView,
    /// The Approval whose life it is. Those that are asked for when it is void nobody signs.
    name: String,
    /// Every entry that it can hold: what each person may say, early and late; a forgery; one that is sealed for
    /// another Approval.
    entries: Vec<Entry>,
}

impl<'a> Explorer<'a> {
    fn new(rules: &'a dyn Rules, world: World) -> Explorer<'a> {
        let names: &[&str] = match world.scope {
            ApprovalScope::Step => &[EDITED],
            ApprovalScope::Plan => &[OTHER, EDITED],
        };
        let steps: Vec<_> = names.iter().map(|name| json!({"name": name, "skill": "pay"})).collect();
        let spec = json!({"requester": {"user": REQUESTER}, "plan": {"steps": steps}});
        let skill = json!({"effect": "Read", "builtin": {"name": "generic_action"}});
        Explorer {
            rules,
            world,
            evaluator: CelEvaluator::new(),
            config: Config {
                runner_image: "runner".into(),
                broker: true,
                networks: Default::default(),
                require_network_policy: false,
                start_deadline: SignedDuration::from_hours(24 * 365),
                planning_deadline: SignedDuration::from_hours(1),
            },
            skill: serde_json::from_value(skill).unwrap(),
            task: TaskView {
                uid: "task".into(),
                namespace: "ns".into(),
                name: "task".into(),
                generation: Some(1),
                spec: serde_json::from_value(spec).unwrap(),
                on_behalf_of: None,
                mark: None,
                deleting: false,
                conditions: Vec::new(),
            },
            name: String::new(),
            entries: Vec::new(),
        }
    }

    /// The Task is looked at for the first time, and the Approval is asked for.
    fn start(&mut self) -> Result<State, Found> {
        let mut record = TaskRecord::adopt(
            "task".into(),
            "ns".into(),
            "task".into(),
            Request { requester: self.task.spec.requester.clone(), on_behalf_of: None },
            instant(false),
        );
        let mut state = State {
            late: false,
            guarded: true,
            cancelled: false,
            edits: 0,
            asked: 0,
            jobs: BTreeSet::new(),
            entries: Vec::new(),
            reported: None,
            record: Rc::new(record.clone()),
            ran: Vec::new(),
            truth: Vec::new(),
        };
        for change in self.decide(&state, record.clone())?.changes {
            record.apply(&self.rules.recorded(change).unwrap()).unwrap();
        }
        let approval = record.approvals.values().next().unwrap();
        self.name.clone_from(&approval.name);
        let seal = Seal::from_secret(&[7; 32]).unwrap();
        let digest = approval.digest.to_string();
        let said = |who: usize, approved: bool, late: bool, sealed_for: &str| {
            let (user, group) = PEOPLE[who];
            let decision = Signature {
                user: user.into(),
                uid: None,
                groups: vec![group.into()],
                approved,
                reason: None,
                at: Time(instant(late)),
                digest: digest.clone(),
                seal: "AAAA".into(),
            };
            let decision = if sealed_for.is_empty() { decision } else { seal.seal(sealed_for, decision).unwrap() };
            Entry { holds: seal.holds(UID, &decision), decision }
        };
        for who in 0..PEOPLE.len() {
            for (approved, late) in [(false, false), (false, true), (true, false), (true, true)] {
                self.entries.push(said(who, approved, late, UID));
            }
        }
        self.entries.push(said(ALICE, true, false, ""));
        self.entries.push(said(BOB, true, false, "the uid of another"));
        state.record = Rc::new(record);
        Ok(state)
    }

    fn approval<'s>(&self, state: &'s State) -> &'s ApprovalRecord {
        &state.record.approvals[&self.name]
    }

    fn seen(&self, state: &State) -> Vec<Signature> {
        self.rules.seen(&state.entries.iter().map(|&entry| &self.entries[entry]).collect::<Vec<_>>())
    }

    /// What was asked for when this was decided: of an attempt, or of the Approval that is open.
    fn asked_for(record: &TaskRecord, approval: Option<&str>) -> Asks {
        let covered = approval.and_then(|name| record.approvals[name].covers.get(EDITED));
        let ask = covered.and_then(|covered| covered.binding.as_ref()?.ask.as_ref());
        match ask.map(|ask| ask.required.count) {
            None => Asks::Nobody,
            Some(3) => Asks::Three,
            Some(_) => Asks::Two,
        }
    }

    /// Which comparison comes next of the step that is edited, and what was asked for when it was decided.
    fn compared(state: &State, record: &TaskRecord) -> Option<(Comparison, Asks)> {
        if let Some(attempt) = record.steps.get(EDITED)?.live_attempt() {
            let comparison =
                if state.jobs.contains(&attempt.key) { Comparison::Admission } else { Comparison::Dispatch };
            return Some((comparison, Self::asked_for(record, attempt.approval.as_deref())));
        }
        let open = record.approvals.values().find(|approval| approval.awaits(EDITED))?;
        Some((Comparison::Intent, Self::asked_for(record, Some(&open.name))))
    }

    /// Nothing is done of the step that is edited while something else is asked for than when it was decided.
    fn still_asked(&self, state: &State, record: &TaskRecord, step: &str, found: Found) -> Result<(), Found> {
        let attempt = record.steps[step].live_attempt().unwrap();
        let decided = Self::asked_for(record, attempt.approval.as_deref());
        if step == EDITED && decided != state.asks(self.world) { Err(found) } else { Ok(()) }
    }

    fn decide(&self, state: &State, record: TaskRecord) -> Result<effect::ReconcileOutput, Found> {
        let attempts = record.steps.values().filter_map(StepRecord::live_attempt);
        let made = |attempt: &&AttemptRecord| self.world.asks.is_empty() || state.jobs.contains(&attempt.key);
        // Each attempt whose Job was made has its one pod, which runs for as long as it is let.
        let pods: Vec<PodView> = attempts
            .filter(made)
            .map(|attempt| {
                let (name, uid, key) = (attempt.key.clone(), attempt.key.clone(), attempt.key.clone());
                PodView { name, uid, key, state: if attempt.launched() { PodState::Running } else { PodState::Gated } }
            })
            .collect();
        let view = |approval: &ApprovalRecord| ApprovalView {
            uid: UID.into(),
            generation: None,
            digest: approval.digest.to_string(),
            decisions: self.seen(state),
            reported: state.reported.clone(),
        };
        let ours = record.approvals.get(&self.name).map(view);
        let mut task = self.task.clone();
        task.spec.cancel = self.rules.cancelled(state.cancelled, &record);
        let whole = self.rules.guarded(state.guarded);
        let now = state.asks(self.world);
        let asks = Self::compared(state, &record)
            .map_or(now, |(comparison, decided)| self.rules.asked(comparison, now, decided));
        let observed = Observed {
            namespace_uid: "place".into(),
            prior: None,
            task: Some(task),
            record: Some(record),
            template: TemplateLookup::NotNeeded,
            plan_snapshot_exists: true,
            skills: Arc::new(BTreeMap::from([("pay".to_owned(), self.skill.clone())])),
            agent: Default::default(),
            policies: Arc::default(),
            secrets: Arc::default(),
            network: Network::NotTried,
            approvals: ours.map(|view| (self.name.clone(), view)).into_iter().collect(),
            jobs: pods.iter().map(|pod| pod.key.clone()).collect(),
            pods,
            guard: if whole { Guard::Whole } else { Guard::Broken { problem: "it is gone".into() } },
            outputs: BTreeMap::new(),
            balances: BTreeMap::new(),
            external: Default::default(),
            lasts: Default::default(),
        };
        let runs = self.rules.judged(state.runs());
        let judge = Table { scope: self.world.scope, runs, asks, skill: &self.skill };
        let evaluators = Evaluators { judge: &judge, evaluator: &self.evaluator };
        let now = instant(state.late);
        let decision = decide(now, &self.config, &observed, &evaluators).map_err(|_| CONTRADICTION)?;
        self.check_waits(now, &decision)?;
        Ok(decision)
    }

    /// What does not go on says why, and it is sure to be noticed that it may.
    fn check_waits(&self, now: Timestamp, decision: &effect::ReconcileOutput) -> Result<(), Found> {
        let Some(record) = decision.record.as_ref().filter(|record| record.finished.is_none()) else { return Ok(()) };
        let mut live = record.steps.values().filter_map(StepRecord::live_attempt);
        if decision.blocked.all().next().is_none() && !live.any(AttemptRecord::launched) {
            return Err("does not go on, and says nothing of why");
        }
        let requeue = self.rules.requeue(decision.requeue);
        let forgotten = |blocked: &Blocked| {
            let asked = blocked.requeue(now);
            !blocked.is_noticed() || asked.is_some_and(|asked| requeue.is_none_or(|at| at > asked))
        };
        if decision.blocked.all().any(forgotten) {
            return Err("waits for what nobody will look at again");
        }
        Ok(())
    }

    fn happen(&self, state: &State, event: Event) -> Result<Option<State>, Found> {
        let mut next = state.clone();
        match event {
            Event::Sign(who, approved) => {
                let (user, group) = PEOPLE[who];
                let groups = [group.to_owned()];
                let approval = self.approval(state);
                let digest = approval.digest.to_string();
                // As the webhook reads it off the status.
                let closed = state
                    .reported
                    .as_ref()
                    .map(|it| it.condition.reason.as_str())
                    .filter(|reason| *reason != "Pending");
                let (now, terms, seen) = (instant(state.late), approval.terms(&digest), self.seen(state));
                let signer = Signer { user, groups: &groups };
                let full = state.truth.len() >= self.world.signatures;
                if full || !self.rules.may_sign(now, &terms, closed, &seen, signer, approved) {
                    return Ok(None);
                }
                let new = who * 4 + usize::from(approved) * 2 + usize::from(state.late);
                next.entries = self.rules.appended(next.entries, new);
                next.truth.push((who, approved, state.late));
            }
            Event::Forge(who) => {
                let forged = PEOPLE.len() * 4 + who;
                if state.entries.contains(&forged) {
                    return Ok(None);
                }
                next.entries.push(forged);
            }
            Event::Reconcile => {
                let mut record = self.rules.loaded(TaskRecord::clone(&state.record));
                let changes = self.decide(state, record.clone())?.changes;
                if changes.is_empty() {
                    return Ok(None);
                }
                for change in changes.into_iter().filter_map(|change| self.rules.recorded(change)) {
                    record.apply(&change).map_err(|_| CONTRADICTION)?;
                    if let Change::Intend { step, .. } = &change {
                        self.still_asked(state, &record, step, "was intended although something else is asked for")?;
                    }
                    if let Change::Admit { step, .. } = change {
                        self.still_asked(state, &record, &step, "was let in although something else is asked for")?;
                        let under = record.steps[&step].live_attempt().and_then(|attempt| attempt.approval.as_ref());
                        let ours = under == Some(&self.name);
                        next.ran.push((step, ours));
                    }
                }
                next.record = Rc::new(self.rules.stored(record));
            }
            Event::Make => {
                let decision = self.decide(state, TaskRecord::clone(&state.record))?;
                for action in decision.actions.iter().filter(|_| decision.changes.is_empty()) {
                    if let ClusterAction::CreateJob { key, step, .. } = action {
                        let found = "its Job was made although something else is asked for";
                        self.still_asked(state, &state.record, step, found)?;
                        next.jobs.insert(key.clone());
                    }
                }
                if next.jobs == state.jobs {
                    return Ok(None);
                }
            }
            Event::Report => {
                let decision = self.decide(state, TaskRecord::clone(&state.record))?;
                let told = decision.actions.into_iter().find_map(|action| match action {
                    ClusterAction::ReportApproval { name, status } if name == self.name => status::reported(&status),
                    _ => None,
                });
                if told.is_none() || !decision.changes.is_empty() {
                    return Ok(None);
                }
                next.reported = told;
            }
            Event::Edit if state.edits < self.world.edits => next.edits += 1,
            Event::Ask if state.asked < self.world.asks.len() => next.asked += 1,
            Event::Late if !state.late => next.late = true,
            Event::Cancel if !state.cancelled => next.cancelled = true,
            Event::BreakGuard => next.guarded = !state.guarded,
            Event::Edit | Event::Ask | Event::Late | Event::Cancel => return Ok(None),
        }
        Ok(Some(next))
    }

    /// What must hold of every step from one state to the next.
    fn check(&self, before: &State, event: Event, after: &State) -> Result<(), Found> {
        let ran = &after.ran[before.ran.len()..];
        if !ran.is_empty() {
            self.check_run(before, ran, after)?;
        }
        if after.ran.iter().map(|(step, _)| step).collect::<BTreeSet<_>>().len() < after.ran.len() {
            return Err("ran twice");
        }
        if !before.entries.iter().all(|entry| after.entries.contains(entry)) {
            return Err("an entry was lost");
        }
        let (was, is) = (&self.approval(before).state, &self.approval(after).state);
        let may_follow = match was {
            ApprovalState::Requested => true,
            ApprovalState::Approved => *is != ApprovalState::Requested,
            ApprovalState::Consumed
            | ApprovalState::Rejected
            | ApprovalState::Expired
            | ApprovalState::Superseded { .. }
            | ApprovalState::Withdrawn => is == was,
        };
        if !may_follow {
            return Err("what was over went on");
        }
        if event == Event::Reconcile && before.cancelled && self.approval(after).is_open() {
            return Err("stayed open although the Task was cancelled");
        }
        let signed = after.truth.len() > before.truth.len();
        let closed = before.reported.as_ref().is_some_and(|reported| reported.condition.reason != "Pending");
        if signed && (before.late || closed) {
            return Err("a signature was taken too late");
        }
        if signed && NEVER.contains(&after.truth[after.truth.len() - 1].0) {
            return Err("a signature was taken of somebody who may not sign");
        }
        Ok(())
    }

    /// Of the pods that are let in by one reconciliation.
    fn check_run(&self, before: &State, ran: &[(String, bool)], after: &State) -> Result<(), Found> {
        if before.cancelled {
            return Err("ran although the Task was cancelled");
        }
        // What asks for nobody runs by itself.
        let by_itself = |(step, _): &&(String, bool)| step == EDITED && before.asks(self.world) == Asks::Nobody;
        if ran.iter().all(|ran| by_itself(&ran)) {
            return Ok(());
        }
        let recorded = |who: usize| self.approval(after).decisions.iter().any(|entry| entry.user == PEOPLE[who].0);
        let said = |yes: bool| {
            let in_time =
                before.truth.iter().filter(move |(who, what, late)| *what == yes && !late && !NEVER.contains(who));
            in_time.map(|(who, ..)| *who).collect::<BTreeSet<usize>>()
        };
        let signers: BTreeSet<usize> = said(true).into_iter().filter(|who| recorded(*who)).collect();
        if signers.len() < 2 || !ran.iter().all(|(_, ours)| *ours) {
            return Err("ran with the signatures of fewer people than it takes");
        }
        if !signers.contains(&BOB) {
            return Err("ran although a group was not represented");
        }
        if !said(false).is_empty() {
            return Err("ran although somebody said no");
        }
        if before.runs() != 0 && ran.iter().any(|(step, _)| step == EDITED) {
            return Err("ran something else than was signed for");
        }
        if !before.guarded {
            return Err("ran while the guard was broken");
        }
        Ok(())
    }
}

/// How many states there are, by what the Approval came to in them; `ran` counts those in which all of it ran.
pub type Explored = BTreeMap<String, usize>;

pub fn explore(rules: &dyn Rules, world: World) -> Result<Explored, Found> {
    let mut explorer = Explorer::new(rules, world);
    let start = explorer.start()?;
    let mut seen = HashSet::from([start.key(&explorer.name)]);
    let mut queue = VecDeque::from([start]);
    let events = events(world);
    let mut explored = Explored::new();
    while let Some(state) = queue.pop_front() {
        let came_to = format!("{:?}", explorer.approval(&state).state);
        *explored.entry(came_to.split(' ').next().unwrap().to_owned()).or_default() += 1;
        if state.ran.len() == state.record.steps.len() {
            *explored.entry("ran".to_owned()).or_default() += 1;
        }
        for &event in &events {
            let Some(next) = explorer.happen(&state, event)? else { continue };
            explorer.check(&state, event, &next)?;
            if seen.insert(next.key(&explorer.name)) {
                queue.push_back(next);
            }
        }
    }
    Ok(explored)
}
