//! The watches, and what they saw: always running, on a follower too, so that a take-over starts warm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_core::agent::{Acting, ActingError, Placed, acting, bound};
use countersign_core::fingerprint::Fingerprints;
use countersign_core::observed::{ApprovalView, PodView};
use countersign_core::policy::PolicySet;
use countersign_crds::{
    Agent, AgentReference, AgentSpec, AgentStatus, Approval, Identity, LABEL_ATTEMPT, LABEL_TASK_UID, Plan, Policy,
    PolicySpec, Skill,
};
use countersign_crds::{SkillSpec, Task};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::watch::index::{Entry, Index, TaskKey};
use crate::watch::trigger::Trigger;
use crate::watch::views;

/// A Task, or what is wrong with it: one broken object must not stop the watch of the others.
pub type GuardedTask = DeserializeGuard<Task>;

pub struct Caches {
    pub tasks: Store<GuardedTask>,
    pub pods: Mutex<Index<PodView>>,
    pub jobs: Mutex<Index<()>>,
    pub plans: Mutex<Index<()>>,
    pub approvals: Mutex<Index<ApprovalView>>,
    skills: Mutex<Arc<BTreeMap<String, SkillSpec>>>,
    agents: Mutex<BTreeMap<(String, String), AgentView>>,
    policies: Mutex<Policies>,
    /// The Secrets that the brokers have, by the fingerprints that all of them agree on.
    secrets: Mutex<Arc<Fingerprints>>,
    operator_namespace: String,
    synced: watch::Sender<BTreeSet<&'static str>>,
}

/// An Agent, with what was reported of it last.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    pub spec: AgentSpec,
    pub generation: Option<i64>,
    pub uid: Option<String>,
    pub status: Option<AgentStatus>,
}

fn placed(agents: &BTreeMap<(String, String), AgentView>) -> impl Iterator<Item = Placed<'_>> + Clone {
    agents.iter().map(|((namespace, name), agent)| (namespace.as_str(), name.as_str(), &agent.spec))
}

#[derive(Default)]
struct Policies {
    specs: BTreeMap<(String, String), Result<PolicySpec, String>>,
    compiled: Arc<PolicySet>,
}

/// Every kind that is watched, by the name that `/readyz` shows.
const KINDS: [&str; 8] = ["tasks", "pods", "jobs", "plans", "approvals", "skills", "agents", "policies"];

