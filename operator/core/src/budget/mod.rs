//! Budgets: what limits bear on a Task, and whether the price of a step fits them.
//!
//! A reservation is of the most that an attempt may cost; it is held before the attempt exists, and settled once at
//! its end. Here it is weighed against what was seen; the store weighs it again, with the rows locked.

mod agent;
mod ledger;
mod line;
mod weigh;
mod window;

pub use agent::agent_status;
pub use ledger::{Closing, Ledger, LedgerError};
pub use line::{Budgets, Line, LineKey, Scope};
pub use weigh::{Balance, BudgetDecision, BudgetView, Fit, ReservationPhase, SeenLine, Weighed, WhenAffordable};
pub use window::{Span, Window, ZoneError, zone};

use countersign_crds::{Budget, Cost, Priority, SkillSpec};

use crate::money::{Money, MoneyError};
use crate::problem::Problem;

/// The price of a Skill, read from its contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// What is reserved: the most that an attempt may cost.
    pub ceiling: Money,
    /// What it costs as soon as its pod was let in.
    pub per_attempt: Money,
}

/// Why a Skill has no price that could be held against a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpriced {
    /// It can spend through the broker, and does not say how much.
    Unknown,
    /// What it says is not an amount.
    Unreadable(String),
}

/// `None` where it cannot cost anything: nothing leaves its sandbox, and an attempt has no price.
pub fn price(contract: &SkillSpec) -> Result<Option<Price>, Unpriced> {
    let Some(cost) = &contract.cost else {
        let spends = !contract.egress.is_empty() || contract.payment.is_some();
        return if spends { Err(Unpriced::Unknown) } else { Ok(None) };
    };
    let read = |text: &str| text.parse().map_err(|error: MoneyError| Unpriced::Unreadable(error.to_string()));
    let per_attempt = cost.per_attempt.as_deref().map_or(Ok(Money::ZERO), read)?;
    Ok(Some(Price { ceiling: read(&cost.ceiling)?, per_attempt }).filter(|price| price.ceiling > Money::ZERO))
}

/// What counts of a Task's priority: it may be less urgent than its Agent, or without one than `Normal`, never more.
pub fn priority(task: Option<Priority>, agent: Option<Priority>) -> Priority {
    let most = agent.unwrap_or_default();
    task.map_or(most, |task| task.min(most))
}

/// What is wrong with a budget beyond its schema.
pub(crate) fn check_budget(budget: &Budget, field: &str) -> Vec<Problem> {
    let Budget { per_attempt, hourly, daily, monthly, total, time_zone, floor_percent: _ } = budget;
    let amounts =
        [("perAttempt", per_attempt), ("hourly", hourly), ("daily", daily), ("monthly", monthly), ("total", total)];
    let wrong = amounts.into_iter().filter_map(|(name, text)| {
        let error = text.as_ref()?.parse::<Money>().err()?;
        Some(Problem::new(format!("{field}.{name}"), error.to_string()))
    });
    let zone = zone(time_zone).err().map(|error| Problem::new(format!("{field}.timeZone"), error.to_string()));
    wrong.chain(zone).collect()
}

/// What is wrong with a Skill's cost beyond its schema.
pub(crate) fn check_cost(cost: &Cost, field: &str) -> Vec<Problem> {
    let Cost { ceiling, per_attempt, per_call, per_million_input_tokens, per_million_output_tokens } = cost;
    let amounts = [
        ("ceiling", Some(ceiling)),
        ("perAttempt", per_attempt.as_ref()),
        ("perCall", per_call.as_ref()),
        ("perMillionInputTokens", per_million_input_tokens.as_ref()),
        ("perMillionOutputTokens", per_million_output_tokens.as_ref()),
    ];
    let mut problems = Vec::new();
    for (name, text) in amounts {
        if let Some(error) = text.and_then(|text| text.parse::<Money>().err()) {
            problems.push(Problem::new(format!("{field}.{name}"), error.to_string()));
        }
    }
    let amount = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<Money>().ok());
    let (most, each) = (ceiling.parse::<Money>().ok(), amount(per_attempt));
    if let (Some(most), Some(each)) = (most, each)
        && each > most
    {
        let message = format!("{each} is more than the ceiling, which is {most}; raise the ceiling");
        problems.push(Problem::new(format!("{field}.perAttempt"), message));
    }
    problems
}
