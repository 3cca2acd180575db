//! Keeps the log in order: whatever is pending gets its place and a signed checkpoint, soon after it was recorded.

use std::time::Duration;

use jiff::Timestamp;

use crate::context::Context;

/// How long entries may wait where nothing else is to be done.
const EVERY: Duration = Duration::from_millis(500);
/// How many entries one transaction puts in order.
const BATCH: i64 = 10_000;

/// Runs while this process leads; the store sees to it that no two do it at once.
pub async fn run(context: &Context) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut complaint = String::new();
    loop {
        ticks.tick().await;
        let Some(key) = context.log_key.get() else { continue };
        match context.store.sequence(&key, Timestamp::now(), BATCH).await {
            Ok(None) => complaint.clear(),
            Ok(Some(sequenced)) => {
                complaint.clear();
                context.metrics.sequenced(sequenced.added, sequenced.checkpoint.size);
            }
            Err(error) => {
                let said = error.to_string();
                if said != complaint {
                    tracing::error!(%error, "the log was not sequenced; it is tried again");
                }
                complaint = said;
            }
        }
    }
}