/// A poisoned lock means that a view was being replaced; the next event replaces it again.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Caches {
    /// Starts every watch; what changes is told to `trigger`.
    pub fn start(client: &Client, operator_namespace: &str, trigger: &Arc<Trigger>) -> Arc<Caches> {
        let (tasks, writer) = reflector::store();
        let caches = Arc::new(Caches {
            tasks,
            pods: Mutex::default(),
            jobs: Mutex::default(),
            plans: Mutex::default(),
            approvals: Mutex::default(),
            skills: Mutex::default(),
            agents: Mutex::default(),
            policies: Mutex::default(),
            secrets: Mutex::default(),
            operator_namespace: operator_namespace.to_owned(),
            synced: watch::Sender::new(BTreeSet::new()),
        });
        caches.watch_tasks(client, writer, trigger);
        let ours = |label: &str| watcher::Config::default().labels(label);
        caches.watch_index(watcher(all::<Pod>(client), ours(LABEL_ATTEMPT)), "pods", |c| &c.pods, views::pod, trigger);
        let jobs = watcher(all::<PartialObjectMeta<Job>>(client), ours(LABEL_ATTEMPT));
        caches.watch_index(jobs, "jobs", |c| &c.jobs, views::existence, trigger);
        let plans = watcher(all::<PartialObjectMeta<Plan>>(client), ours(LABEL_TASK_UID));
        caches.watch_index(plans, "plans", |c| &c.plans, views::existence, trigger);
        let approvals = guarded(watcher(all::<DeserializeGuard<Approval>>(client), watcher::Config::default()));
        caches.watch_index(approvals, "approvals", |c| &c.approvals, views::approval, trigger);
        caches.watch_settings::<Skill>(client, "skills", trigger, Caches::take_skill);
        caches.watch_settings::<Agent>(client, "agents", trigger, Caches::take_agent);
        caches.watch_settings::<Policy>(client, "policies", trigger, Caches::take_policy);
        caches
    }

    /// The kinds that were not listed yet; empty once everything was seen.
    pub fn missing(&self) -> Vec<&'static str> {
        let synced = self.synced.borrow();
        KINDS.into_iter().filter(|kind| !synced.contains(kind)).collect()
    }

    pub async fn wait_until_synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as the caches, so this cannot fail.
        let _ = synced.wait_for(|synced| synced.len() == KINDS.len()).await;
    }

    pub fn skills(&self) -> Arc<BTreeMap<String, SkillSpec>> {
        Arc::clone(&lock(&self.skills))
    }

    pub fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&lock(&self.policies).compiled)
    }

    pub fn secrets(&self) -> Arc<Fingerprints> {
        Arc::clone(&lock(&self.secrets))
    }

    /// Takes what the brokers tell; whether that is something else than before.
    pub fn take_secrets(&self, told: Fingerprints) -> bool {
        let mut secrets = lock(&self.secrets);
        let differs = **secrets != told;
        if differs {
            *secrets = Arc::new(told);
        }
        differs
    }

    /// On whose behalf a Task in `namespace` is carried out.
    pub fn acting(&self, namespace: &str, named: Option<&AgentReference>, requester: Option<&Identity>) -> Acting {
        acting(namespace, named, requester, placed(&lock(&self.agents)))
    }

    /// The Agent that `requester` is bound to, by a reference that leads to it from everywhere.
    pub fn bound(
        &self,
        namespace: &str,
        named: Option<&AgentReference>,
        requester: &Identity,
    ) -> Result<Option<AgentReference>, ActingError> {
        let agents = lock(&self.agents);
        let found = bound(namespace, named, Some(requester), placed(&agents))?;
        Ok(found.map(|(namespace, name, _)| AgentReference {
            name: name.to_owned(),
            namespace: Some(namespace.to_owned()),
        }))
    }

    /// Every Agent, by namespace and name.
    pub fn agents(&self) -> BTreeMap<(String, String), AgentView> {
        lock(&self.agents).clone()
    }

    /// The Policies that can be read, by namespace and name.
    pub fn policy_specs(&self) -> BTreeMap<(String, String), PolicySpec> {
        let policies = lock(&self.policies);
        let readable = |(place, spec): (&(String, String), &Result<PolicySpec, String>)| {
            Some((place.clone(), spec.as_ref().ok()?.clone()))
        };
        policies.specs.iter().filter_map(readable).collect()
    }

    fn mark_synced(&self, kind: &'static str) {
        self.synced.send_modify(|synced| {
            synced.insert(kind);
        });
    }

    fn watch_tasks(
        self: &Arc<Self>,
        client: &Client,
        writer: reflector::store::Writer<GuardedTask>,
        trigger: &Arc<Trigger>,
    ) {
        let caches = Arc::clone(self);
        let trigger = Arc::clone(trigger);
        let stream = watcher(all::<GuardedTask>(client), watcher::Config::default())
            .default_backoff()
            .modify(strip)
            .reflect(writer);
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(Event::Apply(task) | Event::InitApply(task)) => trigger.reference(ObjectRef::from_obj(&task)),
                    Ok(Event::InitDone) => caches.mark_synced("tasks"),
                    Ok(Event::Init | Event::Delete(_)) => {}
                    Err(error) => tracing::warn!(kind = "tasks", %error, "the watch broke; it is resumed"),
                }
            }
        });
    }

    fn watch_index<K, V>(
        self: &Arc<Self>,
        stream: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
        kind: &'static str,
        index: fn(&Caches) -> &Mutex<Index<V>>,
        entry: fn(&K) -> Option<Entry<V>>,
        trigger: &Arc<Trigger>,
    ) where
        K: Send + Sync + 'static,
        V: Clone + PartialEq + Send + 'static,
    {
        let caches = Arc::clone(self);
        let trigger = Arc::clone(trigger);
        let stream = stream.default_backoff();
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        let touched = lock(index(&caches)).take(&event, entry);
                        touched.iter().for_each(|task| trigger.task(task));
                        if matches!(event, Event::InitDone) {
                            caches.mark_synced(kind);
                        }
                    }
                    Err(error) => tracing::warn!(kind, %error, "the watch broke; it is resumed"),
                }
            }
        });
    }

    /// Watches a kind that bears on many Tasks: whatever changes, every unfinished Task is looked at again.
    fn watch_settings<K>(
        self: &Arc<Self>,
        client: &Client,
        kind: &'static str,
        trigger: &Arc<Trigger>,
        // Says whether anything changed that bears on Tasks.
        take: fn(&Caches, Event<DeserializeGuard<K>>) -> bool,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let caches = Arc::clone(self);
        let trigger = Arc::clone(trigger);
        let stream = watcher(all::<DeserializeGuard<K>>(client), watcher::Config::default()).default_backoff();
        tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        let done = matches!(event, Event::InitDone);
                        let changed = take(&caches, event);
                        if done {
                            caches.mark_synced(kind);
                        }
                        if changed || done {
                            trigger.unfinished(&caches);
                        }
                    }
                    Err(error) => tracing::warn!(kind, %error, "the watch broke; it is resumed"),
                }
            }
        });
    }

    fn take_skill(&self, event: Event<DeserializeGuard<Skill>>) -> bool {
        let mut skills = lock(&self.skills);
        take(
            Arc::make_mut(&mut skills),
            event,
            |skill| skill.name_any(),
            |skill| match skill.0 {
                Ok(skill) => Some(skill.spec),
                // A Skill that cannot be read is as good as not installed.
                Err(_) => None,
            },
        );
        true
    }

    /// That its status was reported says nothing new of what its Tasks may do.
    fn take_agent(&self, event: Event<DeserializeGuard<Agent>>) -> bool {
        let mut agents = lock(&self.agents);
        let at = match &event {
            Event::Apply(agent) => Some(place(agent)),
            Event::Init | Event::InitApply(_) | Event::InitDone | Event::Delete(_) => None,
        };
        let of = |agents: &BTreeMap<_, AgentView>| at.as_ref().and_then(|at| agents.get(at)).map(|a| a.spec.clone());
        let before = of(&agents);
        take(&mut agents, event, place, |agent| {
            let Agent { metadata, spec, status } = agent.0.ok()?;
            Some(AgentView { spec, generation: metadata.generation, uid: metadata.uid, status })
        });
        at.is_none() || before != of(&agents)
    }

    fn take_policy(&self, event: Event<DeserializeGuard<Policy>>) -> bool {
        let done = !matches!(event, Event::Init | Event::InitApply(_));
        let mut policies = lock(&self.policies);
        take(&mut policies.specs, event, place, |policy| match policy.0 {
            Ok(policy) => Some(Ok(policy.spec)),
            Err(invalid) => Some(Err(invalid.error)),
        });
        if done {
            let specs = policies.specs.iter().map(|((namespace, name), spec)| {
                let spec = spec.clone().unwrap_or_else(|error| views::unreadable_policy(&error));
                (namespace.clone(), name.clone(), spec)
            });
            policies.compiled = Arc::new(PolicySet::compile(&self.operator_namespace, specs));
        }
        true
    }
}

