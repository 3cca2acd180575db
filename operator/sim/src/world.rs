//! The true state of everything, and how time passes in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_core::budget::Ledger;
use countersign_core::decide::Config;
use countersign_core::money::Money;
use countersign_core::observed::{ApprovalView, PodState, TaskView};
use countersign_core::policy::PolicySet;
use countersign_core::record::{Change, TaskRecord};
use countersign_crds::{
    After, ApprovalSpec, EffectClass, Identity, OnFailure, Outcome, OverBudget, PlanTemplate, Retry, SkillSpec, Step,
    StepApproval, TaskSpec,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, json};

use crate::draw::Draw;
use crate::runs::Runs;
use crate::{Tally, money};

/// Who asked for the work.
pub(crate) const REQUESTER: &str = "dave";

#[derive(Clone)]
pub(crate) struct World {
    pub now: Timestamp,
    pub config: Config,
    /// The API server.
    pub api: Api,
    /// The uid of the Task's namespace; empty where nothing is to be marked, in worlds that are explored whole.
    pub place: String,
    /// PostgreSQL.
    pub record: Option<TaskRecord>,
    pub runs: Runs,
    pub postgres_away: bool,
    /// Nobody is told when these end; they are asked about again.
    pub evaluator_busy: bool,
    pub guard_broken: bool,
    pub network_known: bool,
    /// Skills that somebody took away.
    pub uninstalled: BTreeMap<String, SkillSpec>,
    pub two_leaders: bool,
    /// What was put to people, by name.
    pub asked: BTreeMap<String, ApprovalSpec>,
    /// What people really said through the webhook: approval, who, verdict.
    pub signatures: BTreeSet<(String, String, bool)>,
    /// Every pod that ever ran, by attempt.
    pub ran: BTreeMap<String, BTreeSet<String>>,
    /// The record as it was at the last check.
    pub last: Option<TaskRecord>,
    pub policies: Arc<PolicySet>,
    pub ledger: Ledger,
    /// What other Tasks hold.
    pub others: Vec<String>,
    pub next_uid: u64,
    /// What was recorded, where it is kept.
    pub kept: Option<Vec<Change>>,
    /// What an attempt with a Skill costs; of any other it depends on the attempt.
    pub costs: BTreeMap<String, Money>,
    pub tally: Tally,
    pub verbose: bool,
}

/// What an operator may see an old version of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Api {
    pub task: Option<TaskView>,
    pub skills: BTreeMap<String, SkillSpec>,
    pub plan_snapshot_exists: bool,
    pub jobs: BTreeSet<String>,
    pub pods: BTreeMap<String, Pod>,
    pub approvals: BTreeMap<String, ApprovalView>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pod {
    pub uid: String,
    pub key: String,
    pub state: PodState,
    /// When it will end of itself.
    pub ends_at: Option<Timestamp>,
}

impl World {
    /// A world of one or two steps, in which only what is asked for happens.
    pub fn small(small: crate::Small) -> World {
        let mut world = World::new(&mut Draw::never(), false);
        let retry = Some(Retry { limit: 1, backoff: "1s".into(), max_backoff: "1s".into() });
        let (steps, skills) = match small {
            crate::Small::Signed | crate::Small::Held => (vec![step(0, &[], None)], vec![skill("approve:1", false)]),
            crate::Small::Harm | crate::Small::Duel => (vec![step(0, &[], None)], vec![skill("allow:1", false)]),
            crate::Small::Together => {
                (vec![step(0, &[], None), step(1, &[], None)], vec![skill("both:1", false), skill("both:1", false)])
            }
            crate::Small::Chain => (
                vec![step(0, &[], retry), step(1, &[0], None)],
                vec![skill("allow:1", true), skill("approve:1", false)],
            ),
            crate::Small::Paid => {
                let paid = money::priced(skill("allow:1", true), Some(2), OverBudget::Defer);
                (vec![step(0, &[], retry.clone()), step(1, &[], retry)], vec![paid.clone(), paid])
            }
        };
        world.two_leaders = true;
        world.place = String::new();
        world.api.skills = skills.into_iter().enumerate().map(|(n, skill)| (format!("skill{n}"), skill)).collect();
        if let Some(task) = &mut world.api.task {
            task.spec.deadline = None;
            let paid = matches!(small, crate::Small::Paid);
            task.spec.budget = paid.then(|| "3".to_owned());
            let parallelism = if paid { 2 } else { 1 };
            task.spec.plan = Some(PlanTemplate { parallelism, steps });
        }
        world
    }

