//! Has Tasks looked at again of which something was anchored or paid meanwhile, so that their status says so.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_service::causes::told;
use countersign_store::{StoreError, within};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::reconciler::context::Context;
use crate::watch::trigger::Trigger;

const EVERY: Duration = Duration::from_secs(2);

/// Runs while this process leads.
pub async fn run(context: &Context, trigger: &Trigger) {
    let mut ticks = super::every(EVERY);
    let mut known = Vec::new();
    loop {
        ticks.tick().await;
        if let Err(error) = within(super::TURN, tell(context, trigger, &mut known)).await {
            tracing::warn!(error = told(&error), "the outbox was not read; it is tried again");
        }
    }
}

async fn tell(context: &Context, trigger: &Trigger, known: &mut Vec<i64>) -> Result<(), StoreError> {
    let ended = context.store.ended_outbox(known).await?;
    if ended.is_empty() {
        return Ok(());
    }
    let uids: BTreeSet<&String> = ended.iter().flat_map(|(_, uids)| uids).collect();
    for task in context.caches.tasks.state() {
        if task.uid().is_some_and(|uid| uids.contains(&uid)) {
            trigger.reference(ObjectRef::from_obj(task.as_ref()));
        }
    }
    known.extend(ended.iter().map(|(id, _)| id));
    // More than end in the ten minutes that are looked back; what is told twice does no harm.
    let surplus = known.len().saturating_sub(10_000);
    known.drain(..surplus);
    Ok(())
}