fn all<K>(client: &Client) -> Api<K>
where
    K: Resource<DynamicType = ()>,
{
    Api::all(client.clone())
}

/// Drops the objects that cannot be read, with a word about each.
fn guarded<K>(
    stream: impl futures::Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send,
) -> impl futures::Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource<DynamicType = ()> + Send,
{
    stream.try_filter_map(|event| async move {
        let readable = |guard: DeserializeGuard<K>| match guard.0 {
            Ok(object) => Some(object),
            Err(invalid) => {
                tracing::warn!(object = ?invalid.metadata.name, error = %invalid.error, "an object cannot be read");
                None
            }
        };
        Ok(match event {
            Event::Apply(guard) => readable(guard).map(Event::Apply),
            Event::InitApply(guard) => readable(guard).map(Event::InitApply),
            Event::Delete(guard) => readable(guard).map(Event::Delete),
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
        })
    })
}

/// Keeps a plain map in step with a watch. A relist empties it at its start: these kinds only ever
/// withhold permission while they are missing.
fn take<K, Id: Ord, V>(
    map: &mut BTreeMap<Id, V>,
    event: Event<DeserializeGuard<K>>,
    id: impl Fn(&DeserializeGuard<K>) -> Id,
    view: impl Fn(DeserializeGuard<K>) -> Option<V>,
) where
    K: Resource<DynamicType = ()>,
{
    match event {
        Event::Init => map.clear(),
        Event::InitDone => {}
        Event::Delete(object) => {
            map.remove(&id(&object));
        }
        Event::Apply(object) | Event::InitApply(object) => {
            let id = id(&object);
            match view(object) {
                Some(view) => map.insert(id, view),
                None => map.remove(&id),
            };
        }
    }
}

fn place<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Nothing that a decision does not need stays in memory.
fn strip(task: &mut GuardedTask) {
    let meta = task.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// The reference by which the controller knows a Task.
pub fn reference(task: &TaskKey) -> ObjectRef<GuardedTask> {
    ObjectRef::new(&task.name).within(&task.namespace)
}
