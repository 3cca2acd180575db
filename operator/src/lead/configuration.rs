//! Logs what the work is judged by: which Policies, Skills, Agents and template Plans there are, whenever they change.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_core::digest;
use countersign_core::event::{Event, ObjectName};
use countersign_crds::{Agent, LABEL_TASK_UID, Plan, Policy, Skill};
use countersign_service::causes::told;
use countersign_store::{StoreError, within};
use futures::{Stream, StreamExt};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event as Seen, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::Value;

use crate::reconciler::context::Context;
use countersign_service::clock;

/// Between two tries to log something while PostgreSQL is away.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs while this process leads.
pub async fn run(context: &Context, replica: &str) {
    let lead = Event::Lead {
        replica: replica.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        runner_image: context.config.runner_image.clone(),
        at: clock::now(),
    };
    persist(|| context.store.tell(None, &lead)).await;
    let everything = watcher::Config::default();
    // A Task's own copy is logged with the Task.
    let templates = watcher::Config::default().labels(&format!("!{LABEL_TASK_UID}"));
    let client = &context.watching;
    tokio::join!(
        follow(context, "Policy", objects::<Policy>(client, everything.clone())),
        follow(context, "Skill", objects::<Skill>(client, everything.clone())),
        follow(context, "Agent", objects::<Agent>(client, everything)),
        follow(context, "Plan", objects::<Plan>(client, templates)),
    );
}

fn objects<K: Resource<DynamicType = ()>>(
    client: &Client,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Seen<DynamicObject>>> + use<K> {
    let resource = ApiResource::erase::<K>(&());
    // Whatever its spec looks like, it is logged.
    watcher(Api::all_with(client.clone(), &resource), config).default_backoff()
}

async fn follow(context: &Context, kind: &str, stream: impl Stream<Item = watcher::Result<Seen<DynamicObject>>>) {
    let mut stream = std::pin::pin!(stream);
    let mut there = BTreeSet::new();
    while let Some(seen) = stream.next().await {
        match seen {
            Ok(Seen::Init) => there.clear(),
            Ok(Seen::InitApply(object)) => {
                there.insert(named(kind, &object));
                let event = configured(kind, &object);
                persist(|| context.store.configure(&event)).await;
            }
            Ok(Seen::Apply(object)) => {
                let event = configured(kind, &object);
                persist(|| context.store.configure(&event)).await;
            }
            Ok(Seen::InitDone) => persist(|| context.store.remove_others(kind, &there, clock::now())).await,
            Ok(Seen::Delete(object)) => {
                let event = Event::Remove { object: named(kind, &object), at: clock::now() };
                persist(|| context.store.configure(&event)).await;
            }
            Err(error) => tracing::warn!(kind, error = told(&error), "the watch for the log broke; it is resumed"),
        }
    }
}

/// Tries until it is done: what is not logged now is not logged at all.
async fn persist<T, F, E>(deed: impl Fn() -> F)
where
    F: Future<Output = Result<T, E>>,
    E: std::error::Error + From<StoreError>,
{
    while let Err(error) = within(super::TURN, deed()).await {
        tracing::warn!(error = told(&error), "a change of the configuration was not logged; it is tried again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn named(kind: &str, object: &DynamicObject) -> ObjectName {
    ObjectName { kind: kind.to_owned(), namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn configured(kind: &str, object: &DynamicObject) -> Event {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    // What has no canonical form, as an integer beyond 2^53-1, could not be hashed; then only the object is told of.
    let (digest, spec) = match digest::of_json(&spec) {
        Ok(digest) => (Some(digest), spec),
        Err(_) => (None, Value::Null),
    };
    Event::Configure {
        object: named(kind, object),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation,
        digest,
        spec,
        at: clock::now(),
    }
}
