//! What the broker counts. Every label has a closed set of values: never a host, a Skill or an attempt.

use std::time::Duration;

use countersign_store::Outbox;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::alerts::webhook::Outcome;
use crate::refusal::Reason;

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    seconds: Histogram,
    refused: IntCounterVec,
    sessions: IntCounter,
    unrecorded: IntCounter,
    alerts: IntCounterVec,
    alerts_due: IntGauge,
    alerts_dead: IntGauge,
}

const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

impl Metrics {
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new_custom(Some("countersign_broker".to_owned()), None)?;
        let counter = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let seconds = HistogramOpts::new("call_seconds", "Calls, from the request to the end of the answer");
        let metrics = Metrics {
            calls: counter("calls_total", "Calls that were recorded, by outcome", "outcome")?,
            seconds: Histogram::with_opts(seconds.buckets(SECONDS.to_vec()))?,
            refused: counter("refused_total", "Requests that the broker answered itself, by reason", "reason")?,
            sessions: IntCounter::new("sessions_total", "Sessions that were opened")?,
            unrecorded: IntCounter::new("unrecorded_ends_total", "Calls whose end could not be recorded")?,
            alerts: counter("alerts_total", "Tries to deliver an alert of a budget, by outcome", "outcome")?,
            alerts_due: IntGauge::new("alerts_due", "Alerts of budgets that are yet to be delivered")?,
            alerts_dead: IntGauge::new("alerts_dead", "Alerts of budgets that were given up")?,
            registry,
        };
        let Metrics { registry, calls, seconds, refused, sessions, unrecorded, alerts, alerts_due, alerts_dead } =
            &metrics;
        for outcome in Outcome::ALL {
            alerts.with_label_values(&[outcome.as_str()]).reset();
        }
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(unrecorded.clone()))?;
        registry.register(Box::new(alerts.clone()))?;
        registry.register(Box::new(alerts_due.clone()))?;
        registry.register(Box::new(alerts_dead.clone()))?;
        Ok(metrics)
    }

    pub fn call(&self, outcome: &'static str, took: Duration) {
        self.calls.with_label_values(&[outcome]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub fn refused(&self, reason: Reason) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }

    pub fn session(&self) {
        self.sessions.inc();
    }

    pub fn unrecorded(&self) {
        self.unrecorded.inc();
    }

    pub fn alert(&self, outcome: Outcome) {
        self.alerts.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Every replica tells the same of the outbox.
    pub fn outbox(&self, outbox: Outbox) {
        let Outbox { due, dead } = outbox;
        self.alerts_due.set(due);
        self.alerts_dead.set(dead);
    }

    /// In the Prometheus text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_broker_that_the_dashboard_asks_for_is_told() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/dashboards");
        let told = Metrics::new().unwrap().render().unwrap();
        let mut asked = 0;
        for file in ["countersign-budgets.json", "alerts.yaml"] {
            let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in words.filter(|word| word.starts_with("countersign_broker_")) {
                assert!(told.contains(&format!("# TYPE {name} ")), "{name} of {file} is not in {told}");
                asked += 1;
            }
        }
        assert!(asked >= 5, "{asked}");
    }
}
