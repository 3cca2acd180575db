//! The signer's metrics. Networks are named as the chart names them; nothing else names anything.

use countersign_store::OutboxStanding;
use prometheus::core::Collector;
use prometheus::{Encoder, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// What came of one step with one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    Confirmed,
    Refused,
    Dead,
    /// It is tried again.
    Trouble,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Confirmed => "confirmed",
            Outcome::Refused => "refused",
            Outcome::Dead => "dead",
            Outcome::Trouble => "trouble",
        }
    }
}

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    steps: IntCounterVec,
    items: IntGaugeVec,
    oldest: GaugeVec,
}

impl Metrics {
    pub fn new() -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let steps = IntCounterVec::new(
            Opts::new("countersign_signer_steps_total", "Steps with items of the outbox, by what came of them"),
            &["network", "outcome"],
        )?;
        let items = IntGaugeVec::new(
            Opts::new("countersign_signer_outbox_items", "Items of the outbox, by where they are"),
            &["network", "kind", "state"],
        )?;
        let oldest = GaugeVec::new(
            Opts::new(
                "countersign_signer_outbox_oldest_seconds",
                "How long the oldest item has waited that is not over",
            ),
            &["network", "kind"],
        )?;
        let all: [Box<dyn Collector>; 3] = [Box::new(steps.clone()), Box::new(items.clone()), Box::new(oldest.clone())];
        all.into_iter().try_for_each(|metric| registry.register(metric))?;
        Ok(Metrics { registry, steps, items, oldest })
    }

    pub fn stepped(&self, network: &str, outcome: Outcome) {
        self.steps.with_label_values(&[network, outcome.as_str()]).inc();
    }

    /// As the outbox stands now.
    pub fn standing(&self, standing: &[OutboxStanding]) {
        self.items.reset();
        self.oldest.reset();
        for OutboxStanding { network, kind, state, count, oldest_seconds } in standing {
            self.items.with_label_values(&[network.as_str(), kind, state.as_str()]).set(*count);
            if !state.is_over() {
                let oldest = self.oldest.with_label_values(&[network.as_str(), kind]);
                oldest.set(oldest.get().max(*oldest_seconds));
            }
        }
    }

    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use countersign_crds::PaymentState;

    use super::*;

    fn standing(state: PaymentState, count: i64, oldest_seconds: f64) -> OutboxStanding {
        OutboxStanding { network: "main".into(), kind: "Payment", state, count, oldest_seconds }
    }

    #[test]
    fn every_metric_that_the_rules_ask_for_is_told() {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dashboards/alerts.yaml");
        let rules = std::fs::read_to_string(rules).unwrap();
        let metrics = Metrics::new().unwrap();
        metrics.standing(&[standing(PaymentState::Dead, 2, 0.0), standing(PaymentState::Waiting, 1, 7.5)]);
        metrics.stepped("main", Outcome::Sent);
        let told = String::from_utf8(metrics.text().unwrap()).unwrap();
        let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<&str> = words.filter(|word| word.starts_with("countersign_signer_")).collect();
        assert!(asked.len() >= 2, "{asked:?}");
        for name in asked {
            assert!(told.contains(&format!("# TYPE {name} ")), "{name} is not in {told}");
        }
        let oldest = r#"countersign_signer_outbox_oldest_seconds{kind="Payment",network="main"} 7.5"#;
        let dead = r#"countersign_signer_outbox_items{kind="Payment",network="main",state="Dead"} 2"#;
        assert!(told.contains(oldest) && told.contains(dead), "{told}");
    }

    #[test]
    fn what_is_over_is_not_told_as_waiting() {
        let metrics = Metrics::new().unwrap();
        metrics.standing(&[standing(PaymentState::Waiting, 1, 7.5)]);
        metrics.standing(&[standing(PaymentState::Confirmed, 1, 0.0)]);
        let told = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert!(!told.contains("oldest_seconds{") && !told.contains("Waiting"), "{told}");
    }
}