    pub fn new(draw: &mut Draw, verbose: bool) -> World {
        let now: Timestamp = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 56);
        let steps = plan(draw);
        let mut skills = BTreeMap::new();
        for step in &steps {
            let answer = ["allow:1", "allow:1", "approve:1", "both:1", "both:1", "deny:1", "skip:1"];
            let usual = draw.pick(&answer[..5]).copied();
            let answer = if draw.one_in(8) { draw.pick(&answer).copied() } else { usual };
            let over_budget = if draw.one_in(3) { OverBudget::Reject } else { OverBudget::Defer };
            let ceiling = draw.one_in(2).then(|| 1 + draw.below(3));
            let skill = money::priced(skill(answer.unwrap_or("allow:1"), draw.one_in(2)), ceiling, over_budget);
            skills.insert(step.skill.clone(), skill);
        }
        let deadline = draw.one_in(10).then(|| now + SignedDuration::from_secs(200)).map(Into::into);
        let policies = money::policies(draw);
        let budget = draw.one_in(4).then(|| (1 + draw.below(9)).to_string());
        let parallelism = 1 + u32::try_from(draw.below(3)).unwrap_or(0);
        let spec: TaskSpec = serde_json::from_value(json!({})).unwrap_or_else(|_| unreachable!("every field defaults"));
        let requester = Some(Identity { user: REQUESTER.into(), uid: None, groups: Vec::new() });
        let spec = TaskSpec { requester, plan: Some(PlanTemplate { parallelism, steps }), deadline, budget, ..spec };
        let task = TaskView {
            uid: "task".into(),
            namespace: "ns".into(),
            name: "task".into(),
            generation: Some(1),
            spec,
            on_behalf_of: None,
            mark: None,
            deleting: false,
            conditions: Vec::new(),
        };
        World {
            now,
            config: Config {
                runner_image: "runner".into(),
                broker: true,
                networks: Default::default(),
                require_network_policy: draw.one_in(3),
                start_deadline: SignedDuration::from_secs(60),
                planning_deadline: SignedDuration::from_mins(10),
            },
            api: Api { task: Some(task), skills, ..Api::default() },
            place: "place".into(),
            record: None,
            runs: Runs::default(),
            postgres_away: false,
            evaluator_busy: false,
            guard_broken: false,
            network_known: false,
            uninstalled: BTreeMap::new(),
            two_leaders: draw.one_in(2),
            asked: BTreeMap::new(),
            signatures: BTreeSet::new(),
            ran: BTreeMap::new(),
            last: None,
            policies,
            ledger: Ledger::default(),
            others: Vec::new(),
            next_uid: 0,
            kept: None,
            costs: BTreeMap::new(),
            tally: Tally::default(),
            verbose,
        }
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}  {}", self.now, what());
        }
    }

    pub fn uid(&mut self) -> String {
        self.next_uid += 1;
        format!("uid-{}", self.next_uid)
    }

    pub fn advance(&mut self, seconds: u64) {
        self.now += SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
    }

    pub fn pass_time(&mut self, draw: &mut Draw) {
        let seconds = if draw.one_in(6) { 100 } else { 5 };
        self.advance(draw.below(seconds));
    }

    pub fn toggle_faults(&mut self, draw: &mut Draw) {
        match draw.below(6) {
            0..=1 => self.postgres_away = draw.one_in(3),
            2 => self.evaluator_busy = draw.one_in(2),
            3 => self.guard_broken = draw.one_in(2),
            4 => self.network_known = draw.one_in(2),
            _ => self.toggle_skill(),
        }
        let World { postgres_away, evaluator_busy, guard_broken, network_known, uninstalled, .. } = &*self;
        self.say(|| {
            let gone = uninstalled.len();
            format!(
                "postgres away: {postgres_away}, evaluator busy: {evaluator_busy}, guard broken: {guard_broken}, network known: {network_known}, {gone} Skills gone"
            )
        });
    }

    /// The first Skill is taken away, or all are there again.
    pub fn toggle_skill(&mut self) {
        if self.uninstalled.is_empty() {
            self.uninstalled.extend(self.api.skills.pop_first());
        } else {
            self.api.skills.append(&mut self.uninstalled);
        }
    }

    pub fn end_faults(&mut self) {
        self.postgres_away = false;
        self.two_leaders = false;
        self.evaluator_busy = false;
        self.guard_broken = false;
        self.network_known = true;
        self.api.skills.append(&mut self.uninstalled);
        money::others_end(self);
        if let Some(task) = &mut self.api.task {
            task.spec.suspend = false;
        }
    }

    /// Whether somebody but the operator has something to do, now or in a while.
    pub fn moves(&self) -> bool {
        let moves = |pod: &Pod| match pod.state {
            PodState::Waiting { .. } | PodState::Running => true,
            PodState::Unchecked | PodState::Gated | PodState::Altered { .. } | PodState::Ended(_) => false,
        };
        self.api.pods.values().any(moves)
    }

    /// Whether anything of the Task was let run.
    pub fn is_launched(&self) -> bool {
        let steps = self.record.iter().flat_map(|record| record.steps.values());
        !self.ran.is_empty() || steps.flat_map(|step| &step.attempts).any(|attempt| attempt.launched())
    }

    pub fn completed(&self) -> bool {
        use countersign_core::record::TaskOutcome;
        let finished = self.record.as_ref().and_then(|record| record.finished.as_ref());
        finished.is_some_and(|finished| finished.outcome == TaskOutcome::Completed)
    }
}

