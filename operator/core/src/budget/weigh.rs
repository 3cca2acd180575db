//! Whether the price of a step fits what is left, as far as it was seen.

use std::collections::BTreeMap;

use countersign_crds::{BudgetVerdict, OverBudget, Priority, SkillSpec};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::line::{Budgets, Line, LineKey, Scope};
use super::window::Window;
use super::{Price, Unpriced, price};
use crate::money::Money;

/// What a row of the ledger holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What ended attempts have cost.
    pub spent: Money,
    /// Reserved for what is under way, or whose end is not known.
    pub held: Money,
}

/// What a step is weighed against.
#[derive(Clone, Copy, Debug)]
pub struct BudgetView<'a> {
    /// The limits that bear on the Task.
    pub budgets: &'a Budgets,
    /// A row that is not here is empty.
    pub balances: &'a BTreeMap<LineKey, Balance>,
    /// What was reserved since the balances were seen.
    pub pending: Money,
    /// Whether the step still asks for its money, or has it.
    pub phase: ReservationPhase<'a>,
}

/// Whether an attempt's money is asked for or reserved already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationPhase<'a> {
    /// It asks for its money now.
    Asking,
    /// An attempt with this Skill has what it takes.
    Reserved {
        /// The name of the Skill for which the money is reserved.
        skill: &'a str,
    },
}

/// What was decided about a price, and the numbers that it was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetDecision {
    /// Whether the price fits, and what becomes of the step where it does not.
    pub verdict: BudgetVerdict,
    /// The Skill that was weighed.
    pub skill: String,
    /// The most that the attempt may cost: what is reserved where it fits.
    pub amount: Money,
    /// Of it, what is owed as soon as the pod was let in.
    pub per_attempt: Money,
    /// How urgent the work is; low priority may not fill every row up to its limit.
    pub priority: Priority,
    /// Every row that bears on the Task, as it was seen; empty where the money was reserved before.
    pub lines: Vec<SeenLine>,
    /// Why it does not fit, or what the Skill took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A row as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SeenLine {
    /// Whose spending the row counts.
    pub scope: Scope,
    /// Empty for the cluster; a namespace; `NAMESPACE/AGENT`; a Task's uid.
    pub subject: String,
    /// How long the row counts before the next one begins.
    pub window: Window,
    /// When the window began; the Unix Epoch for `Total`.
    pub starts_at: Timestamp,
    /// When the window ends; left out where it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// The lowest of the limits that are set on the row; left out where it is only counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Money>,
    /// What this work may fill it to: less than the limit where low priority leaves something to the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Money>,
    /// What ended attempts have cost.
    pub spent: Money,
    /// What is reserved for attempts that are under way, or whose end is not known.
    pub held: Money,
}

impl SeenLine {
    /// Names the row of the ledger that was seen.
    pub fn key(&self) -> LineKey {
        LineKey { scope: self.scope, subject: self.subject.clone(), window: self.window, starts_at: self.starts_at }
    }

    /// When so much more may fit, which does not now.
    fn later(&self, amount: Money) -> WhenAffordable {
        let Some(cap) = self.cap else { return WhenAffordable::GivenBack };
        let fits = |filled: Money| filled.saturating_add(amount) <= cap;
        match self.ends_at {
            _ if fits(self.spent) => WhenAffordable::GivenBack,
            // Where it would not fit an empty window either, the next one does not help.
            Some(ends_at) if fits(Money::ZERO) => WhenAffordable::At(ends_at),
            Some(_) | None => WhenAffordable::Never,
        }
    }

    /// Whether so much more is beyond what this work may fill it to.
    fn exceeded_by(&self, amount: Money) -> bool {
        self.cap.is_some_and(|cap| self.spent.saturating_add(self.held).saturating_add(amount) > cap)
    }
}

/// When what does not fit now may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAffordable {
    /// No matter how long it waits.
    Never,
    /// Once something that is held is given back.
    GivenBack,
    /// In the window that begins then.
    At(Timestamp),
}

impl WhenAffordable {
    /// When both are so.
    fn and(self, other: WhenAffordable) -> WhenAffordable {
        match (self, other) {
            (WhenAffordable::Never, _) | (_, WhenAffordable::Never) => WhenAffordable::Never,
            (WhenAffordable::GivenBack, later) | (later, WhenAffordable::GivenBack) => later,
            (WhenAffordable::At(one), WhenAffordable::At(other)) => WhenAffordable::At(one.max(other)),
        }
    }
}

/// What comes of weighing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weighed {
    /// There is nothing to reserve.
    Free,
    /// It fits, and this is what is reserved.
    Fits(BudgetDecision),
    /// It does not fit now.
    Over {
        /// What is decided instead, with the reason in its message.
        decision: BudgetDecision,
        /// When it may fit; `Never` in any case where the Skill's `overBudget` is `Reject`.
        later: WhenAffordable,
    },
    /// It has no price that could be held against the budget; and an unknown price denies.
    Unpriced(String),
}

/// What the budgets say of one Skill, without their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// There is nothing to reserve.
    Free,
    /// It fits every limit.
    Fits,
    /// It does not fit now; when it may.
    Over(WhenAffordable),
    /// It has no price that could be held against the budget; and an unknown price denies.
    Unpriced,
}

