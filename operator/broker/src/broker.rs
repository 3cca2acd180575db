//! What every request needs.

use std::sync::Arc;

use countersign_core::fingerprint::FingerprintKey;
use countersign_core::token::TokenKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::judge::address::Guard;
use crate::limits::{Breakers, Buffers, Rates};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::secrets::Secrets;
use crate::serve::files::Known;
use crate::settings::Limits;
use crate::upstream::resolve::Resolve;
use crate::upstream::trust::Trust;

pub struct Broker<R> {
    pub record: R,
    pub tokens: TokenKey,
    pub secrets: Secrets,
    /// What the fingerprints of Secrets are made with.
    pub fingerprints: FingerprintKey,
    pub resolver: Arc<dyn Resolve>,
    pub guard: Guard,
    pub trust: Trust,
    pub limits: Limits,
    pub rates: Rates,
    pub breakers: Arc<Breakers>,
    pub buffers: Buffers,
    pub known: Known,
    pub metrics: Metrics,
    /// Calls under way; each ends with its end recorded.
    pub calls: TaskTracker,
    /// Cuts them off.
    pub cut: CancellationToken,
}

/// What a broker is made of, beside what it makes itself.
pub struct Parts<R> {
    pub record: R,
    pub tokens: TokenKey,
    pub secrets: Secrets,
    /// What the fingerprints of Secrets are made with.
    pub fingerprints: FingerprintKey,
    pub resolver: Arc<dyn Resolve>,
    pub guard: Guard,
    pub trust: Trust,
    pub limits: Limits,
    pub metrics: Metrics,
}

impl<R: Record> Broker<R> {
    pub fn new(parts: Parts<R>) -> Broker<R> {
        let Parts { record, tokens, secrets, fingerprints, resolver, guard, trust, limits, metrics } = parts;
        Broker {
            record,
            tokens,
            secrets,
            fingerprints,
            resolver,
            guard,
            trust,
            rates: Rates::default(),
            breakers: Arc::new(Breakers::new(limits.breaker)),
            buffers: Buffers::new(limits.buffer_bytes),
            known: Known::default(),
            limits,
            metrics,
            calls: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }
}