/// One to four steps, each needing some of those before it, on some outcomes; the last ones may be finally steps.
fn plan(draw: &mut Draw) -> Vec<Step> {
    let count = 1 + draw.below(4);
    let work = if draw.one_in(3) { 1 + draw.below(count) } else { count };
    let mut steps: Vec<Step> = Vec::new();
    for index in 0..count {
        let retry = draw.one_in(2).then(|| Retry { limit: 2, backoff: "1s".into(), max_backoff: "10s".into() });
        let mut step = step(index, &[], retry);
        step.finally = index >= work;
        step.on_failure = if draw.one_in(4) { OnFailure::Continue } else { OnFailure::EndTask };
        for before in &steps {
            if draw.one_in(2) {
                need(&mut step, before, draw);
            }
        }
        steps.push(step);
    }
    steps
}

/// Mostly its success; else some of the outcomes with which a Task goes on.
fn need(step: &mut Step, before: &Step, draw: &mut Draw) {
    let possible: &[Outcome] = match (step.finally, before.on_failure) {
        (true, _) => &Outcome::ALL,
        (false, OnFailure::Continue) => &Outcome::ALL[..3],
        (false, OnFailure::EndTask) => &[Outcome::Succeeded, Outcome::Skipped],
    };
    let outcomes: Vec<Outcome> = possible.iter().filter(|_| draw.one_in(2)).copied().collect();
    if !outcomes.is_empty() && draw.one_in(3) {
        step.after.push(After { step: before.name.clone(), outcomes });
    } else {
        step.needs.push(before.name.clone());
    }
}

fn step(index: u64, needs: &[u64], retry: Option<Retry>) -> Step {
    let name = |index: &u64| format!("s{index}");
    Step {
        name: name(&index),
        skill: format!("skill{index}"),
        input: Map::new(),
        needs: needs.iter().map(name).collect(),
        after: Vec::new(),
        finally: false,
        on_failure: OnFailure::EndTask,
        when: None,
        retry,
        timeout: None,
        approval: StepApproval::Policy,
    }
}

fn skill(answer: &str, idempotent: bool) -> SkillSpec {
    let builtin = json!({"effect": "Read", "builtin": {"name": "generic_action"}});
    let skill: SkillSpec =
        serde_json::from_value(builtin).unwrap_or_else(|_| unreachable!("a Skill with its defaults"));
    SkillSpec { description: Some(answer.to_owned()), idempotent, effect: EffectClass::Read, ..skill }
}
