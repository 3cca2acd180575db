//! What a step would cost and how long it would take, from what its Skill did before or else from its contract.

use std::time::Duration;

use countersign_crds::{SkillSpec, Step};

use super::simulation::{CostSource, DurationSource, StepCost};
use crate::budget::{Price, price};
use crate::money::Money;
use crate::time::GoDuration;

/// What the last attempts with a Skill came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// How many attempts these figures are taken from.
    pub runs: u32,
    /// Half of them were done sooner.
    pub p50: Duration,
    /// All but one in twenty were.
    pub p95: Duration,
    /// `None` where none of them had a price.
    pub mean_cost: Option<Money>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    pub p50: Duration,
    pub p95: Duration,
    pub source: DurationSource,
}

impl Takes {
    /// What does not run takes no time.
    pub const NOTHING: Takes = Takes { p50: Duration::ZERO, p95: Duration::ZERO, source: DurationSource::None };
}

/// What does not run costs nothing.
pub(super) const NOTHING: StepCost = StepCost {
    minimum: Money::ZERO,
    expected: Money::ZERO,
    maximum: Money::ZERO,
    attempts: 0,
    source: CostSource::Free,
};

/// A failed attempt is made again only where the Skill is idempotent.
pub(super) fn attempts(step: &Step, contract: &SkillSpec) -> u32 {
    let again = step.retry.as_ref().filter(|_| contract.idempotent);
    again.map_or(1, |retry| retry.limit.saturating_add(1))
}

/// `certain` where it is known that the step runs; `most` is what one attempt may cost at all.
pub(super) fn cost(
    step: &Step,
    contract: &SkillSpec,
    history: Option<&History>,
    certain: bool,
    most: Option<Money>,
) -> StepCost {
    let attempts = attempts(step, contract);
    let (ceiling, per_attempt) = match price(contract) {
        Ok(None) => return StepCost { attempts, ..NOTHING },
        Err(_) => return StepCost { attempts, source: CostSource::NotKnown, ..NOTHING },
        Ok(Some(Price { ceiling, per_attempt })) => (ceiling.min(most.unwrap_or(ceiling)), per_attempt),
    };
    let (expected, source) = match history.and_then(|history| history.mean_cost) {
        Some(mean) => (mean, CostSource::History),
        None => (per_attempt.saturating_add(per_call(contract)), CostSource::Contract),
    };
    StepCost {
        minimum: if certain { per_attempt } else { Money::ZERO },
        // Prices may have changed since.
        expected: expected.max(per_attempt).min(ceiling),
        maximum: Money::from_micros(ceiling.micros().saturating_mul(u64::from(attempts))),
        attempts,
        source,
    }
}

fn per_call(contract: &SkillSpec) -> Money {
    let per_call = contract.cost.as_ref().and_then(|cost| cost.per_call.as_ref());
    per_call.and_then(|text| text.parse().ok()).unwrap_or(Money::ZERO)
}

/// `timeout` is what one attempt may take at most.
pub(super) fn takes(contract: &SkillSpec, history: Option<&History>, timeout: Duration) -> Takes {
    if let Some(History { runs: 1.., p50, p95, mean_cost: _ }) = history {
        // The Skill's timeout may be shorter now.
        return Takes { p50: (*p50).min(timeout), p95: (*p95).min(timeout), source: DurationSource::History };
    }
    let expected = contract.expected_duration.as_ref().and_then(|text| text.parse::<GoDuration>().ok());
    match expected {
        Some(expected) => Takes { p50: expected.get().min(timeout), p95: timeout, source: DurationSource::Contract },
        None => Takes { p50: timeout, p95: timeout, source: DurationSource::Timeout },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn contract(more: Value) -> SkillSpec {
        let mut spec = json!({"effect": "Read", "builtin": {"name": "http_call"}, "timeout": "60s",
            "egress": [{"host": "api.example.com"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn a_cost_rests_on_history_or_else_on_the_contract() {
        let priced = json!({"cost": {"ceiling": "1", "perAttempt": "0.05", "perCall": "0.1"}, "idempotent": true});
        let once: Step = serde_json::from_value(json!({"name": "s", "skill": "k"})).unwrap();
        let thrice: Step = serde_json::from_value(json!({"name": "s", "skill": "k", "retry": {"limit": 2}})).unwrap();
        let history = |mean: Option<&str>| History {
            runs: 9,
            p50: Duration::from_secs(2),
            p95: Duration::from_secs(4),
            mean_cost: mean.map(money),
        };
        let mean = history(Some("0.4"));
        let (low, high, unpriced) = (history(Some("0.01")), history(Some("7")), history(None));
        let of = |step: &Step, more: Value, history: Option<&History>, certain: bool, most: Option<&str>| {
            let StepCost { minimum, expected, maximum, attempts, source } =
                cost(step, &contract(more), history, certain, most.map(money));
            ([minimum, expected, maximum].map(|money| money.to_string()).join(" "), attempts, source)
        };
        let once_only = json!({"cost": {"ceiling": "1"}});
        for (step, more, history, certain, most, expected, attempts, source) in [
            (&once, priced.clone(), None, true, None, "0.05 0.15 1", 1, CostSource::Contract),
            (&once, priced.clone(), None, false, None, "0 0.15 1", 1, CostSource::Contract),
            (&thrice, priced.clone(), None, true, None, "0.05 0.15 3", 3, CostSource::Contract),
            (&thrice, priced.clone(), None, true, Some("0.5"), "0.05 0.15 1.5", 3, CostSource::Contract),
            (&thrice, once_only, None, true, None, "0 0 1", 1, CostSource::Contract),
            (&once, priced.clone(), Some(&mean), true, None, "0.05 0.4 1", 1, CostSource::History),
            (&once, priced.clone(), Some(&low), true, None, "0.05 0.05 1", 1, CostSource::History),
            (&once, priced.clone(), Some(&high), true, None, "0.05 1 1", 1, CostSource::History),
            (&once, priced, Some(&unpriced), true, None, "0.05 0.15 1", 1, CostSource::Contract),
            (&once, json!({"cost": {"ceiling": "0"}}), None, true, None, "0 0 0", 1, CostSource::Free),
            (&once, json!({"egress": []}), None, true, None, "0 0 0", 1, CostSource::Free),
            (&once, json!({}), None, true, None, "0 0 0", 1, CostSource::NotKnown),
        ] {
            let found = of(step, more.clone(), history, certain, most);
            assert_eq!(found, (expected.to_owned(), attempts, source), "{more}");
        }
    }

    #[test]
    fn a_duration_rests_on_history_or_the_contract_or_the_timeout() {
        let history = History { runs: 3, p50: Duration::from_secs(2), p95: Duration::from_secs(9), mean_cost: None };
        let never = History { runs: 0, ..history };
        let minute = Duration::from_secs(60);
        let of = |more: Value, history: Option<&History>| {
            let Takes { p50, p95, source } = takes(&contract(more), history, minute);
            (p50.as_secs(), p95.as_secs(), source)
        };
        let expected = json!({"expectedDuration": "5s"});
        assert_eq!(of(expected.clone(), Some(&history)), (2, 9, DurationSource::History));
        assert_eq!(of(expected.clone(), Some(&never)), (5, 60, DurationSource::Contract));
        assert_eq!(of(expected, None), (5, 60, DurationSource::Contract));
        assert_eq!(of(json!({"expectedDuration": "90s"}), None), (60, 60, DurationSource::Contract));
        assert_eq!(of(json!({}), None), (60, 60, DurationSource::Timeout));
    }
}
