//! What budgets look like from outside. Sums are in millionths of the currency, as money is whole numbers everywhere; the
//! leader reads them from the record, and of them a replica that does not lead tells nothing.

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_core::record::Change;
use countersign_crds::{BudgetVerdict, Priority};
use countersign_store::{Differences, LedgerSummary, OpenWindows, ReservationState};
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

#[derive(Clone)]
pub struct Budgets {
    decisions: IntCounterVec,
    spent: IntGaugeVec,
    reservations: IntGaugeVec,
    differences: IntGaugeVec,
    open: Open,
}

/// Of the windows that can still be spent from and have a limit.
#[derive(Clone)]
struct Open {
    limit: IntGaugeVec,
    spent: IntGaugeVec,
    held: IntGaugeVec,
    fullest: IntGaugeVec,
}

const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];
const WINDOW: [&str; 2] = ["scope", "window"];

fn whole(money: Money) -> i64 {
    i64::try_from(money.micros()).unwrap_or(i64::MAX)
}

impl Budgets {
    pub fn new(registry: &Registry) -> Result<Budgets, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let budgets = Budgets {
            decisions: counter(
                "budget_decisions_total",
                "Prices that this replica held against budgets, by what was decided",
                &["verdict", "priority"],
            )?,
            // The record's, so no counter of this process.
            spent: gauge("budget_spent_micros", "What was ever paid, in millionths", &["priority"])?,
            reservations: gauge("reservations", "Reservations, by state", &["state"])?,
            differences: gauge(
                "ledger_difference",
                "How the ledger's accounts, reservations and budgets differ, in millionths: 0, or something is wrong",
                &["account"],
            )?,
            open: Open {
                limit: gauge("budget_limit_micros", "Limits of the windows that are open, in millionths", &WINDOW)?,
                spent: gauge("budget_window_spent_micros", "What was spent in them, in millionths", &WINDOW)?,
                held: gauge("budget_held_micros", "What is reserved in them, in millionths", &WINDOW)?,
                fullest: gauge(
                    "budget_fullest_percent",
                    "How much of its limit the fullest of them has spent or reserved",
                    &WINDOW,
                )?,
            },
        };
        // From the start, so that what never happened shows as 0.
        for priority in PRIORITIES {
            for verdict in BudgetVerdict::ALL {
                budgets.decisions.with_label_values(&[verdict.as_str(), priority.as_str()]);
            }
        }
        Ok(budgets)
    }

    pub fn change(&self, change: &Change) {
        if let Some(decision) = change.budget() {
            self.decisions.with_label_values(&[decision.verdict.as_str(), decision.priority.as_str()]).inc();
        }
    }

    /// Takes over what the record says.
    pub fn read(&self, summary: &LedgerSummary) {
        let LedgerSummary { reservations, spent, windows, differences } = summary;
        for priority in PRIORITIES {
            let of = spent.iter().filter(|(of, _)| *of == priority).map(|(_, spent)| *spent);
            self.spent.with_label_values(&[priority.as_str()]).set(whole(of.fold(Money::ZERO, Money::saturating_add)));
        }
        for state in ReservationState::ALL {
            let count = reservations.iter().filter(|(of, _)| *of == state).map(|(_, count)| count).sum();
            self.reservations.with_label_values(&[state.as_str()]).set(count);
        }
        let Differences { accounts, held, revenue, budgets_held, budgets_spent } = differences;
        for (account, difference) in [
            ("accounts", accounts),
            ("held", held),
            ("revenue", revenue),
            ("budgets_held", budgets_held),
            ("budgets_spent", budgets_spent),
        ] {
            self.differences.with_label_values(&[account]).set(*difference);
        }
        for scope in Scope::ALL {
            for window in Window::ALL {
                let open = windows.iter().find(|open| (open.scope, open.window) == (scope, window));
                self.open.set(scope, window, open);
            }
        }
    }
}

