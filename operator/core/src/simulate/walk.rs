//! Walks through a Plan as it would be run: each step is judged when its turn comes, against a ledger in which the
//! steps before it have reserved and spent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign_crds::{SkillSpec, Step};
use jiff::{SignedDuration, Timestamp};

use super::Inputs;
use super::court::{Court, Ruling, Says};
use super::estimate::{self, NOTHING, Takes};
use super::known::{Known, Sight, When};
use super::schedule::{Begin, Times, Turn, Wake, Work, schedule};
use super::simulation::{BudgetOutcome, StepCost};
use crate::budget::{Balance, BudgetDecision, Budgets, Closing, Ledger, Line, LineKey, Purse, Standing};
use crate::money::Money;
use crate::observed::TaskView;
use crate::plan::CompiledStep;
use crate::record::RecordedPlan;

/// What came of each step, when, and what the budgets hold afterwards.
pub(super) struct Walked {
    pub steps: Vec<Passed>,
    pub usual: Times,
    /// Where every step takes long.
    pub slow: Times,
    /// Every row that was looked at.
    pub lines: BTreeMap<LineKey, Line>,
    pub balances: BTreeMap<LineKey, Balance>,
}

/// One step that was walked through.
pub(super) struct Passed {
    pub known: Known,
    pub ruling: Ruling,
    pub cost: StepCost,
    pub takes: Takes,
    /// What kept it back first.
    pub deferred: Option<BudgetOutcome>,
    /// Whether it gave up waiting for money.
    pub forced: bool,
}

impl Passed {
    /// Whether it would run.
    pub fn runs(&self) -> bool {
        match &self.ruling.says {
            Says::Permitted { .. } | Says::NeedsApproval { .. } => true,
            Says::Skip | Says::Invalid { .. } | Says::Denied { .. } | Says::Deferred { .. } | Says::NotYet { .. } => {
                false
            }
        }
    }
}

struct Walk<'a> {
    now: Timestamp,
    inputs: &'a Inputs,
    task: &'a TaskView,
    plan: &'a RecordedPlan,
    compiled: &'a [CompiledStep],
    sight: Sight<'a>,
    court: Court<'a>,
    ledger: Ledger,
    /// What binds at this time of the walk.
    budgets: Budgets,
    lines: BTreeMap<LineKey, Line>,
    /// Steps whose `when` is false.
    skipped: BTreeSet<&'a str>,
    known: Vec<Option<Known>>,
    asked: Vec<bool>,
    deferred: Vec<Option<BudgetOutcome>>,
    steps: Vec<Option<Passed>>,
}

pub(super) fn walk<'a>(
    now: Timestamp,
    inputs: &'a Inputs,
    task: &'a TaskView,
    plan: &'a RecordedPlan,
    compiled: &'a [CompiledStep],
    sight: Sight<'a>,
    court: Court<'a>,
) -> Walked {
    let names: BTreeMap<&str, usize> =
        plan.steps.iter().enumerate().map(|(index, step)| (step.name.as_str(), index)).collect();
    let needs: Vec<BTreeSet<usize>> = plan
        .steps
        .iter()
        .map(|step| step.needs.iter().filter_map(|need| names.get(need.as_str()).copied()).collect())
        .collect();
    let count = plan.steps.len();
    let mut ledger = Ledger::default();
    ledger.balances.clone_from(&inputs.observed.balances);
    let mut walk = Walk {
        now,
        inputs,
        task,
        plan,
        compiled,
        sight,
        court,
        ledger,
        budgets: Budgets::default(),
        lines: BTreeMap::new(),
        skipped: BTreeSet::new(),
        known: vec![None; count],
        asked: vec![false; count],
        deferred: vec![None; count],
        steps: std::iter::repeat_with(|| None).take(count).collect(),
    };
    walk.bind(now);
    let usual = schedule(&needs, plan.parallelism, &mut walk);
    let Walk { ledger, lines, steps, .. } = walk;
    let steps: Vec<Passed> = steps.into_iter().flatten().collect();
    let waited = |(step, start): (&Passed, &Duration)| step.deferred.as_ref().map(|_| *start);
    let not_before = steps.iter().zip(&usual.starts).map(waited).collect();
    let mut slow = Slow { takes: steps.iter().map(|step| step.takes.p95).collect(), not_before };
    let slow = schedule(&needs, plan.parallelism, &mut slow);
    Walked { steps, usual, slow, lines, balances: ledger.balances }
}

impl<'a> Walk<'a> {
    /// What binds at an instant: windows end while a Plan runs.
    fn bind(&mut self, at: Timestamp) {
        let observed = &self.inputs.observed;
        self.budgets = Budgets::of(at, self.task, observed.agent.agent(), &observed.policies);
        self.lines.extend(self.budgets.lines.iter().map(|line| (line.key.clone(), line.clone())));
    }

    fn bind_anew_where_due(&mut self, at: Timestamp) {
        let ends = self.budgets.lines.iter().filter_map(|line| line.ends_at).min();
        if ends.is_some_and(|ends| ends <= at) {
            self.bind(at);
        }
    }