impl BudgetView<'_> {
    /// What the budgets say of a Skill and of those that it could be downgraded to, one after the other, and why one
    /// does not fit: all that a judgement takes from them.
    pub fn weigh_all(&self, skill: &str, skills: &BTreeMap<String, SkillSpec>) -> Vec<(Fit, Option<String>)> {
        let mut chain: Vec<&str> = vec![skill];
        let mut said = Vec::new();
        while let Some((name, contract)) = chain.last().and_then(|name| skills.get_key_value(*name)) {
            said.push(match self.weigh(name, contract) {
                Weighed::Free => (Fit::Free, None),
                Weighed::Fits(_) => (Fit::Fits, None),
                Weighed::Over { decision, later } => (Fit::Over(later), decision.message),
                Weighed::Unpriced(why) => (Fit::Unpriced, Some(why)),
            });
            match contract.downgrade_to.as_deref().filter(|next| !chain.contains(next)) {
                Some(next) => chain.push(next),
                None => break,
            }
        }
        said
    }

    /// Weighs one attempt with this Skill.
    pub fn weigh(&self, skill: &str, contract: &SkillSpec) -> Weighed {
        if let ReservationPhase::Reserved { skill: reserved } = self.phase {
            return self.reserved(skill, reserved, contract);
        }
        let price = match price(contract) {
            Ok(None) => return Weighed::Free,
            Err(Unpriced::Unknown) if !self.budgets.bind() => return Weighed::Free,
            Err(Unpriced::Unknown) => {
                return Weighed::Unpriced(format!(
                    "a budget binds it, and the Skill {skill:?} does not say what it costs; set spec.cost on it, with ceiling \"0\" if it is free"
                ));
            }
            Err(Unpriced::Unreadable(why)) => return Weighed::Unpriced(format!("the Skill {skill:?}: cost: {why}")),
            Ok(Some(price)) => price,
        };
        if let Some(why) = &self.budgets.unreadable {
            return Weighed::Unpriced(why.clone());
        }
        let lines: Vec<SeenLine> = self.budgets.lines.iter().map(|line| self.seen(line)).collect();
        let decision = |verdict, message| BudgetDecision {
            verdict,
            skill: skill.to_owned(),
            amount: price.ceiling,
            per_attempt: price.per_attempt,
            priority: self.budgets.priority,
            lines: lines.clone(),
            message,
        };
        match self.problem(price, &lines) {
            None => Weighed::Fits(decision(BudgetVerdict::Allowed, None)),
            Some((message, later)) => {
                let later = match contract.over_budget {
                    OverBudget::Defer => later,
                    OverBudget::Reject => WhenAffordable::Never,
                };
                let verdict =
                    if later == WhenAffordable::Never { BudgetVerdict::Rejected } else { BudgetVerdict::Deferred };
                Weighed::Over { decision: decision(verdict, Some(message)), later }
            }
        }
    }

    /// What was downgraded when the money was reserved is downgraded again, so that it stays what was decided.
    fn reserved(&self, skill: &str, reserved: &str, contract: &SkillSpec) -> Weighed {
        if skill == reserved || contract.downgrade_to.is_none() {
            return Weighed::Free;
        }
        let decision = BudgetDecision {
            verdict: BudgetVerdict::Downgraded,
            skill: skill.to_owned(),
            amount: Money::ZERO,
            per_attempt: Money::ZERO,
            priority: self.budgets.priority,
            lines: Vec::new(),
            message: Some(format!("the money that is reserved is for {reserved}")),
        };
        Weighed::Over { decision, later: WhenAffordable::Never }
    }

    fn seen(&self, line: &Line) -> SeenLine {
        let Line { key, ends_at, limit, cap } = line;
        let Balance { spent, held } = self.balances.get(key).copied().unwrap_or_default();
        let LineKey { scope, subject, window, starts_at } = key.clone();
        let held = held.saturating_add(self.pending);
        SeenLine { scope, subject, window, starts_at, ends_at: *ends_at, limit: *limit, cap: *cap, spent, held }
    }

    /// Why it does not fit, and when it may.
    fn problem(&self, price: Price, lines: &[SeenLine]) -> Option<(String, WhenAffordable)> {
        let amount = price.ceiling;
        if let Some((most, whose)) = self.budgets.per_attempt.as_ref().filter(|(most, _)| amount > *most) {
            return Some((
                format!("it may cost up to {amount}, and {whose} lets an attempt cost {most}"),
                WhenAffordable::Never,
            ));
        }
        let over: Vec<&SeenLine> = lines.iter().filter(|line| line.exceeded_by(amount)).collect();
        let tightest = over.iter().max_by_key(|line| line.ends_at.unwrap_or(Timestamp::MAX))?;
        let later = over.iter().map(|line| line.later(amount)).fold(WhenAffordable::GivenBack, WhenAffordable::and);
        Some((describe(tightest, amount), later))
    }
}

fn describe(line: &SeenLine, amount: Money) -> String {
    let SeenLine { scope, subject, window, starts_at: _, ends_at: _, limit, cap, spent, held } = line;
    let whose = match scope {
        Scope::Cluster => "the cluster".to_owned(),
        Scope::Namespace => format!("the namespace {subject}"),
        Scope::Agent => format!("the Agent {}", subject.rsplit('/').next().unwrap_or(subject)),
        Scope::Task => "the Task".to_owned(),
    };
    let when = match window {
        Window::Hour => " this hour",
        Window::Day => " today",
        Window::Month => " this month",
        Window::Total => "",
    };
    let (limit, cap) = (limit.unwrap_or(Money::MAX), cap.unwrap_or(Money::MAX));
    let floor = if cap < limit { format!(", of which low priority may use {cap}") } else { String::new() };
    format!("it may cost up to {amount}, and {whose} has spent {spent} and holds {held} of {limit}{when}{floor}")
}
