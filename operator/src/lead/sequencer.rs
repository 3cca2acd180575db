//! Keeps the log in order: whatever is pending gets its place and a signed checkpoint, soon after it was recorded.

use std::time::Duration;

use countersign_store::{LogKeys, within};

use crate::keys;
use crate::reconciler::context::Context;
use countersign_service::clock;

/// How long entries may wait where nothing else is to be done.
const EVERY: Duration = Duration::from_millis(500);
/// How many entries one transaction puts in order.
const BATCH: i64 = 10_000;

/// Runs while this process leads; the store sees to it that no two do it at once.
pub async fn run(context: &Context) {
    let mut ticks = super::every(EVERY);
    let mut complaint = String::new();
    loop {
        ticks.tick().await;
        let Some(keys) = context.log_keys.get() else { continue };
        let said = match within(super::TURN, step(context, &keys)).await {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        };
        if !said.is_empty() && said != complaint {
            tracing::error!(error = %said, "the log was not sequenced; it is tried again");
        }
        complaint = said;
    }
}

async fn step(context: &Context, keys: &LogKeys) -> anyhow::Result<()> {
    // Until nothing is left, so that a backlog is not bound to the ticks.
    while let Some(sequenced) = context.store.sequence(keys, clock::now(), BATCH).await? {
        context.metrics.sequenced(sequenced.added, sequenced.checkpoint.size);
        if i64::try_from(sequenced.added).is_ok_and(|added| added < BATCH) {
            break;
        }
    }
    let Some(next) = &keys.next else { return Ok(()) };
    if context.store.signs_with(&next.verifying_key()).await? {
        keys::promote(context.client.clone(), &context.operator_namespace, keys).await?;
    }
    Ok(())
}