    fn step(&self, index: usize) -> (&'a Step, &'a CompiledStep) {
        let (plan, compiled) = (self.plan, self.compiled);
        (&plan.steps[index], &compiled[index])
    }

    fn pass(&mut self, index: usize, known: Known, ruling: Ruling, forced: bool) -> Begin {
        let (step, _) = self.step(index);
        let runs = match &ruling.says {
            Says::Permitted { timeout } | Says::NeedsApproval { timeout, .. } => Some(*timeout),
            Says::Skip | Says::Invalid { .. } | Says::Denied { .. } | Says::Deferred { .. } | Says::NotYet { .. } => {
                None
            }
        };
        let contract: Option<&SkillSpec> = self.inputs.observed.skills.get(&ruling.skill);
        let (cost, takes) = match (runs, contract) {
            (Some(timeout), Some(contract)) => {
                let history = self.inputs.history.get(&ruling.skill);
                let most = self.budgets.per_attempt.as_ref().map(|(most, _)| *most);
                let certain = known.when != When::Open;
                (estimate::cost(step, contract, history, certain, most), estimate::takes(contract, history, timeout))
            }
            _ => (NOTHING, Takes::NOTHING),
        };
        if let Some(decision) = ruling.budget.as_ref().filter(|_| runs.is_some() && !forced) {
            // It was weighed against these very balances just now, so it fits.
            self.ledger.reserve(&step.name, decision).ok();
        }
        let deferred = self.deferred[index].take();
        let duration = takes.p50;
        self.steps[index] = Some(Passed { known, ruling, cost, takes, deferred, forced });
        if runs.is_some() { Begin::For(duration) } else { Begin::Done }
    }

    fn defer(&mut self, index: usize, budget: &BudgetDecision, until: Option<Timestamp>, at: Timestamp) -> Begin {
        let BudgetDecision { verdict, skill, amount, per_attempt: _, priority: _, lines: _, message } = budget;
        self.deferred[index].get_or_insert_with(|| BudgetOutcome {
            verdict: *verdict,
            amount: *amount,
            until,
            message: message.clone(),
        });
        let wake = match until {
            Some(until) if until > at => Wake::At(since(self.now, until)),
            Some(_) | None => Wake::AtAnEnd,
        };
        Begin::Park { class: skill.clone(), wake }
    }
}

impl Work for Walk<'_> {
    fn begin(&mut self, index: usize, after: Duration, turn: Turn) -> Begin {
        let at = later(self.now, after);
        self.bind_anew_where_due(at);
        let (step, compiled) = self.step(index);
        let known = match self.known[index].take() {
            Some(known) => known,
            None => self.sight.look(compiled, &|name| self.skipped.contains(name)),
        };
        if known.when == When::False {
            self.skipped.insert(&step.name);
        }
        let purse = Purse {
            budgets: &self.budgets,
            balances: &self.ledger.balances,
            pending: Money::ZERO,
            standing: Standing::Asking,
        };
        let mut ruling = self.court.rule(step, &known, purse);
        let mut without_money = false;
        if let (Says::Deferred { until }, Some(budget)) = (&ruling.says, ruling.budget.clone()) {
            let until = *until;
            if turn != Turn::Forced {
                self.known[index] = Some(known);
                return self.defer(index, &budget, until, at);
            }
            ruling = self.court.rule_paid(step, &known, purse, &budget.skill);
            self.defer(index, &budget, until, at);
            without_money = true;
        }
        if matches!(ruling.says, Says::NeedsApproval { .. }) && !self.asked[index] {
            // What needs no signature starts meanwhile.
            self.asked[index] = true;
            self.known[index] = Some(known);
            return Begin::Behind;
        }
        if turn == Turn::Ahead && matches!(ruling.says, Says::NeedsApproval { .. } | Says::Permitted { .. }) {
            self.known[index] = Some(known);
            return Begin::Wait;
        }
        self.pass(index, known, ruling, without_money)
    }

    fn end(&mut self, index: usize, _: Duration) {
        let (step, _) = self.step(index);
        let cost = self.steps[index].as_ref().map_or(Money::ZERO, |passed| passed.cost.expected);
        // What has no price has no reservation.
        self.ledger.close(&step.name, Closing::Settle(cost)).ok();
    }
}

/// The same steps, each as long as one attempt in twenty takes.
struct Slow {
    takes: Vec<Duration>,
    not_before: Vec<Option<Duration>>,
}

impl Work for Slow {
    fn begin(&mut self, index: usize, at: Duration, turn: Turn) -> Begin {
        match self.not_before[index] {
            Some(start) if at < start => Begin::Park { class: index.to_string(), wake: Wake::At(start) },
            _ if turn == Turn::Ahead => Begin::Wait,
            _ => Begin::For(self.takes[index]),
        }
    }

    fn end(&mut self, _: usize, _: Duration) {}
}

fn later(now: Timestamp, after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    now.checked_add(after).unwrap_or(Timestamp::MAX)
}

fn since(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