impl Open {
    fn set(&self, scope: Scope, window: Window, open: Option<&OpenWindows>) {
        let labels = [scope.as_str(), window.as_str()];
        let (limit, spent, held, fullest) = match open {
            Some(OpenWindows { scope: _, window: _, limit, spent, held, fullest_percent }) => {
                (whole(*limit), whole(*spent), whole(*held), i64::from(*fullest_percent))
            }
            None => (0, 0, 0, 0),
        };
        let all = [(&self.limit, limit), (&self.spent, spent), (&self.held, held), (&self.fullest, fullest)];
        all.into_iter().for_each(|(gauge, value)| gauge.with_label_values(&labels).set(value));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;

    fn text(metrics: &Metrics) -> String {
        metrics.render().unwrap()
    }

    fn decision(verdict: &str, priority: &str) -> Value {
        json!({"verdict": verdict, "skill": "s", "amount": "1", "perAttempt": "0", "priority": priority, "lines": []})
    }

    #[test]
    fn every_decision_is_counted_by_verdict_and_priority() {
        let metrics = Metrics::new().unwrap();
        let at = "2026-11-21T00:00:00Z";
        for change in [
            json!({"kind": "defer", "step": "one", "until": null, "budget": decision("Deferred", "Low"), "at": at}),
            json!({"kind": "defer", "step": "one", "until": at, "budget": decision("Deferred", "Low"), "at": at}),
            json!({"kind": "finishStep", "step": "one", "outcome": "Rejected", "reason": "r", "message": "m", "rules": [],
                "budget": decision("Rejected", "High"), "at": at}),
            json!({"kind": "end", "ending": {"cause": "Cancelled", "at": at}}),
        ] {
            metrics.change(
                &serde_json::from_value::<Change>(change.clone()).unwrap_or_else(|error| panic!("{change}: {error}")),
            );
        }
        let text = text(&metrics);
        for (verdict, priority, count) in
            [("Deferred", "Low", 2), ("Rejected", "High", 1), ("Rejected", "Low", 0), ("Allowed", "Normal", 0)]
        {
            let line = format!(
                "countersign_budget_decisions_total{{priority=\"{priority}\",verdict=\"{verdict}\"}} {count}\n"
            );
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn the_books_are_told_once_they_were_read_and_as_they_are_now() {
        let metrics = Metrics::new().unwrap();
        assert!(!text(&metrics).contains("countersign_ledger_difference"), "nobody has looked yet");
        let money = Money::from_micros;
        let open = OpenWindows {
            scope: Scope::Agent,
            window: Window::Day,
            limit: money(100),
            spent: money(70),
            held: money(10),
            fullest_percent: 90,
        };
        let mut summary = LedgerSummary {
            reservations: vec![
                (ReservationState::Held, 2),
                (ReservationState::Held, 3),
                (ReservationState::Settled, 1),
            ],
            spent: vec![(Priority::High, money(60)), (Priority::High, money(10))],
            windows: vec![open],
            differences: Differences { held: -3, ..Differences::default() },
        };
        metrics.ledger(&summary);
        let first = text(&metrics);
        for line in [
            "countersign_reservations{state=\"Held\"} 5",
            "countersign_reservations{state=\"Unknown\"} 0",
            "countersign_budget_spent_micros{priority=\"High\"} 70",
            "countersign_budget_limit_micros{scope=\"Agent\",window=\"Day\"} 100",
            "countersign_budget_window_spent_micros{scope=\"Agent\",window=\"Day\"} 70",
            "countersign_budget_held_micros{scope=\"Agent\",window=\"Day\"} 10",
            "countersign_budget_fullest_percent{scope=\"Agent\",window=\"Day\"} 90",
            "countersign_budget_held_micros{scope=\"Cluster\",window=\"Total\"} 0",
            "countersign_ledger_difference{account=\"held\"} -3",
            "countersign_ledger_difference{account=\"accounts\"} 0",
        ] {
            assert!(first.contains(&format!("{line}\n")), "{line} in {first}");
        }
        // The window went by.
        (summary.windows, summary.differences) = (Vec::new(), Differences::default());
        metrics.ledger(&summary);
        let second = text(&metrics);
        for line in [
            "countersign_budget_held_micros{scope=\"Agent\",window=\"Day\"} 0",
            "countersign_ledger_difference{account=\"held\"} 0",
        ] {
            assert!(second.contains(&format!("{line}\n")), "{line} in {second}");
        }
    }

    /// Names of metrics, each with the names of its labels.
    fn told() -> BTreeMap<String, BTreeSet<String>> {
        let metrics = Metrics::new().unwrap();
        metrics.ledger(&LedgerSummary::default());
        let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let text = text(&metrics);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let labels = line[name.len()..].split(['{', ',']).filter_map(|label| label.split_once("=\""));
            told.entry(name).or_default().extend(labels.map(|(label, _)| label.to_owned()));
        }
        told
    }

    /// What the dashboard and the rules ask Prometheus.
    fn asked() -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/dashboards");
        let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
        let dashboard: Value = serde_json::from_str(&read("countersign-budgets.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        let rules: Value = serde_saphyr::from_str(&read("alerts.yaml")).unwrap();
        let rules = rules["spec"]["groups"][0]["rules"].as_array().unwrap();
        targets.chain(rules).filter_map(|one| one["expr"].as_str()).map(str::to_owned).collect()
    }

    #[test]
    fn every_metric_and_label_that_is_asked_for_is_told() {
        let (told, asked) = (told(), asked());
        assert!(asked.len() > 15, "{asked:?}");
        let mut names = BTreeSet::new();
        for question in &asked {
            let words: BTreeSet<&str> = question.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
            // Those of the broker and of the signer are held against what they tell there.
            let theirs =
                |word: &str| ["broker", "signer"].iter().any(|of| word.starts_with(&format!("countersign_{of}_")));
            let own = |word: &&&str| word.starts_with("countersign_") && !theirs(word);
            let of: Vec<&str> = words.iter().filter(own).copied().collect();
            for name in &of {
                assert!(told.contains_key(*name), "{name} in {question}");
            }
            let by =
                question.split("by (").skip(1).filter_map(|rest| rest.split_once(')')).map(|(by, _)| by.to_owned());
            let picked = question.split(['{', ',']).filter_map(|label| {
                let (label, _) = label.split_once(['=', '~'])?;
                label.bytes().all(|c| c.is_ascii_lowercase()).then(|| label.to_owned())
            });
            for label in by.chain(picked).flat_map(|all| all.split(", ").map(str::to_owned).collect::<Vec<_>>()) {
                for name in &of {
                    assert!(told[*name].contains(&label), "{label} of {name} in {question}");
                }
            }
            names.extend(of.into_iter().map(str::to_owned));
        }
        let ours = told.keys().filter(|name| name.contains("budget") || name.contains("ledger")).cloned();
        let unseen: Vec<String> = ours.filter(|name| !names.contains(name)).collect();
        assert_eq!(unseen, Vec::<String>::new(), "told, and on no dashboard");
    }
}
