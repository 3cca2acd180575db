//! What every stage sees.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_crds::{Outcome, Step};
use jiff::Timestamp;
use serde_json::Value;

use super::{Config, Evaluators, Worklist};
use crate::blocked::{Blocked, BlockedReason, Lasting, PLAN};
use crate::budget::{BudgetView, Budgets, Fit, ReservationPhase};
use crate::digest::Digest;
use crate::judge::{Case, Judgement};
use crate::money::Money;
use crate::observed::{Network, Observed};
use crate::plan::Order;
use crate::record::{RecordedPlan, TaskRecord};

pub(crate) struct View<'a> {
    pub now: Timestamp,
    pub config: &'a Config,
    pub observed: &'a Observed,
    pub evaluators: &'a Evaluators<'a>,
    /// What limits bear on the Task now.
    pub budgets: &'a Budgets,
    /// Where steps are noted that wait for money, if nothing but money and time alters until the next reconciliation:
    /// then they are not judged again before the budgets say something else.
    pub dozing: Option<&'a RefCell<Vec<Dozing>>>,
}

/// A step that waits for money, and what the budgets said of its Skill.
pub(crate) struct Dozing {
    pub step: String,
    pub said: Vec<Fit>,
}

impl View<'_> {
    /// Judges a step as its attempt `number`, with so much reserved already that no record shows yet; `None` where
    /// there is no Task or Plan to judge it by.
    pub fn judge(&self, record: &Worklist, step: &Step, number: u32, reserved: Money) -> Option<Judgement> {
        let task = self.observed.task.as_ref()?;
        let plan = record.plan.as_ref()?;
        let outcome = |name: &str| {
            let ended = record.steps.get(name).and_then(|step| step.state.ended());
            ended.unwrap_or(Outcome::Skipped)
        };
        let outputs: &BTreeMap<String, Arc<Value>> = &self.observed.outputs;
        let workspace = || workspace(plan, record, step);
        let live = record.steps.get(&step.name).and_then(|state| state.live_attempt());
        let phase =
            live.map_or(ReservationPhase::Asking, |attempt| ReservationPhase::Reserved { skill: &attempt.skill });
        let budget_view = BudgetView { phase, ..self.budget_view(record, reserved) };
        Some(self.evaluators.judge.judge(&Case {
            task,
            plan,
            request: &record.request,
            step,
            run: record.steps.get(&step.name).map_or(1, |state| state.run(number)),
            outputs,
            outcome: &outcome,
            skills: &self.observed.skills,
            agent: &self.observed.agent,
            policies: &self.observed.policies,
            secrets: &self.observed.secrets,
            workspace: &workspace,
            runner_image: &self.config.runner_image,
            budget_view,
            broker: self.config.broker,
            networks: &self.config.networks,
        }))
    }

    fn budget_view(&self, record: &Worklist, reserved: Money) -> BudgetView<'_> {
        BudgetView {
            budgets: self.budgets,
            balances: &self.observed.balances,
            pending: record.reserved().saturating_add(reserved),
            phase: ReservationPhase::Asking,
        }
    }

    /// What the budgets say of a Skill.
    pub fn money(&self, record: &Worklist, skill: &str, reserved: Money) -> Vec<Fit> {
        let said = self.budget_view(record, reserved).weigh_all(skill, &self.observed.skills);
        said.into_iter().map(|(fit, _)| fit).collect()
    }

    /// Notes that a step waits for money.
    pub fn doze(&self, record: &Worklist, step: &Step, reserved: Money) {
        if let Some(dozing) = self.dozing {
            let said = self.money(record, &step.skill, reserved);
            dozing.borrow_mut().push(Dozing { step: step.name.clone(), said });
        }
    }

    /// Why nothing of this Task may begin now, whatever it is.
    pub fn nothing_begins(&self) -> Option<Blocked> {
        self.paused().or_else(|| self.exposed())
    }

    /// Whether the Task or its Agent is paused.
    pub fn suspended(&self) -> bool {
        self.paused().is_some()
    }

    fn paused(&self) -> Option<Blocked> {
        let blocked = |message: String| Some(Blocked::new(BlockedReason::Suspended, message));
        let task = self.observed.task.as_ref()?;
        if task.spec.suspend {
            return blocked("the Task is suspended; unset its spec.suspend".to_owned());
        }
        let agent = self.observed.agent.agent().filter(|agent| agent.spec.suspend)?;
        blocked(format!("its Agent {:?} is suspended; unset its spec.suspend", agent.name))
    }

    fn exposed(&self) -> Option<Blocked> {
        let reason = match self.observed.network {
            Network::Closed => return None,
            Network::NotTried => BlockedReason::NetworkNotTried,
            Network::Open { .. } => BlockedReason::NetworkOpen,
        };
        let problem = self.observed.network.problem().filter(|_| self.config.require_network_policy)?;
        Some(Blocked::new(reason, problem))
    }

    /// What blocks a step goes on doing so, or, once it has lasted for too long, is given up.
    pub fn step_goes_on(&self, step: &str, blocked: Blocked) -> Result<Blocked, GivenUp> {
        let since = self.since(step, &blocked);
        self.goes_on(blocked, since)
    }

    /// The same of what blocks the Plan of a Task that was adopted then.
    pub fn plan_goes_on(&self, blocked: Blocked, adopted_at: Timestamp) -> Result<Blocked, GivenUp> {
        let since = if blocked.reason.is_missing() { adopted_at } else { self.since(PLAN, &blocked) };
        self.goes_on(blocked, since)
    }

    fn since(&self, of: &str, blocked: &Blocked) -> Timestamp {
        let known = self.observed.lasts.get(of).filter(|since| Some(since.what) == blocked.reason.lasting());
        known.map_or(self.now, |since| since.at)
    }

    /// What has been missing since then is asked for again, what takes too long is tried again, and past its deadline
    /// either is given up. Anything else that blocks is left as it is.
    fn goes_on(&self, blocked: Blocked, since: Timestamp) -> Result<Blocked, GivenUp> {
        let Some(lasting) = blocked.reason.lasting() else { return Ok(blocked) };
        let deadline = since.checked_add(self.config.planning_deadline).unwrap_or(Timestamp::MAX);
        let so_long =
            format!("as long as planningDeadlineSeconds in the chart says, {:#}", self.config.planning_deadline);
        let message = match lasting {
            Lasting::Missing if self.now < deadline => return Ok(blocked.missing_since(since, deadline, self.now)),
            Lasting::TooSlow if self.now < deadline => return Ok(blocked),
            Lasting::Missing => format!("{}; it was waited for {so_long}", blocked.message),
            Lasting::TooSlow => format!(
                "{}; nor was it whenever it was tried, for {so_long}: let the expression go through less, or have a step compute it",
                blocked.message
            ),
        };
        Err(GivenUp { reason: blocked.reason.as_str(), message })
    }
}

/// What was waited for until its deadline.
pub(crate) struct GivenUp {
    pub reason: &'static str,
    /// Says how long it was waited for.
    pub message: String,
}

/// The trees of files that the steps that this one needs left, in the order of the Plan. A tree holds what its step
/// began with, so of steps that come one after the other the last one's is enough.
fn workspace(plan: &RecordedPlan, record: &TaskRecord, step: &Step) -> Vec<Digest> {
    let tree = |name: &str| record.steps.get(name).and_then(|step| step.workspace);
    let order = Order::of(&plan.steps);
    let left: BTreeSet<&str> = order.needed_by(step).filter(|name| tree(name).is_some()).collect();
    let overtaken: BTreeSet<&str> =
        left.iter().filter_map(|name| order.step(name)).flat_map(|step| order.needed_by(step)).collect();
    let last = |step: &&Step| left.contains(step.name.as_str()) && !overtaken.contains(step.name.as_str());
    plan.steps.iter().filter(last).filter_map(|step| tree(&step.name)).collect()
}
