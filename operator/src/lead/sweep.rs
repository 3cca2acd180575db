//! Ends the records of Tasks whose object is gone. There is no finalizer, so that a namespace can always
//! be deleted; what was deleted while nobody watched is found here.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_service::causes::told;
use countersign_store::{StoreError, UnfinishedTask, within};
use kube::runtime::reflector::ObjectRef;

use crate::reconciler::context::Context;
use crate::reconciler::error::Error;
use crate::reconciler::reconcile::reconcile_key;
use crate::watch::caches::reference;
use crate::watch::index::TaskKey;
use crate::watch::trigger::Trigger;

const EVERY: Duration = Duration::from_secs(5);
/// A safety net below the watches: every unfinished Task is looked at this often.
const LOOK_AT_ALL: u32 = 60;

/// Runs while this process leads.
pub async fn sweep(context: &Context, trigger: &Trigger) {
    let mut ticks = super::every(EVERY);
    let mut round: u32 = 0;
    loop {
        ticks.tick().await;
        if let Err(error) = sweep_once(context).await {
            tracing::warn!(error = told(&error), "the sweep failed; it is repeated");
        }
        round = round.wrapping_add(1);
        if round.is_multiple_of(LOOK_AT_ALL) {
            trigger.unfinished(&context.caches);
            forget_the_gone(context);
        }
    }
}

async fn sweep_once(context: &Context) -> Result<(), StoreError> {
    let unfinished = within(super::TURN, context.store.unfinished()).await?;
    super::each("the end of a Task that is gone", unfinished.into_iter().map(|task| end(context, task))).await;
    Ok(())
}

/// Ends the record of a Task whose object is gone.
async fn end(context: &Context, task: UnfinishedTask) -> Result<(), Error> {
    let UnfinishedTask { uid, namespace, name } = task;
    let key = TaskKey { namespace, name, uid };
    if !exists(context, &key) && !exists_live(context, &key).await? {
        reconcile_key(context, &key, None, None).await?;
    }
    Ok(())
}

fn forget_the_gone(context: &Context) {
    let tasks = context.caches.tasks.state();
    let uids: BTreeSet<String> = tasks.iter().filter_map(|task| kube::ResourceExt::uid(task.as_ref())).collect();
    context.remembered.keep(|uid| uids.contains(uid));
    context.recent.keep(|uid| uids.contains(uid));
    context.failures.keep(|uid| uids.contains(uid));
}

fn exists(context: &Context, key: &TaskKey) -> bool {
    let reference: ObjectRef<_> = reference(key);
    let task = context.caches.tasks.get(&reference);
    task.is_some_and(|task| kube::ResourceExt::uid(task.as_ref()).as_deref() == Some(&key.uid))
}

/// The cache may be behind; the API server is not.
async fn exists_live(context: &Context, key: &TaskKey) -> Result<bool, Error> {
    let tasks: kube::Api<countersign_crds::Task> = kube::Api::namespaced(context.client.clone(), &key.namespace);
    let task = tasks.get_metadata_opt(&key.name).await?;
    Ok(task.is_some_and(|task| task.metadata.uid.as_deref() == Some(&key.uid)))
}
