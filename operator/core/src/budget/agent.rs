//! How an Agent's budget stands, as its status says it.

use std::collections::BTreeMap;

use countersign_crds::{AgentStatus, WindowStatus};
use jiff::Timestamp;

use super::line::{Budgets, Line, LineKey};
use super::weigh::Balance;
use super::window::Window;
use crate::condition::condition;
use crate::money::Money;
use crate::status::time;

const KIND: &str = "WithinBudget";

/// From the lines of the Agent alone. `last` is what was reported before, for the time of the last transition.
pub fn agent_status(
    now: Timestamp,
    generation: Option<i64>,
    budgets: &Budgets,
    balances: &BTreeMap<LineKey, Balance>,
    last: Option<&AgentStatus>,
) -> AgentStatus {
    let of = |line: &Line| balances.get(&line.key).copied().unwrap_or_default();
    let window = |wanted: Window| {
        let line = budgets.lines.iter().find(|line| line.key.window == wanted)?;
        let Balance { spent, held } = of(line);
        let used = spent.saturating_add(held);
        Some(WindowStatus {
            limit: line.limit.map(|limit| limit.to_string()),
            spent: spent.to_string(),
            held: held.to_string(),
            remaining: line.limit.map(|limit| limit.saturating_sub(used).to_string()),
            resets_at: line.ends_at.map(time),
        })
    };
    let percent = budgets.lines.iter().filter_map(|line| used_percent(line.limit?, of(line))).max();
    let said = match (&budgets.unreadable, percent) {
        (Some(why), _) => Some(("Unknown", "Unreadable", why.clone())),
        (None, None) => None,
        (None, Some(percent)) => {
            let (status, reason) = match percent {
                0..50 => ("True", "Plenty"),
                50..80 => ("True", "Half"),
                80..100 => ("True", "Scarce"),
                _ => ("False", "Exhausted"),
            };
            Some((status, reason, format!("{percent} percent of its tightest limit are spent or held")))
        }
    };
    let last = last.map(|last| last.conditions.as_slice()).unwrap_or_default();
    let condition =
        said.map(|(status, reason, message)| condition(now, generation, last, (KIND, status, reason), &message));
    AgentStatus {
        observed_generation: generation,
        conditions: condition.into_iter().collect(),
        hour: window(Window::Hour),
        today: window(Window::Day),
        month: window(Window::Month),
        total: window(Window::Total),
    }
}

/// Whole percents, rounded down; a limit of nothing is used up.
fn used_percent(limit: Money, Balance { spent, held }: Balance) -> Option<u64> {
    let used = u128::from(spent.saturating_add(held).micros()) * 100;
    Some(match used.checked_div(u128::from(limit.micros())) {
        None => 100,
        Some(percent) => u64::try_from(percent).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_crds::AgentSpec;
    use serde_json::json;

    #[test]
    fn a_status_says_what_is_left_and_how_urgent_that_is() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let spec: AgentSpec = serde_json::from_value(
            json!({"allowedSkills": [], "budget": {"daily": "10", "total": "100", "timeZone": "Europe/Zurich"}}),
        )
        .unwrap();
        let budgets = Budgets::of_agent(now, "team", "a", &spec);
        for (spent, held, reason, status, remaining) in [
            (0, 0, "Plenty", "True", "10"),
            (4_990_000, 0, "Plenty", "True", "5.01"),
            (4_000_000, 1_000_000, "Half", "True", "5"),
            (8_000_000, 0, "Scarce", "True", "2"),
            (9_000_000, 1_000_000, "Exhausted", "False", "0"),
            (12_000_000, 0, "Exhausted", "False", "0"),
        ] {
            let balance = Balance { spent: Money::from_micros(spent), held: Money::from_micros(held) };
            let day = budgets.lines.iter().find(|line| line.key.window == Window::Day).unwrap();
            let balances = BTreeMap::from([(day.key.clone(), balance)]);
            let said = agent_status(now, Some(2), &budgets, &balances, None);
            let condition = &said.conditions[0];
            assert_eq!((condition.reason.as_str(), condition.status.as_str()), (reason, status), "{spent} {held}");
            let today = said.today.unwrap();
            assert_eq!(today.remaining.as_deref(), Some(remaining));
            assert_eq!(today.resets_at.unwrap().0.to_string(), "2026-11-21T23:00:00Z");
            assert_eq!(said.total.unwrap().remaining.as_deref(), Some("100"));
            assert_eq!(said.hour, None);
        }
    }

    #[test]
    fn an_agent_without_a_budget_is_counted_and_not_judged() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let spec: AgentSpec = serde_json::from_value(json!({"allowedSkills": []})).unwrap();
        let said = agent_status(now, None, &Budgets::of_agent(now, "n", "a", &spec), &BTreeMap::new(), None);
        assert_eq!(said.conditions, []);
        let today = said.today.unwrap();
        assert_eq!((today.limit, today.remaining, today.spent.as_str()), (None, None, "0"));
    }
}
