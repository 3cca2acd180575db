//! How witnesses of the log keep up, by their place in the settings.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// What came of a checkpoint that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    Cosigned,
    /// It cosigned more entries than the log has.
    Ahead,
    /// It cosigned as many entries with another root.
    SplitView,
    Refused,
    /// Its cosignature does not hold.
    Forged,
    Unreachable,
    Timeout,
}

impl Submitted {
    pub fn as_str(self) -> &'static str {
        match self {
            Submitted::Cosigned => "cosigned",
            Submitted::Ahead => "ahead",
            Submitted::SplitView => "split-view",
            Submitted::Refused => "refused",
            Submitted::Forged => "forged",
            Submitted::Unreachable => "unreachable",
            Submitted::Timeout => "timeout",
        }
    }
}

#[derive(Clone)]
pub struct Witnesses {
    submissions: IntCounterVec,
    entries: IntGaugeVec,
    seconds: IntGaugeVec,
}

impl Witnesses {
    pub fn new(registry: &Registry) -> Result<Witnesses, prometheus::Error> {
        let witnesses = Witnesses {
            submissions: IntCounterVec::new(
                Opts::new("witness_submissions_total", "Checkpoints that were shown to a witness, by what came of it"),
                &["witness", "outcome"],
            )?,
            entries: IntGaugeVec::new(
                Opts::new("witness_lag_entries", "Entries of the log that a witness has not cosigned yet"),
                &["witness"],
            )?,
            seconds: IntGaugeVec::new(
                Opts::new("witness_lag_seconds", "How long the oldest checkpoint waits for a witness"),
                &["witness"],
            )?,
        };
        let Witnesses { submissions, entries, seconds } = &witnesses;
        registry.register(Box::new(submissions.clone()))?;
        registry.register(Box::new(entries.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(witnesses)
    }

    pub fn submitted(&self, witness: usize, outcome: Submitted) {
        self.submissions.with_label_values(&[witness.to_string().as_str(), outcome.as_str()]).inc();
    }

    pub fn lag(&self, witness: usize, entries: u64, seconds: i64) {
        let witness = witness.to_string();
        self.entries.with_label_values(&[&witness]).set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.seconds.with_label_values(&[&witness]).set(seconds.max(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn each_witness_is_told_of_by_its_place() {
        let metrics = Metrics::new().unwrap();
        assert!(!metrics.render().unwrap().contains("witness"), "there is none");
        metrics.witness_lag(1, 7, 3);
        // A clock that went back.
        metrics.witness_lag(0, 0, -5);
        metrics.submitted(1, Submitted::SplitView);
        let text = metrics.render().unwrap();
        for line in [
            "countersign_witness_lag_entries{witness=\"1\"} 7",
            "countersign_witness_lag_seconds{witness=\"1\"} 3",
            "countersign_witness_lag_seconds{witness=\"0\"} 0",
            "countersign_witness_submissions_total{outcome=\"split-view\",witness=\"1\"} 1",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
    }
}
