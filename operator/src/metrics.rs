//! What the operator counts. Names of objects never become labels; every label has a closed set of values.

mod budgets;
mod witness;

use countersign_core::record::Change;
use countersign_store::LedgerSummary;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use self::budgets::Budgets;
pub use self::witness::Submitted;
use self::witness::Witnesses;

#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    reconcile: HistogramVec,
    transaction: Histogram,
    changes: IntCounterVec,
    steps: IntCounterVec,
    tasks: IntCounterVec,
    actions: IntCounterVec,
    admission: IntCounterVec,
    leader: IntGauge,
    sequenced: IntCounter,
    log_size: IntGauge,
    protected: IntGauge,
    api: IntCounterVec,
    budgets: Budgets,
    witnesses: Witnesses,
}

const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

impl Metrics {
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new_custom(Some("countersign".to_owned()), None)?;
        let histogram = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Metrics {
            reconcile: HistogramVec::new(
                histogram("reconcile_seconds", "Reconciliations of a Task, by result"),
                &["result"],
            )?,
            transaction: Histogram::with_opts(histogram("transaction_seconds", "Transactions on the record"))?,
            changes: counter("changes_total", "Changes recorded, by kind", &["kind"])?,
            steps: counter("steps_finished_total", "Steps finished, by outcome", &["outcome"])?,
            tasks: counter("tasks_finished_total", "Tasks finished, by outcome", &["outcome"])?,
            actions: counter("actions_total", "Actions in the cluster, by kind and result", &["kind", "result"])?,
            admission: counter("admission_reviews_total", "Admission reviews", &["resource", "verdict"])?,
            leader: IntGauge::new("leader", "1 while this replica leads")?,
            sequenced: IntCounter::new("log_entries_sequenced_total", "Entries that this replica put in order")?,
            log_size: IntGauge::new("log_size", "Entries of the newest checkpoint that this replica signed")?,
            protected: IntGauge::new("log_protected", "1 where PostgreSQL keeps the operator from changing the log")?,
            api: counter("api_requests_total", "Requests of readers, by route and status", &["path", "code"])?,
            budgets: Budgets::new(&registry)?,
            witnesses: Witnesses::new(&registry)?,
            registry,
        };
        let Metrics {
            registry,
            reconcile,
            transaction,
            changes,
            steps,
            tasks,
            actions,
            admission,
            leader,
            sequenced,
            log_size,
            protected,
            api,
            budgets: _,
            witnesses: _,
        } = &metrics;
        registry.register(Box::new(reconcile.clone()))?;
        registry.register(Box::new(transaction.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(sequenced.clone()))?;
        registry.register(Box::new(log_size.clone()))?;
        registry.register(Box::new(protected.clone()))?;
        for counter in [changes, steps, tasks, actions, admission, api] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(metrics)
    }

    pub fn reconcile_timer(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { histogram: &self.reconcile, started: std::time::Instant::now() }
    }

    pub fn transaction_timer(&self) -> HistogramTimer {
        self.transaction.start_timer()
    }

    pub fn change(&self, change: &Change) {
        self.changes.with_label_values(&[change.kind()]).inc();
        self.budgets.change(change);
        if let Change::FinishStep { outcome, .. } = change {
            self.steps.with_label_values(&[format!("{outcome:?}")]).inc();
        }
        if let Change::FinishTask { finished, .. } = change {
            self.tasks.with_label_values(&[format!("{:?}", finished.outcome)]).inc();
        }
    }

    pub fn ledger(&self, summary: &LedgerSummary) {
        self.budgets.read(summary);
    }

    pub fn action(&self, kind: &str, done: bool) {
        self.actions.with_label_values(&[kind, if done { "done" } else { "failed" }]).inc();
    }

    pub fn admission(&self, resource: &str, allowed: bool) {
        self.admission.with_label_values(&[resource, if allowed { "allowed" } else { "denied" }]).inc();
    }

    pub fn sequenced(&self, added: usize, size: u64) {
        self.sequenced.inc_by(added as u64);
        self.log_size.set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    pub fn protected(&self, protected: bool) {
        self.protected.set(i64::from(protected));
    }

    /// `path` is a route, not what was asked for.
    pub fn api(&self, path: &str, code: u16) {
        self.api.with_label_values(&[path, &code.to_string()]).inc();
    }

    /// `witness` is its place in the settings.
    pub fn submitted(&self, witness: usize, outcome: Submitted) {
        self.witnesses.submitted(witness, outcome);
    }

    pub fn witness_lag(&self, witness: usize, entries: u64, seconds: i64) {
        self.witnesses.lag(witness, entries, seconds);
    }

    pub fn leading(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// In the Prometheus text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}

/// Measures one reconciliation; how it ended is known only at the end.
pub struct ReconcileTimer<'a> {
    histogram: &'a HistogramVec,
    started: std::time::Instant,
}

impl ReconcileTimer<'_> {
    pub fn observe(self, result: &str) {
        self.histogram.with_label_values(&[result]).observe(self.started.elapsed().as_secs_f64());
    }
}
