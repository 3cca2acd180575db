//! What the broker counts. Every label has a closed set of values: never a host, a Skill or an attempt.

use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

use crate::refusal::Reason;

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    seconds: Histogram,
    refused: IntCounterVec,
    sessions: IntCounter,
    unrecorded: IntCounter,
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
            registry,
        };
        let Metrics { registry, calls, seconds, refused, sessions, unrecorded } = &metrics;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(unrecorded.clone()))?;
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

    /// In the Prometheus text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}
