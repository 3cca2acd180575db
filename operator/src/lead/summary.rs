//! Reads the ledger's sums for the metrics, and so compares its accounts, reservations and budgets all the time.

use std::time::{Duration, Instant};

use countersign_service::causes::told;
use countersign_store::{Differences, within};

use crate::reconciler::context::Context;

const EVERY: Duration = Duration::from_secs(15);
/// The longer the ledger, the less often: of PostgreSQL's time no more than one part in so many.
const SHARE: u32 = 100;

/// Runs while this process leads.
pub async fn run(context: &Context) {
    loop {
        let began = Instant::now();
        match within(super::TURN, context.store.ledger_summary()).await {
            Ok(summary) => {
                if summary.differences != Differences::default() {
                    tracing::error!(differences = ?summary.differences, "the ledger's accounts, reservations and budgets do not agree");
                }
                context.metrics.ledger(&summary);
            }
            Err(error) => tracing::warn!(error = told(&error), "the ledger was not read; trying again"),
        }
        tokio::time::sleep(EVERY.max(began.elapsed() * SHARE)).await;
    }
}
