//! What the witness counts. Every label has a closed set of values; a log is named by its place among them.

use countersign_core::tlog::witness::Refusal;
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::witness::Refused;

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    checkpoints: IntCounterVec,
    size: IntGaugeVec,
}

/// What came of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Cosigned,
    Malformed,
    UnknownLog,
    Unsigned,
    Stale,
    SplitView,
    BadProof,
    NotKept,
}

impl Outcome {
    pub const ALL: [Outcome; 8] = [
        Outcome::Cosigned,
        Outcome::Malformed,
        Outcome::UnknownLog,
        Outcome::Unsigned,
        Outcome::Stale,
        Outcome::SplitView,
        Outcome::BadProof,
        Outcome::NotKept,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Cosigned => "cosigned",
            Outcome::Malformed => "malformed",
            Outcome::UnknownLog => "unknown-log",
            Outcome::Unsigned => "unsigned",
            Outcome::Stale => "stale",
            Outcome::SplitView => "split-view",
            Outcome::BadProof => "bad-proof",
            Outcome::NotKept => "not-kept",
        }
    }

    pub fn of(refused: &Refused) -> Outcome {
        match refused {
            Refused::Request(_) | Refused::Judged(Refusal::Beyond { .. }) => Outcome::Malformed,
            Refused::Unknown(_) => Outcome::UnknownLog,
            Refused::Judged(Refusal::Unsigned(_)) => Outcome::Unsigned,
            Refused::Judged(Refusal::Stale { .. }) => Outcome::Stale,
            Refused::Judged(Refusal::SplitView { .. }) => Outcome::SplitView,
            Refused::Judged(Refusal::Proof(_)) => Outcome::BadProof,
            Refused::Disk(_) | Refused::Clock => Outcome::NotKept,
        }
    }
}

impl Metrics {
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new_custom(Some("countersign_witness".to_owned()), None)?;
        let checkpoints = IntCounterVec::new(
            Opts::new("checkpoints_total", "Checkpoints that were submitted, by what came of it"),
            &["outcome"],
        )?;
        let size = IntGaugeVec::new(Opts::new("log_size", "Entries of what was cosigned last, by log"), &["log"])?;
        registry.register(Box::new(checkpoints.clone()))?;
        registry.register(Box::new(size.clone()))?;
        for outcome in Outcome::ALL {
            checkpoints.with_label_values(&[outcome.as_str()]);
        }
        Ok(Metrics { registry, checkpoints, size })
    }

    pub fn count(&self, outcome: Outcome) {
        self.checkpoints.with_label_values(&[outcome.as_str()]).inc();
    }

    pub fn size(&self, log: usize, size: u64) {
        self.size.with_label_values(&[&log.to_string()]).set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    /// In the Prometheus text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}
